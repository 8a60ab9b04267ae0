// The launcher of the Walsh-Hadamard transform.
#include <algorithm>

#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "hadamard.cuh"

namespace PK_BUILD {
namespace {

bool aligned(const pk_matrix& matrix, int64_t batches, int64_t elements) {
  const bool rows = matrix.rows == 1 || matrix.row_stride % elements == 0;
  return matrix.column_stride == 1 && rows && (batches == 1 || matrix.batch_stride % elements == 0) && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
}

template <class T>
HadamardProblem<T> problem_of(const pk_haar_hadamard_descriptor& descriptor) {
  constexpr int64_t kPiece = 16 / sizeof(T);
  HadamardProblem<T> problem{};
  problem.source = batched<const T>(descriptor.source);
  problem.destination = batched<T>(descriptor.destination);
  problem.before = batched<const T>(descriptor.before).first;
  problem.after = batched<const T>(descriptor.after).first;
  problem.batch_rows = descriptor.source.rows;
  problem.rows = descriptor.batch_count * descriptor.source.rows;
  while (int64_t{1} << problem.bits < descriptor.source.columns) ++problem.bits;
  const auto vector = [&](const pk_matrix& matrix, int64_t batches) { return matrix.data == nullptr || aligned(matrix, batches, kPiece); };
  problem.vectors = descriptor.source.columns >= kPiece && vector(descriptor.source, descriptor.batch_count) && vector(descriptor.destination, descriptor.batch_count) &&
                    vector(descriptor.before, 1) && vector(descriptor.after, 1);
  double scale = 1.0;
  if (descriptor.normalized != 0) {
    for (int32_t i = 0; i < problem.bits / 2; ++i) scale /= 2.0;
    if (problem.bits % 2 != 0) scale *= 0.70710678118654752440;
  }
  problem.scale = static_cast<float>(scale);
  return problem;
}

Operands operands_of(const pk_haar_hadamard_descriptor& descriptor) {
  Operands operands;
  const bool in_place = descriptor.source.data == descriptor.destination.data;
  if (in_place) operands.read_write("destination", descriptor.destination, descriptor.batch_count);
  else operands.write("destination", descriptor.destination, descriptor.batch_count);
  if (!in_place) operands.read("source", descriptor.source, descriptor.batch_count);
  if (descriptor.before.data != nullptr) operands.read("before", descriptor.before, 1);
  if (descriptor.after.data != nullptr) operands.read("after", descriptor.after, 1);
  return operands;
}

template <class T, int GROUP, int LANE = 32>
int32_t launch_tile(const pk_queue& queue, const pk_haar_hadamard_descriptor& descriptor, const HadamardProblem<T>& problem) {
  using Config = HadamardConfig<T, GROUP, LANE>;
  const int64_t elements = problem.rows << problem.bits;
  const Extent3 grid{static_cast<uint32_t>((elements + Config::kElements - 1) / Config::kElements), 1, 1};
  return launch(queue, {"haar_hadamard_tile", grid, Config::kThreads, shared_bytes<typename Config::Shared>()}, operands_of(descriptor), haar_hadamard_tile<T, GROUP, LANE>, problem);
}

template <class T>
int32_t hadamard(const pk_queue& queue, const pk_haar_hadamard_descriptor& descriptor) {
  const HadamardProblem<T> problem = problem_of<T>(descriptor);
  if (descriptor.algorithm == PK_HAAR_SIMT) {
    const int64_t blocks = ((problem.rows << problem.bits) + kHadamardSimtThreads - 1) / kHadamardSimtThreads;
    const Extent3 grid{static_cast<uint32_t>(std::min<int64_t>(blocks, INT32_MAX)), 1, 1};
    return launch(queue, {"haar_hadamard_simt", grid, kHadamardSimtThreads, 0}, operands_of(descriptor), haar_hadamard_simt<T>, problem);
  }
  switch (problem.bits) {
    case 15: return launch_tile<T, 16, 64>(queue, descriptor, problem);
    case 14: return launch_tile<T, 16>(queue, descriptor, problem);
    case 13: return launch_tile<T, 8>(queue, descriptor, problem);
    case 12: return launch_tile<T, 4>(queue, descriptor, problem);
    case 11: return launch_tile<T, 2>(queue, descriptor, problem);
    default: return launch_tile<T, 1>(queue, descriptor, problem);
  }
}

template <class T>
int32_t prepare_all() {
  PK_TRY(prepare(haar_hadamard_simt<T>));
  PK_TRY((prepare(haar_hadamard_tile<T, 1, 32>)));
  PK_TRY((prepare(haar_hadamard_tile<T, 2, 32>)));
  PK_TRY((prepare(haar_hadamard_tile<T, 4, 32>)));
  PK_TRY((prepare(haar_hadamard_tile<T, 8, 32>)));
  PK_TRY((prepare(haar_hadamard_tile<T, 16, 32>)));
  return prepare(haar_hadamard_tile<T, 16, 64>);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(haar_hadamard_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare_all<float>());
  PK_TRY(prepare_all<f16>());
  return prepare_all<bf16>();
}

int32_t PK_OPERATION(haar_hadamard)(const pk_queue* queue, const pk_haar_hadamard_descriptor* descriptor) {
  return PK_BUILD::dispatch_type(descriptor->source.element_type, [&](auto t) { return PK_BUILD::hadamard<typename decltype(t)::type>(*queue, *descriptor); });
}

}  // extern "C"
