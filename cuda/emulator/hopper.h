// What a block of the emulator keeps for the instructions of 9.0, and the smaller ones of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bulk_copy.h"
#include "mbarrier.h"
#include "wgmma.h"

namespace PK_BUILD {

struct NamedBarrier {
  uint32_t expected = 0, arrived = 0;  // threads
  uint32_t generation = 0;
  Site site{};  // of the first to arrive
};

struct Hopper {
  std::vector<BarrierModel*> barriers;  // those that were initialised
  NamedBarrier named_barriers[16];
  std::vector<std::unique_ptr<Warpgroup>> warpgroups;
  std::vector<std::vector<uint32_t>> register_counts;  // that each warp asked for

  // When all threads have exited: what is wrong, or nothing.
  std::string check_end() const;
};

void fence_proxy();
void meet_at_named_barrier(uint32_t number, uint32_t threads, bool waits, Site site);
void set_register_count(uint32_t count, Site site);

}  // namespace PK_BUILD
