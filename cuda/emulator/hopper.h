// What a block keeps for the instructions of 9.0, and the smaller ones of them: barriers in shared memory, named barriers, fences and numbers of registers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "shared.h"
#include "site.h"

namespace PK_BUILD {

class Warpgroup;

// The model of an mbarrier.
class BarrierModel {
 public:
  BarrierModel() { note_shared_array(&word_, sizeof word_, 1, alignof(uint64_t), guard_); }

  void initialize(uint32_t count, Site site);
  void arrive(uint32_t bytes, Site site);
  void expect(uint32_t bytes, Site site);
  // Of arrivals from other blocks, only who waits for the cluster learns what was before them.
  void wait(uint32_t parity, bool for_cluster, Site site);

  // A copy that names this barrier: when it is issued, and when its bytes have come. That another block expects bytes is not ordered before the copy; that this one does is.
  void copy_issued(uint32_t bytes, bool by_own_block, Site site);
  void copy_landed(uint32_t bytes, bool by_own_block, Site site);

 private:
  static constexpr uint64_t initialised = 0x6d62617272696572;  // any value but the one that shared memory begins with
  static constexpr uint32_t most = (1u << 20) - 1;             // of arrivals and of bytes

  bool is_own() const;  // of the running thread's block
  void check(const char* what, Site site) const;
  void announce(uint32_t bytes, Site site);
  void end_phase_if_complete(Site site);

  alignas(8) uint64_t word_;  // what a device has here
  alignas(16) unsigned char guard_[shared_guard_bytes];
  uint32_t count_ = 0, pending_ = 0;
  int32_t announced_ = 0;  // bytes of this phase that have not come yet
  uint32_t issued_ = 0;    // those of them with a copy of this block under way
  uint32_t phase_ = 0, initialiser_ = 0;
  uint32_t initialised_after_ = 0;  // fences of that thread: after one more, asynchronous copies see it
  Site site_{};          // where it was initialised
};

struct NamedBarrier {
  uint32_t expected, arrived;  // threads
  uint32_t generation;
  Site site;  // of the first to arrive
};

struct Hopper {
  NamedBarrier named_barriers[16] = {};
  std::shared_ptr<Warpgroup> warpgroups[8];
  // That each warp asked for, and where one did last.
  std::vector<uint32_t> register_counts[32];
  Site register_site{};

  void check_end() const;
};

void meet_at_named_barrier(uint32_t number, uint32_t threads, bool waits, Site site);
void set_register_count(uint32_t count, Site site);

}  // namespace PK_BUILD
