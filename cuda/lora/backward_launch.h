// The launches of a backward call, one translation unit for each type of activations.
#pragma once

#include "../core/status.h"
#include "backward_plan.h"

namespace PK_BUILD {

template <class T>
int32_t backward(const pk_queue& queue, const pk_lora_backward_descriptor& descriptor, const LoraBackwardPlan& plan);

// Loads the type's kernels on the current device.
template <class T>
int32_t prepare_backward();

}  // namespace PK_BUILD
