// An adapter of which some ranks take part: before anything else its listed rows of A and columns of B are copied side by side, and all that follows is as with an adapter of that rank.
#pragma once

#include <cstdint>

#include "../include/peft_kernels.h"

namespace PK_BUILD {

// Replaces a, b and the list by those in the workspace, in the room that lora_ranks_layout asks for. Of no rows, for which nobody reads A and B, the list alone is checked.
template <class Target>
int32_t gather_ranks(const pk_queue& queue, int64_t batches, int64_t m, pk_status_record* status, char* workspace, Target* target);

}  // namespace PK_BUILD
