// Where threads wait for each other: the barrier of the block, and the collectives of a warp.
#include "block.h"

namespace PK_BUILD {

void Block::barrier(Site site) {
  if (barrier_arrived_ == 0) {
    barrier_first_ = running_;
    running_->site = site;
  } else if (barrier_first_->site != site) {
    fault(site, "divergent barrier: this thread is here, thread %u is in the barrier at %s:%d", barrier_first_->index, barrier_first_->site.file, barrier_first_->site.line);
  }
  ++barrier_arrived_;
  warps_[running_->index / 32].at_barrier |= 1u << running_->index % 32;
  if (barrier_arrived_ == live_) {
    release_barrier();
    continue_with(next());
  } else {
    wait("barrier", site);
  }
}

void Block::release_barrier() {
  barrier_arrived_ = 0;
  if (races_ != nullptr) races_->join_block(threads_[0]->id, extent.x);
  if (counters_ != nullptr) {
    counters_->count(Counted::barriers, "");
    counters_->threads_met();
  }
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    make_ready(warp, warps_[warp].at_barrier);
    warps_[warp].at_barrier = 0;
  }
}

void Block::collective(uint32_t mask, const char* name, CollectiveFunction function, void* record, Site site, bool orders) {
  const uint32_t warp_index = running_->index / 32, lane = running_->index % 32;
  Warp& warp = warps_[warp_index];
  if ((mask >> lane & 1) == 0) fault(site, "%s: lane %u is not in its own mask %08x", name, lane, mask);
  uint32_t number = 32;
  for (uint32_t open = warp.open; open != 0; open &= open - 1) {
    const auto candidate = static_cast<uint32_t>(__builtin_ctz(open));
    const Meeting& other = warp.meetings[candidate];
    if (other.mask == mask && other.function == function && other.site == site) number = candidate;
  }
  if (number == 32) {
    number = static_cast<uint32_t>(__builtin_ctz(~warp.open));  // an open meeting has a lane in it, so that there is room for this one
    warp.open |= 1u << number;
    warp.meetings[number] = {mask, 0, function, name, site, orders};
  }
  Meeting& meeting = warp.meetings[number];
  meeting.arrived |= 1u << lane;
  for (uint32_t open = warp.open & ~(1u << number); open != 0; open &= open - 1) {
    // Lanes of a larger mask may wait for some that are still in a smaller one, but not these for those as well.
    const Meeting& other = warp.meetings[__builtin_ctz(open)];
    if ((other.mask & meeting.arrived) == 0 || (meeting.mask & other.arrived) == 0) continue;
    fault(site, "lanes of one warp in different collectives: lane %u in %s with mask %08x, others in %s at %s:%d with mask %08x", lane, name, mask, other.name, other.site.file,
          other.site.line, other.mask);
  }
  running_->record = record;
  if (!complete(warp_index, number)) wait(name, site);
  else if (preemption_gap_ > 0 && random(4) == 0) preempt();
}

// Runs a collective when all lanes of its mask that have not exited are there.
bool Block::complete(uint32_t warp_index, uint32_t number) {
  Warp& warp = warps_[warp_index];
  const Meeting& meeting = warp.meetings[number];
  if ((meeting.mask & warp.alive & ~meeting.arrived) != 0) return false;
  warp.open &= ~(1u << number);
  void* records[32] = {};
  for (uint32_t lanes = meeting.arrived; lanes != 0; lanes &= lanes - 1) {
    const int lane = __builtin_ctz(lanes);
    records[lane] = threads_[warp_index * 32 + static_cast<uint32_t>(lane)]->record;
  }
  if (meeting.orders && races_ != nullptr) races_->join_warp(threads_[warp_index * 32]->id, meeting.arrived);
  if (counters_ != nullptr && meeting.mask == all_lanes) counters_->lanes_met(warp_index);
  meeting.function(records);
  const uint32_t self = running_->finished || running_->index / 32 != warp_index ? 0 : 1u << running_->index % 32;
  make_ready(warp_index, meeting.arrived & ~self);
  return true;
}

}  // namespace PK_BUILD
