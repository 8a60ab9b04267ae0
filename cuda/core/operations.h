// What each build offers to the C interface: the same functions, with the build in their names.
#pragma once

#include "../include/peft_kernels.h"

struct LoraForwardPlan;  // what a family's `pick` decided
struct LoraBackwardPlan;
struct LoraDoubleBackwardPlan;
struct HaarWaraPlan;

#define PK_DECLARE_OPERATIONS(build)                                                                                      \
  int32_t pk_##build##_lora_forward(const pk_queue* queue, const pk_lora_forward_descriptor* descriptor, const LoraForwardPlan* plan); \
  int32_t pk_##build##_lora_backward(const pk_queue* queue, const pk_lora_backward_descriptor* descriptor, const LoraBackwardPlan* plan); \
  int32_t pk_##build##_lora_backward_prepare(void);                                                                       \
  int32_t pk_##build##_lora_sample_norms(const pk_queue* queue, const pk_lora_sample_norms_descriptor* descriptor);       \
  int32_t pk_##build##_lora_sample_norms_prepare(void);                                                                   \
  int32_t pk_##build##_lora_clip_weights(const pk_queue* queue, const pk_lora_clip_weights_descriptor* descriptor);       \
  int32_t pk_##build##_lora_add_noise(const pk_queue* queue, const pk_lora_add_noise_descriptor* descriptor);             \
  int32_t pk_##build##_lora_noise_prepare(void);                                                                          \
  int32_t pk_##build##_lora_ranks_prepare(void);                                                                          \
  int32_t pk_##build##_lora_row_lists_prepare(void);                                                                      \
  int32_t pk_##build##_lora_sample_weights_prepare(void);                                                                 \
  int32_t pk_##build##_lora_merge(const pk_queue* queue, const pk_lora_merge_descriptor* descriptor, int32_t direction); \
  int32_t pk_##build##_lora_quantize(const pk_queue* queue, const pk_lora_quantize_descriptor* descriptor);               \
  int32_t pk_##build##_lora_dequantize(const pk_queue* queue, const pk_lora_quantize_descriptor* descriptor);             \
  int32_t pk_##build##_lora_weight_norm(const pk_queue* queue, const pk_lora_weight_norm_descriptor* descriptor);         \
  int32_t pk_##build##_lora_weight_norm_prepare(void);                                                                    \
  int32_t pk_##build##_lora_magnitude_gradient(const pk_queue* queue, const pk_lora_magnitude_gradient_descriptor* descriptor); \
  int32_t pk_##build##_lora_magnitude_gradient_prepare(void);                                                             \
  int32_t pk_##build##_lora_double_backward(const pk_queue* queue, const pk_lora_double_backward_descriptor* descriptor, const LoraDoubleBackwardPlan* plan); \
  int32_t pk_##build##_lora_quantize_prepare(void);                                                                       \
  int32_t pk_##build##_lora_prepare(void); /* loads the family's kernels on the current device */                          \
  int32_t pk_##build##_haar(const pk_queue* queue, const pk_haar_descriptor* descriptor, int32_t inverse);                   \
  int32_t pk_##build##_haar_hadamard(const pk_queue* queue, const pk_haar_hadamard_descriptor* descriptor);               \
  int32_t pk_##build##_haar_hadamard_prepare(void);                                                                       \
  int32_t pk_##build##_haar_wara_forward(const pk_queue* queue, const pk_haar_wara_forward_descriptor* descriptor, const HaarWaraPlan* plan); \
  int32_t pk_##build##_haar_wara_backward(const pk_queue* queue, const pk_haar_wara_backward_descriptor* descriptor, const HaarWaraPlan* plan); \
  int32_t pk_##build##_haar_wara_merge(const pk_queue* queue, const pk_haar_wara_merge_descriptor* descriptor, const HaarWaraPlan* plan, int32_t direction); \
  int32_t pk_##build##_haar_wara_prepare(void);                                                                           \
  int32_t pk_##build##_haar_prepare(void);                                                                                \
  int32_t pk_##build##_queue_chip(const pk_queue* queue, pk_chip* chip);                                                  \
  int32_t pk_##build##_prepare(const pk_queue* queue);                                                                    \
  int32_t pk_##build##_status_read(const pk_queue* queue, const pk_status_record* status, pk_status_record* host);

extern "C" {
PK_DECLARE_OPERATIONS(emulator)
PK_DECLARE_OPERATIONS(device)

int32_t pk_device_device_count(int32_t* count);
}

// The name of an operation in the build that is being compiled.
#if defined(__CUDACC__)
#define PK_OPERATION(name) pk_device_##name
#else
#define PK_OPERATION(name) pk_emulator_##name
#endif
