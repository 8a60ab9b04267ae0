// The C interface of block-wise quantisation: checks, workspace, choice of kernel, dispatch.
#include <cstdio>

#include "../core/operations.h"
#include "../lora/algorithms.h"
#include "check.h"
#include "overlap.h"
#include "quantized.h"

using namespace peft_kernels_api;

namespace {

using Descriptor = pk_lora_quantize_descriptor;

int32_t check_block(const char* operation, const char* argument, int32_t block) {
  if (block >= kLoraQuantizeLeastBlock && block <= kLoraQuantizeMostBlock && (block & (block - 1)) == 0) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: %s is %d, expected a power of two from %d to %d", operation, argument, block, kLoraQuantizeLeastBlock, kLoraQuantizeMostBlock);
}

int32_t check_book(const char* operation, const char* argument, const pk_lora_code_book& book, bool eight, bool quantizes) {
  const bool known = eight ? book.bits == 8 : book.bits == 2 || book.bits == 3 || book.bits == 4 || book.bits == 8;
  if (!known) return fail(PK_ERROR_ARGUMENT, "%s: %s has codes of %d bits, expected %s", operation, argument, book.bits, eight ? "8" : "2, 3, 4 or 8");
  const int32_t codes = 1 << book.bits;
  if (!quantizes) return book.values != nullptr ? PK_OK : fail(PK_ERROR_ARGUMENT, "%s: %s has no values", operation, argument);
  if (book.boundaries == nullptr || (book.codes == nullptr && book.bits != 8)) return fail(PK_ERROR_ARGUMENT, "%s: %s has no boundaries or no codes", operation, argument);
  for (int32_t i = 0; i + 1 < codes; ++i) {
    const bool ascending = i == 0 ? book.boundaries[0] == book.boundaries[0] : book.boundaries[i] >= book.boundaries[i - 1];
    if (!ascending) return fail(PK_ERROR_ARGUMENT, "%s: boundary %d of %s is %g, expected numbers in ascending order", operation, i, argument, static_cast<double>(book.boundaries[i]));
  }
  for (int32_t i = 0; book.codes != nullptr && i < codes; ++i) {
    if (book.bits == 8 ? book.codes[i] != i : book.codes[i] >= codes) {
      return fail(PK_ERROR_ARGUMENT, "%s: code %d of %s is %d, expected %s", operation, i, argument, book.codes[i], book.bits == 8 ? "the same, with 8 bits" : "one below 2^bits");
    }
  }
  return PK_OK;
}

int32_t check_count(const char* operation, const char* argument, int64_t got, int64_t expected) {
  return got == expected ? PK_OK : fail(PK_ERROR_ARGUMENT, "%s: %s is %" PRId64 ", expected %" PRId64, operation, argument, got, expected);
}

int32_t check_list(const char* operation, const char* argument, const void* list, int64_t count, uintptr_t alignment) {
  if (count > 0 && list == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: %s is null", operation, argument);
  return check_pointer(operation, argument, list, alignment);
}

int64_t blocks_of(const Descriptor& descriptor) { return (descriptor.matrix.rows * descriptor.matrix.columns + descriptor.block - 1) / descriptor.block; }

template <class Lists>
bool nested(const Lists& lists) {
  return lists.absmax_codes != nullptr || lists.absmax_code_count != 0;
}

uint64_t workspace_bytes(const Descriptor& descriptor) {
  const int64_t blocks = blocks_of(descriptor);
  return nested(descriptor) && blocks > 0 ? static_cast<uint64_t>(lora_absmax_bytes(blocks) + lora_absmax_chunks(blocks) * int64_t{sizeof(double)}) : 0;
}

pk_lora_quantized lists_of(const Descriptor& descriptor) {
  const Descriptor& of = descriptor;
  return {of.codes, of.code_bytes, of.absmax, of.absmax_count, of.absmax_codes, of.absmax_code_count, of.absmax_offset, of.book, of.absmax_book, of.block, of.absmax_block, of.short_block, 0};
}

int32_t read(const char* operation, const Descriptor* given, bool quantizes, bool needs_data, Descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  const pk_matrix& matrix = descriptor->matrix;
  PK_TRY_API(check_element_types(operation, matrix.element_type, matrix.element_type));
  PK_TRY_API(check_matrix(operation, "matrix", matrix, -1, -1));
  if (!quantizes) PK_TRY_API(check_output(operation, "matrix", matrix));
  if (needs_data) PK_TRY_API(check_data(operation, "matrix", matrix));
  return check_quantized(operation, "matrix", matrix.rows, matrix.columns, lists_of(*descriptor), quantizes, needs_data);
}

int32_t check_disjoint(const char* operation, const Descriptor& descriptor, bool quantizes) {
  Operands operands;
  if (!quantizes) {
    operands.output("matrix", descriptor.matrix, 1);
    add_quantized(operands, lists_of(descriptor));
    return operands.check_disjoint(operation);
  }
  const auto list = [&](const char* name, const void* data, int64_t bytes) {
    if (data != nullptr) operands.output_bytes(name, data, static_cast<uint64_t>(bytes));
  };
  operands.input("matrix", descriptor.matrix, 1);
  list("codes", descriptor.codes, descriptor.code_bytes);
  list("absmax", descriptor.absmax, descriptor.absmax_count * int64_t{sizeof(float)});
  if (nested(descriptor)) {
    list("absmax_codes", descriptor.absmax_codes, descriptor.absmax_code_count);
    list("absmax_offset", descriptor.absmax_offset, sizeof(float));
    list("workspace", descriptor.workspace, static_cast<int64_t>(workspace_bytes(descriptor)));
  }
  return operands.check_disjoint(operation);
}

int32_t pick(const char* operation, const Descriptor& descriptor, bool dequantizes, pk_kernel_choice* choice) {
  if (descriptor.algorithm != 0 && descriptor.algorithm != PK_LORA_QUANTIZE_WARP) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (warp)", operation, descriptor.algorithm, PK_LORA_QUANTIZE_WARP);
  }
  *choice = pk_kernel_choice{PK_LORA_QUANTIZE_WARP, 0, 0, {}};
  std::snprintf(choice->name, sizeof choice->name, dequantizes ? "lora_dequantize" : "lora_quantize");
  return PK_OK;
}

// What both directions do before they leave for a build.
int32_t begin(const char* operation, const pk_queue* queue, const Descriptor* given, bool quantizes, pk_queue* known_queue, Descriptor* descriptor) {
  pk_kernel_choice choice;
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(check_queue(operation, queue, known_queue));
  PK_TRY_API(read(operation, given, quantizes, true, descriptor));
  PK_TRY_API(pick(operation, *descriptor, !quantizes, &choice));
  if (quantizes) PK_TRY_API(check_workspace(operation, descriptor->workspace, descriptor->workspace_bytes, workspace_bytes(*descriptor)));
  PK_TRY_API(check_disjoint(operation, *descriptor, quantizes));
  return PK_DISPATCH(*known_queue, queue_chip(known_queue, &chip));
}

}  // namespace

