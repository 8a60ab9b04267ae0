// The launcher of LoRA's gradients: a descriptor that the C interface has checked, and the plan that it made, become launches.
#include "../core/dispatch.h"
#include "../core/operations.h"
#include "backward_launch.h"

extern "C" {

int32_t PK_OPERATION(lora_backward)(const pk_queue* queue, const pk_lora_backward_descriptor* descriptor, const LoraBackwardPlan* plan) {
  return PK_BUILD::dispatch_type(descriptor->x.element_type, [&](auto t) { return PK_BUILD::backward<typename decltype(t)::type>(*queue, *descriptor, *plan); });
}

int32_t PK_OPERATION(lora_backward_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY((prepare_backward<float>()));
  PK_TRY((prepare_backward<f16>()));
  return prepare_backward<bf16>();
}

}  // extern "C"
