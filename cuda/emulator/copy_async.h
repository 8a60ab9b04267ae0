// cp.async: each copy lands when it is issued, or only when it is waited for.
#pragma once

#include <cstdint>

#include "site.h"

namespace PK_BUILD {

// The target has been checked; the source is checked here.
void copy_async(void* target, const void* source, uint32_t bytes, uint32_t valid_bytes, Site site);
void commit_copies();
void wait_for_copies(uint32_t pending_groups);

}  // namespace PK_BUILD
