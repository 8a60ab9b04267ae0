// The C interface of clipping weights and of noise: checks, choice of kernel, dispatch.
#include <cmath>

#include "../core/operations.h"
#include "../lora/algorithms.h"
#include "check.h"
#include "overlap.h"

using namespace peft_kernels_api;

namespace {

// What every chip from 8.0 on runs, with one kernel.
int32_t pick(const char* operation, int32_t algorithm, const pk_chip& chip, const pk_kernel_choice& only, pk_kernel_choice* choice) {
  if (algorithm != 0 && algorithm != only.algorithm) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (%s)", operation, algorithm, only.algorithm, only.name);
  }
  if (chip.compute_capability < 80) {
    return fail(PK_ERROR_ALGORITHM, "%s: %s needs compute capability 8.0, this chip has %d.%d", operation, only.name, chip.compute_capability / 10, chip.compute_capability % 10);
  }
  *choice = only;
  return PK_OK;
}

// The root and the quotient.
constexpr pk_kernel_choice kClip{PK_LORA_CLIP_WEIGHTS, 0, 2, "lora_clip_weights"};
// What a number is worth, and the sum.
constexpr pk_kernel_choice kNoise{PK_LORA_ADD_NOISE, 0, 7, "lora_add_noise"};

int32_t read_clip(const char* operation, const pk_lora_clip_weights_descriptor* given, bool needs_data, pk_lora_clip_weights_descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  if (descriptor->count < 0 || descriptor->count > INT64_C(1) << 48) return fail(PK_ERROR_ARGUMENT, "%s: count is %" PRId64 ", expected 0 to 2^48", operation, descriptor->count);
  if (!(descriptor->max_norm > 0.0f) || std::isinf(descriptor->max_norm)) {
    return fail(PK_ERROR_ARGUMENT, "%s: max_norm is %g, expected a number above 0", operation, static_cast<double>(descriptor->max_norm));
  }
  PK_TRY_API(check_pointer(operation, "squares", descriptor->squares, alignof(float)));
  PK_TRY_API(check_pointer(operation, "weights", descriptor->weights, alignof(float)));
  if (!needs_data || descriptor->count == 0) return PK_OK;
  if (descriptor->squares == nullptr || descriptor->weights == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: %s is null", operation, descriptor->squares == nullptr ? "squares" : "weights");
  Operands operands;
  const auto bytes = static_cast<uint64_t>(descriptor->count) * sizeof(float);
  operands.output_bytes("weights", descriptor->weights, bytes);
  operands.input_bytes("squares", descriptor->squares, bytes);
  return operands.check_disjoint(operation);
}

int32_t read_noise(const char* operation, const pk_lora_add_noise_descriptor* given, bool needs_data, pk_lora_add_noise_descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  const pk_matrix& gradient = descriptor->gradient;
  PK_TRY_API(check_element_types(operation, gradient.element_type, gradient.element_type));
  PK_TRY_API(check_matrix(operation, "gradient", gradient, -1, -1));
  PK_TRY_API(check_output(operation, "gradient", gradient));
  const double elements = static_cast<double>(gradient.rows) * static_cast<double>(gradient.columns);
  if (elements > static_cast<double>(INT64_C(1) << 48)) {
    return fail(PK_ERROR_ARGUMENT, "%s: gradient is [%" PRId64 ", %" PRId64 "], expected at most 2^48 elements", operation, gradient.rows, gradient.columns);
  }
  if (!(descriptor->scale >= 0.0f) || std::isinf(descriptor->scale)) {
    return fail(PK_ERROR_ARGUMENT, "%s: scale is %g, expected a number that is at least 0", operation, static_cast<double>(descriptor->scale));
  }
  return needs_data ? check_data(operation, "gradient", gradient) : PK_OK;
}

}  // namespace

extern "C" {

int32_t pk_lora_clip_weights(const pk_queue* queue, const pk_lora_clip_weights_descriptor* given) {
  const char* operation = "pk_lora_clip_weights";
  pk_queue known_queue;
  pk_lora_clip_weights_descriptor descriptor;
  pk_kernel_choice choice;
  pk_chip chip;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_clip(operation, given, true, &descriptor));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(pick(operation, descriptor.algorithm, chip, kClip, &choice));
  return PK_DISPATCH(known_queue, lora_clip_weights(&known_queue, &descriptor));
}

int32_t pk_lora_clip_weights_pick(const pk_chip* chip, const pk_lora_clip_weights_descriptor* given, pk_kernel_choice* choice) {
  const char* operation = "pk_lora_clip_weights_pick";
  pk_lora_clip_weights_descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  PK_TRY_API(check_chip(operation, chip));
  PK_TRY_API(read_clip(operation, given, false, &descriptor));
  return pick(operation, descriptor.algorithm, *chip, kClip, choice);
}

int32_t pk_lora_add_noise(const pk_queue* queue, const pk_lora_add_noise_descriptor* given) {
  const char* operation = "pk_lora_add_noise";
  pk_queue known_queue;
  pk_lora_add_noise_descriptor descriptor;
  pk_kernel_choice choice;
  pk_chip chip;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_noise(operation, given, true, &descriptor));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(pick(operation, descriptor.algorithm, chip, kNoise, &choice));
  return PK_DISPATCH(known_queue, lora_add_noise(&known_queue, &descriptor));
}

int32_t pk_lora_add_noise_pick(const pk_chip* chip, const pk_lora_add_noise_descriptor* given, pk_kernel_choice* choice) {
  const char* operation = "pk_lora_add_noise_pick";
  pk_lora_add_noise_descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  PK_TRY_API(check_chip(operation, chip));
  PK_TRY_API(read_noise(operation, given, false, &descriptor));
  return pick(operation, descriptor.algorithm, *chip, kNoise, choice);
}

}  // extern "C"
