// How lists of codes and scales become what kernels read, and a part of their matrix a matrix in the workspace.
#pragma once

#include "../ptx/launch.cuh"
#include "quantized.cuh"

namespace PK_BUILD {

inline int32_t log2_of(int32_t value) {
  int32_t bits = 0;
  while (1 << bits < value) ++bits;
  return bits;
}

// What the launches of a call with a quantised W may read.
inline void read_quantized(Operands& operands, const pk_lora_quantized& lists) {
  operands.read_bytes("codes", lists.codes, static_cast<uint64_t>(lists.code_bytes));
  operands.read_bytes("absmax", lists.absmax, static_cast<uint64_t>(lists.absmax_count) * sizeof(float));
  if (lists.absmax_codes == nullptr) return;
  operands.read_bytes("absmax_codes", lists.absmax_codes, static_cast<uint64_t>(lists.absmax_code_count));
  operands.read_bytes("absmax_offset", lists.absmax_offset, sizeof(float));
}

// Of so many columns.
inline QuantizedMatrix quantized_matrix(const pk_lora_quantized& lists, int64_t columns) {
  return {lists.codes, lists.absmax, lists.absmax_codes, lists.absmax_offset, columns, log2_of(lists.block), lists.absmax_codes != nullptr ? log2_of(lists.absmax_block) : 0};
}

inline QuantizedBooks quantized_books(const pk_lora_quantized& lists) {
  QuantizedBooks books{};
  books.bits = lists.book.bits;
  memcpy(books.values, lists.book.values, sizeof(float) << lists.book.bits);
  if (lists.absmax_codes != nullptr) memcpy(books.absmax_values, lists.absmax_book.values, sizeof books.absmax_values);
  return books;
}

// Writes a part of a matrix of so many columns.
template <class T>
int32_t dequantize_slab(const pk_queue& queue, const pk_lora_quantized& lists, int64_t columns, const QuantizedSlab& slab, T* to);

}  // namespace PK_BUILD
