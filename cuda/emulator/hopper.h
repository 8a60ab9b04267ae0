// What a block of the emulator keeps for the instructions of 9.0, and the smaller ones of them.
#pragma once

#include <deque>
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
  std::deque<BulkGroups> bulk_groups;  // of the threads that copied out of shared memory
  std::vector<std::vector<uint32_t>> register_counts;  // that each warp asked for

  // When a thread is about to exit: what it left unfinished is a fault.
  void thread_exits(uint32_t thread) const;
  // When all have exited: completes what nobody had to wait for. What is wrong, or nothing.
  std::string finish_block();
};

void fence_proxy();
void meet_at_named_barrier(uint32_t number, uint32_t threads, bool waits, Site site);
void set_register_count(uint32_t count, Site site);

}  // namespace PK_BUILD