namespace peft_kernels_api {

int32_t check_quantized(const char* operation, const char* matrix, int64_t rows, int64_t columns, const pk_lora_quantized& lists, bool quantizes, bool needs_data) {
  PK_TRY_API(check_block(operation, "block", lists.block));
  if (columns > 0 && rows > kLoraQuantizeMostElements / columns) {
    return fail(PK_ERROR_ARGUMENT, "%s: %s is [%" PRId64 ", %" PRId64 "], expected at most 2^42 elements", operation, matrix, rows, columns);
  }
  const int64_t count = rows * columns, blocks = (count + lists.block - 1) / lists.block;
  if (lists.short_block != 0 && lists.short_block != 1) return fail(PK_ERROR_ARGUMENT, "%s: short_block is %d, expected 0 or 1", operation, lists.short_block);
  if (lists.short_block == 0 && count % lists.block != 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: block is %d, expected one that divides %" PRId64 " elements, or short_block", operation, lists.block, count);
  }
  PK_TRY_API(check_book(operation, "book", lists.book, false, quantizes));
  PK_TRY_API(check_count(operation, "code_bytes", lists.code_bytes, (count * lists.book.bits + 7) / 8));
  int64_t absmax = blocks;
  if (nested(lists)) {
    PK_TRY_API(check_book(operation, "absmax_book", lists.absmax_book, true, quantizes));
    PK_TRY_API(check_block(operation, "absmax_block", lists.absmax_block));
    PK_TRY_API(check_count(operation, "absmax_code_count", lists.absmax_code_count, blocks));
    absmax = (blocks + lists.absmax_block - 1) / lists.absmax_block;
  }
  PK_TRY_API(check_count(operation, "absmax_count", lists.absmax_count, absmax));
  if (!needs_data) return PK_OK;
  PK_TRY_API(check_list(operation, "codes", lists.codes, lists.code_bytes, 1));
  PK_TRY_API(check_list(operation, "absmax", lists.absmax, lists.absmax_count, alignof(float)));
  if (!nested(lists)) return PK_OK;
  PK_TRY_API(check_list(operation, "absmax_codes", lists.absmax_codes, lists.absmax_code_count, 1));
  return check_list(operation, "absmax_offset", lists.absmax_offset, 1, alignof(float));
}

int32_t check_slab_bytes(const char* operation, int64_t slab_bytes) {
  return slab_bytes >= 0 ? PK_OK : fail(PK_ERROR_ARGUMENT, "%s: slab_bytes is %" PRId64 ", expected at least 0", operation, slab_bytes);
}

void add_quantized(Operands& operands, const pk_lora_quantized& lists) {
  operands.input_bytes("codes", lists.codes, static_cast<uint64_t>(lists.code_bytes));
  operands.input_bytes("absmax", lists.absmax, static_cast<uint64_t>(lists.absmax_count) * sizeof(float));
  if (!nested(lists)) return;
  operands.input_bytes("absmax_codes", lists.absmax_codes, static_cast<uint64_t>(lists.absmax_code_count));
  operands.input_bytes("absmax_offset", lists.absmax_offset, sizeof(float));
}

}  // namespace peft_kernels_api

