// The launchers of the Haar family: a descriptor that the C interface has checked becomes launches.
#include <algorithm>
#include <utility>

#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "simt.cuh"
#include "tile.cuh"

namespace PK_BUILD {
namespace {

// 2^(-half_steps / 2)
float power(int32_t half_steps) {
  double value = half_steps % 2 == 0 ? 1.0 : 0.70710678118654752440;
  for (int32_t i = 0; i < half_steps / 2; ++i) value /= 2.0;
  return static_cast<float>(value);
}

pk_matrix transposed(pk_matrix matrix) {
  std::swap(matrix.rows, matrix.columns);
  std::swap(matrix.row_stride, matrix.column_stride);
  return matrix;
}

bool aligned(const pk_matrix& matrix, int64_t batches, int64_t elements) {
  return matrix.column_stride == 1 && matrix.row_stride % elements == 0 && (batches == 1 || matrix.batch_stride % elements == 0) && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
}

template <class T>
HaarProblem<T> problem_of(const pk_haar_descriptor& descriptor, bool inverse) {
  const bool transpose = descriptor.source.column_stride != 1 && descriptor.source.row_stride == 1;
  const pk_matrix source = transpose ? transposed(descriptor.source) : descriptor.source, destination = transpose ? transposed(descriptor.destination) : descriptor.destination;
  const pk_matrix& signal = inverse ? destination : source;
  HaarProblem<T> problem{};
  problem.source = batched<const T>(source);
  problem.destination = batched<T>(destination);
  problem.batches = descriptor.batch_count;
  problem.rows = signal.rows;
  problem.columns = signal.columns;
  problem.axes = static_cast<HaarAxes>(transpose && descriptor.axes != PK_HAAR_ALONG_BOTH ? PK_HAAR_ALONG_BOTH - descriptor.axes : descriptor.axes);
  problem.levels = descriptor.levels;
  // The adjoint of an inverse, which drops what is beyond the end, is the forward transform that takes zeros for it.
  problem.boundary = !inverse && descriptor.adjoint != 0 ? PK_HAAR_BOUNDARY_ZERO : descriptor.boundary;
  problem.interleaved = descriptor.layout == PK_HAAR_INTERLEAVED;
  problem.fold = inverse && descriptor.adjoint != 0;
  int64_t row_offset = haar_count(signal.rows, problem.levels), column_offset = haar_count(signal.columns, problem.levels);
  for (int32_t level = problem.levels; level > 0; --level) {
    problem.row_offsets[level] = row_offset;
    problem.column_offsets[level] = column_offset;
    row_offset += haar_count(signal.rows, level);
    column_offset += haar_count(signal.columns, level);
  }
  // Both directions have the factors of an orthogonal matrix; those of sums are all in the inverse.
  const int32_t axes = problem.axes == HaarAxes::both ? 2 : 1;
  const bool sums = descriptor.scaling == PK_HAAR_SUMS, halves = inverse != (descriptor.adjoint != 0);
  for (int32_t level = 0; level <= problem.levels; ++level) problem.factors[level] = power(sums ? (halves ? 2 * axes * level : 0) : axes * level);

  constexpr int64_t kElements = 16 / sizeof(T);
  const bool whole_bands = !has_columns(problem.axes) || (problem.columns % kElements == 0 && problem.columns % (int64_t{1} << problem.levels) == 0);
  const bool source_bands = !inverse || problem.interleaved || whole_bands, destination_bands = inverse || problem.interleaved || whole_bands;
  problem.source_vectors = aligned(source, problem.batches, kElements) && source_bands;
  problem.destination_vectors = aligned(destination, problem.batches, kElements) && destination_bands;
  return problem;
}

Operands operands_of(const pk_haar_descriptor& descriptor) {
  Operands operands;
  const bool in_place = descriptor.source.data == descriptor.destination.data;
  if (!in_place) operands.read("source", descriptor.source, descriptor.batch_count);
  if (in_place) operands.read_write("destination", descriptor.destination, descriptor.batch_count);
  else operands.write("destination", descriptor.destination, descriptor.batch_count);
  return operands;
}

uint32_t blocks(int64_t elements) { return static_cast<uint32_t>(std::min<int64_t>((elements + kHaarSimtThreads - 1) / kHaarSimtThreads, INT32_MAX)); }

template <class T, HaarAxes AXES>
int32_t launch_tile(const pk_queue& queue, const pk_haar_descriptor& descriptor, const HaarProblem<T>& problem, bool inverse) {
  using Config = HaarTileConfig<T, AXES>;
  const auto tiles = [](int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; };
  const int64_t count = problem.batches * tiles(problem.padded_rows(), Config::kTileRows) * tiles(problem.padded_columns(), Config::kTileColumns);
  const Extent3 grid{static_cast<uint32_t>(count), 1, 1};
  const size_t shared = shared_bytes<typename Config::Shared>();
  if (inverse) return launch(queue, {"haar_inverse_tile", grid, Config::kThreads, shared}, operands_of(descriptor), haar_inverse_tile<T, AXES>, problem);
  return launch(queue, {"haar_forward_tile", grid, Config::kThreads, shared}, operands_of(descriptor), haar_forward_tile<T, AXES>, problem);
}

template <class T>
int32_t transform(const pk_queue& queue, const pk_haar_descriptor& descriptor, bool inverse) {
  const HaarProblem<T> problem = problem_of<T>(descriptor, inverse);
  if (descriptor.algorithm == PK_HAAR_SIMT) {
    const Operands operands = operands_of(descriptor);
    const int64_t elements = problem.batches * (inverse ? problem.rows * problem.columns : problem.padded_rows() * problem.padded_columns());
    const Extent3 grid{blocks(elements), 1, 1};
    if (inverse) return launch(queue, {"haar_inverse_simt", grid, kHaarSimtThreads, 0}, operands, haar_inverse_simt<T>, problem);
    PK_TRY(launch(queue, {"haar_forward_simt", grid, kHaarSimtThreads, 0}, operands, haar_forward_simt<T>, problem));
  } else {
    int32_t status = PK_OK;
    switch (problem.axes) {
      case HaarAxes::columns: status = launch_tile<T, HaarAxes::columns>(queue, descriptor, problem, inverse); break;
      case HaarAxes::rows: status = launch_tile<T, HaarAxes::rows>(queue, descriptor, problem, inverse); break;
      case HaarAxes::both: status = launch_tile<T, HaarAxes::both>(queue, descriptor, problem, inverse); break;
    }
    PK_TRY(status);
  }
  const int64_t multiple = int64_t{1} << problem.levels;
  const bool gaps = problem.axes == HaarAxes::both && !problem.interleaved && (problem.rows % multiple != 0 || problem.columns % multiple != 0);
  if (inverse || !gaps) return PK_OK;
  const Extent3 grid{blocks(problem.batches * (problem.rows + problem.columns) * problem.levels), 1, 1};
  return launch(queue, {"haar_gaps_simt", grid, kHaarSimtThreads, 0}, operands_of(descriptor), haar_gaps_simt<T>, problem);
}

template <class T, HaarAxes AXES>
int32_t prepare_tile() {
  PK_TRY((prepare(haar_forward_tile<T, AXES>)));
  return prepare(haar_inverse_tile<T, AXES>);
}

template <class T>
int32_t prepare_all() {
  PK_TRY(prepare(haar_forward_simt<T>));
  PK_TRY(prepare(haar_inverse_simt<T>));
  PK_TRY(prepare(haar_gaps_simt<T>));
  PK_TRY((prepare_tile<T, HaarAxes::columns>()));
  PK_TRY((prepare_tile<T, HaarAxes::rows>()));
  return prepare_tile<T, HaarAxes::both>();
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(haar_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare_all<float>());
  PK_TRY(prepare_all<f16>());
  PK_TRY(prepare_all<bf16>());
  PK_TRY(PK_OPERATION(haar_hadamard_prepare)());
  return PK_OPERATION(haar_wara_prepare)();
}

int32_t PK_OPERATION(haar)(const pk_queue* queue, const pk_haar_descriptor* descriptor, int32_t inverse) {
  return PK_BUILD::dispatch_type(descriptor->source.element_type, [&](auto t) { return PK_BUILD::transform<typename decltype(t)::type>(*queue, *descriptor, inverse != 0); });
}

}  // extern "C"
