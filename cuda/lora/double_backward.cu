// The launcher of backward's backward: a descriptor that the C interface has checked, and the plan that it made, become launches of the kernels that backward has.
#include "../core/dispatch.h"
#include "../core/operations.h"
#include "double_backward_launch.h"

extern "C" {

int32_t PK_OPERATION(lora_double_backward)(const pk_queue* queue, const pk_lora_double_backward_descriptor* descriptor, const LoraDoubleBackwardPlan* plan) {
  return PK_BUILD::dispatch_type(descriptor->x.element_type, [&](auto t) { return PK_BUILD::double_backward<typename decltype(t)::type>(*queue, *descriptor, *plan); });
}

}  // extern "C"
