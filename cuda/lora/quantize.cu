// The launchers of block-wise quantisation.
#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "quantized_launch.h"

namespace PK_BUILD {
namespace {

using Descriptor = pk_lora_quantize_descriptor;

template <class T>
BlockedMatrix<T> blocked(const pk_matrix& matrix, int32_t block) {
  constexpr int64_t kPiece = 16 / sizeof(T);
  BlockedMatrix<T> result{batched<T>(matrix).first, matrix.columns, matrix.rows * matrix.columns, 0, log2_of(block)};
  const bool one_row = matrix.rows == 1 || matrix.row_stride == matrix.columns;
  if (matrix.columns == 1) {  // one column, whatever its column stride
    result.matrix.column_stride = matrix.row_stride;
    result.columns = result.count;
  } else if (matrix.column_stride == 1 && one_row) {
    result.columns = result.count;
  }
  const bool whole = result.columns == result.count || (result.columns % kPiece == 0 && matrix.row_stride % kPiece == 0);
  result.vectors = result.matrix.column_stride == 1 && whole && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
  return result;
}

// Boundaries as a heap, and codes by rank.
template <int BITS>
void fill_boundaries(CodeBook<BITS>& book, const pk_lora_code_book& given) {
  for (int level = 0; level < BITS; ++level) {
    const int step = 1 << (BITS - level);
    for (int path = 0; path < 1 << level; ++path) book.boundaries[(1 << level) - 1 + path] = given.boundaries[path * step + step / 2 - 1];
  }
  if constexpr (BITS <= 4) {
    for (int rank = 0; rank < 1 << BITS; ++rank) book.codes |= static_cast<uint64_t>(given.codes[rank]) << 4 * rank;
  }
}

// Whether a lane's codes of a piece, or the words that several make together, are aligned.
template <class Config, int BITS>
bool aligned_codes(const uint8_t* codes) {
  return reinterpret_cast<uintptr_t>(codes) % (BITS == 3 ? 4 : Config::kBits / 8) == 0;
}

template <class Config>
Extent3 grid_of(int64_t count) {
  return {static_cast<uint32_t>((count + Config::kElements - 1) / Config::kElements), 1, 1};
}

template <int BITS, class T>
int32_t launch_quantize(const pk_queue& queue, const Operands& operands, const BlockedMatrix<const T>& source, const pk_lora_code_book& book, const float* offset, uint8_t* codes, float* absmax) {
  using Config = QuantizeConfig<T, BITS>;
  QuantizeProblem<T, BITS> problem{};
  problem.source = source;
  problem.offset = offset;
  problem.codes = codes;
  problem.absmax = absmax;
  problem.code_vectors = aligned_codes<Config, BITS>(codes);
  fill_boundaries(problem.book, book);
  return launch(queue, {"lora_quantize", grid_of<Config>(source.count), Config::kThreads, shared_bytes<typename Config::Shared>()}, operands, lora_quantize<T, BITS>, problem);
}

template <class S>
int32_t launch_sum(const pk_queue& queue, const Operands& operands, const S* numbers, int64_t count, int64_t chunk, double* sums, float* mean, double of) {
  const Extent3 grid{static_cast<uint32_t>((count + chunk - 1) / chunk), 1, 1};
  return launch(queue, {"lora_absmax_sum", grid, AbsmaxSum::kThreads, shared_bytes<AbsmaxSum::Shared>()}, operands, lora_absmax_sum<S>, numbers, count, chunk, sums, mean, of);
}

// Absmax, in the workspace, into codes: less its mean.
int32_t nest(const pk_queue& queue, const Descriptor& descriptor, int64_t blocks) {
  auto* absmax = static_cast<float*>(descriptor.workspace);
  auto* sums = reinterpret_cast<double*>(static_cast<char*>(descriptor.workspace) + lora_absmax_bytes(blocks));
  const int64_t chunks = lora_absmax_chunks(blocks);
  Operands operands;
  operands.read_write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  operands.read_write_bytes("absmax_offset", descriptor.absmax_offset, sizeof(float));
  PK_TRY(launch_sum<float>(queue, operands, absmax, blocks, kLoraAbsmaxChunk, sums, nullptr, 1.0));
  PK_TRY(launch_sum<double>(queue, operands, sums, chunks, chunks, nullptr, descriptor.absmax_offset, static_cast<double>(blocks)));
  operands.write_bytes("absmax_codes", descriptor.absmax_codes, static_cast<uint64_t>(blocks));
  operands.write_bytes("absmax", descriptor.absmax, static_cast<uint64_t>(descriptor.absmax_count) * sizeof(float));
  const BlockedMatrix<const float> source{{absmax, blocks, 1}, blocks, blocks, 1, log2_of(descriptor.absmax_block)};
  return launch_quantize<8, float>(queue, operands, source, descriptor.absmax_book, descriptor.absmax_offset, descriptor.absmax_codes, descriptor.absmax);
}

template <class T, int BITS>
int32_t quantize(const pk_queue& queue, const Descriptor& descriptor) {
  const BlockedMatrix<const T> source = blocked<const T>(descriptor.matrix, descriptor.block);
  if (source.count == 0) return PK_OK;
  const bool nested = descriptor.absmax_codes != nullptr;
  const int64_t blocks = (source.count + descriptor.block - 1) / descriptor.block;
  Operands operands;
  operands.read("matrix", descriptor.matrix, 1);
  operands.write_bytes("codes", descriptor.codes, static_cast<uint64_t>(descriptor.code_bytes));
  if (nested) operands.write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  else operands.write_bytes("absmax", descriptor.absmax, static_cast<uint64_t>(descriptor.absmax_count) * sizeof(float));
  auto* absmax = nested ? static_cast<float*>(descriptor.workspace) : descriptor.absmax;
  PK_TRY((launch_quantize<BITS, T>(queue, operands, source, descriptor.book, nullptr, descriptor.codes, absmax)));
  return nested ? nest(queue, descriptor, blocks) : PK_OK;
}

template <class T, int BITS>
int32_t dequantize(const pk_queue& queue, const Descriptor& descriptor) {
  using Config = QuantizeConfig<T, BITS>;
  DequantizeProblem<T, BITS> problem{};
  problem.destination = blocked<T>(descriptor.matrix, descriptor.block);
  const int64_t count = problem.destination.count;
  if (count == 0) return PK_OK;
  problem.codes = descriptor.codes;
  problem.absmax = descriptor.absmax;
  problem.absmax_codes = descriptor.absmax_codes;
  problem.offset = descriptor.absmax_offset;
  problem.code_vectors = aligned_codes<Config, BITS>(descriptor.codes);
  memcpy(problem.book.values, descriptor.book.values, sizeof(float) * CodeBook<BITS>::kCodes);
  Operands operands;
  operands.write("matrix", descriptor.matrix, 1);
  operands.read_bytes("codes", descriptor.codes, static_cast<uint64_t>(descriptor.code_bytes));
  operands.read_bytes("absmax", descriptor.absmax, static_cast<uint64_t>(descriptor.absmax_count) * sizeof(float));
  if (descriptor.absmax_codes != nullptr) {
    problem.absmax_block_bits = log2_of(descriptor.absmax_block);
    memcpy(problem.absmax_values, descriptor.absmax_book.values, sizeof problem.absmax_values);
    operands.read_bytes("absmax_codes", descriptor.absmax_codes, static_cast<uint64_t>(descriptor.absmax_code_count));
    operands.read_bytes("absmax_offset", descriptor.absmax_offset, sizeof(float));
  }
  return launch(queue, {"lora_dequantize", grid_of<Config>(count), Config::kThreads, shared_bytes<typename Config::Shared>()}, operands, lora_dequantize<T, BITS>, problem);
}

template <class T>
int32_t prepare_all() {
  PK_TRY((prepare(lora_quantize<T, 2>)));
  PK_TRY((prepare(lora_quantize<T, 3>)));
  PK_TRY((prepare(lora_quantize<T, 4>)));
  PK_TRY((prepare(lora_quantize<T, 8>)));
  PK_TRY((prepare(lora_dequantize_slab<T>)));
  PK_TRY((prepare(lora_dequantize<T, 2>)));
  PK_TRY((prepare(lora_dequantize<T, 3>)));
  PK_TRY((prepare(lora_dequantize<T, 4>)));
  return prepare(lora_dequantize<T, 8>);
}

// Calls run(Type<T>, bits) with the bits of a code as a constant.
template <class Run>
int32_t dispatch_bits(const Descriptor& descriptor, Run run) {
  return dispatch_type(descriptor.matrix.element_type, [&](auto t) {
    switch (descriptor.book.bits) {
      case 2: return run(t, std::integral_constant<int, 2>());
      case 3: return run(t, std::integral_constant<int, 3>());
      case 4: return run(t, std::integral_constant<int, 4>());
      default: return run(t, std::integral_constant<int, 8>());
    }
  });
}

}  // namespace

template <class T>
int32_t dequantize_slab(const pk_queue& queue, const pk_lora_quantized& lists, int64_t columns, const QuantizedSlab& slab, T* to) {
  using Config = DequantizeSlabConfig;
  const int64_t elements = slab.rows * slab.pitch, a_block = Config::kThreads * Config::kPieces * (16 / sizeof(T));
  if (elements == 0) return PK_OK;
  Operands operands;
  read_quantized(operands, lists);
  operands.write_bytes("workspace", to, static_cast<uint64_t>(elements) * sizeof(T));
  const int64_t blocks = (elements + a_block - 1) / a_block;
  const Extent3 grid{static_cast<uint32_t>(blocks < INT32_MAX ? blocks : INT32_MAX), 1, 1};
  const LaunchShape shape{"lora_dequantize_slab", grid, Config::kThreads, shared_bytes<Config::Shared>()};
  return launch(queue, shape, operands, lora_dequantize_slab<T>, quantized_matrix(lists, columns), quantized_books(lists), slab, to);
}

template int32_t dequantize_slab(const pk_queue&, const pk_lora_quantized&, int64_t, const QuantizedSlab&, float*);
template int32_t dequantize_slab(const pk_queue&, const pk_lora_quantized&, int64_t, const QuantizedSlab&, f16*);
template int32_t dequantize_slab(const pk_queue&, const pk_lora_quantized&, int64_t, const QuantizedSlab&, bf16*);

}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_quantize_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_absmax_sum<float>));
  PK_TRY(prepare(lora_absmax_sum<double>));
  PK_TRY(prepare_all<float>());
  PK_TRY(prepare_all<f16>());
  return prepare_all<bf16>();
}

int32_t PK_OPERATION(lora_quantize)(const pk_queue* queue, const pk_lora_quantize_descriptor* descriptor) {
  return PK_BUILD::dispatch_bits(*descriptor, [&](auto t, auto bits) { return PK_BUILD::quantize<typename decltype(t)::type, decltype(bits)::value>(*queue, *descriptor); });
}

int32_t PK_OPERATION(lora_dequantize)(const pk_queue* queue, const pk_lora_quantize_descriptor* descriptor) {
  return PK_BUILD::dispatch_bits(*descriptor, [&](auto t, auto bits) { return PK_BUILD::dequantize<typename decltype(t)::type, decltype(bits)::value>(*queue, *descriptor); });
}

}  // extern "C"