extern "C" {

int32_t pk_lora_quantize(const pk_queue* queue, const pk_lora_quantize_descriptor* given) {
  pk_queue known_queue;
  pk_lora_quantize_descriptor descriptor;
  PK_TRY_API(begin("pk_lora_quantize", queue, given, true, &known_queue, &descriptor));
  return PK_DISPATCH(known_queue, lora_quantize(&known_queue, &descriptor));
}

int32_t pk_lora_dequantize(const pk_queue* queue, const pk_lora_quantize_descriptor* given) {
  pk_queue known_queue;
  pk_lora_quantize_descriptor descriptor;
  PK_TRY_API(begin("pk_lora_dequantize", queue, given, false, &known_queue, &descriptor));
  return PK_DISPATCH(known_queue, lora_dequantize(&known_queue, &descriptor));
}

int32_t pk_lora_quantize_workspace(const pk_lora_quantize_descriptor* given, uint64_t* bytes) {
  const char* operation = "pk_lora_quantize_workspace";
  pk_lora_quantize_descriptor descriptor;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: bytes is null", operation);
  PK_TRY_API(read(operation, given, true, false, &descriptor));
  *bytes = workspace_bytes(descriptor);
  return PK_OK;
}

int32_t pk_lora_quantize_pick(const pk_chip* chip, const pk_lora_quantize_descriptor* given, int32_t dequantize, pk_kernel_choice* choice) {
  const char* operation = "pk_lora_quantize_pick";
  pk_lora_quantize_descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  if (chip == nullptr || chip->size < sizeof(pk_chip)) return fail(PK_ERROR_VERSION, "%s: chip is null or of fewer than %zu bytes", operation, sizeof(pk_chip));
  PK_TRY_API(read(operation, given, dequantize == 0, false, &descriptor));
  return pick(operation, descriptor, dequantize != 0, choice);
}

}  // extern "C"
