// The launches of a call of backward's backward, in the translation units of backward, whose kernels it runs.
#pragma once

#include "../core/status.h"
#include "double_backward_plan.h"

namespace PK_BUILD {

template <class T>
int32_t double_backward(const pk_queue& queue, const pk_lora_double_backward_descriptor& descriptor, const LoraDoubleBackwardPlan& plan);

}  // namespace PK_BUILD
