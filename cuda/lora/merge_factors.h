// The factors of a merge as its kernels multiply them: with a middle, A is what the middle makes of it.
#pragma once

#include <vector>

#include "../include/peft_kernels.h"
#include "../core/build.h"

namespace PK_BUILD {

// Makes them in the workspace and replaces those of the list, which is the descriptor's. Of weights without elements, for which nobody reads factors, lists of ranks alone are checked.
int32_t merge_factors(const pk_queue& queue, const pk_lora_merge_descriptor& descriptor, std::vector<pk_lora_adapter>* adapters);

}  // namespace PK_BUILD
