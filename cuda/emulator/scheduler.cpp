// Which thread of a block goes on, and what threads wait for: each other, or that something has landed.
#include <algorithm>
#include <limits>
#include <utility>

#include "cluster.h"

namespace PK_BUILD {

uint32_t Block::random(uint32_t bound) {
  random_state_ ^= random_state_ >> 12;
  random_state_ ^= random_state_ << 25;
  random_state_ ^= random_state_ >> 27;
  return static_cast<uint32_t>((random_state_ * 0x2545f4914f6cdd1du >> 32) * bound >> 32);
}

void Block::make_ready(uint32_t warp, uint32_t lanes) {
  if (lanes == 0) return;
  warps_[warp].ready |= lanes;
  ready_warps_ |= 1u << warp;
}

// The thread to go on with, if the block is to go on.
Thread* Block::next() {
  for (;;) {
    if (cluster.position > launch.fault_position.load(std::memory_order_relaxed)) abandon();
    if (choices_ >= next_due_ || changed_ || ready_warps_ == 0) advance();
    if (ready_warps_ != 0) break;
    if (!launch.blocks_meet) {
      cluster.note_deadlock();
      abandon();
    }
    leave(State::stalled);
  }
  moved_ = true;
  return choose();
}

// Lets other blocks go on, on the stack of the running thread.
void Block::leave(State state) {
  state_ = state;
  Fiber::switch_to(*running_->fiber, root_, false);
}

// Takes one of the threads that are ready.
Thread* Block::choose() {
  const auto pick = [&](uint32_t bits) {
    if (order_ == Order::plain) return static_cast<uint32_t>(__builtin_ctz(bits));
    if (order_ == Order::reverse) return 31 - static_cast<uint32_t>(__builtin_clz(bits));
    for (uint32_t n = random(static_cast<uint32_t>(__builtin_popcount(bits))); n > 0; --n) bits &= bits - 1;
    return static_cast<uint32_t>(__builtin_ctz(bits));
  };
  ++choices_;
  uint32_t warp = 0;
  if (order_ != Order::priorities) {
    warp = pick(ready_warps_);
  } else {
    // One warp runs as far ahead of the others as it can: a uniform choice keeps warps in step and never finds what running ahead breaks.
    if (choices_ > reshuffle_at_) {
      for (uint32_t i = warp_count_ - 1; i > 0; --i) std::swap(priorities_[i], priorities_[random(i + 1)]);
      reshuffle_at_ = choices_ + (16u << random(8));
    }
    while ((ready_warps_ >> priorities_[warp] & 1) == 0) ++warp;
    warp = priorities_[warp];
  }
  const uint32_t lane = pick(warps_[warp].ready);
  warps_[warp].ready &= ~(1u << lane);
  if (warps_[warp].ready == 0) ready_warps_ &= ~(1u << warp);
  return &threads[warp * 32 + lane];
}

void Block::continue_with(Thread* thread) {
  Thread* from = running_;
  if (thread == from) return;
  running_ = thread;
  Fiber::switch_to(*from->fiber, *thread->fiber, from->finished);
}

void Block::preempt() {
  accesses_until_preemption_ = preemption_gap_ > 0 ? 1 + random(preemption_gap_) : std::numeric_limits<int64_t>::max();
  make_ready(running_->index / 32, 1u << running_->index % 32);
  if (launch.blocks_meet && random(4) == 0) leave(State::interrupted);
  continue_with(next());
}

// The running thread goes on when another makes it ready.
void Block::wait(const char* what, Site site) {
  running_->waits_in = what;
  running_->site = site;
  continue_with(next());
}

// ---- the barrier of the block, and the collectives of a warp ----------------------------------------------------------------------------------------------------

void Block::barrier(Site site) {
  if (barrier_arrived_ == 0) {
    barrier_first_ = running_;
    running_->site = site;
  } else if (barrier_first_->site != site) {
    fault(site, "divergent barrier: this thread is here, thread %u is in the barrier at %s:%d", barrier_first_->index, barrier_first_->site.file, barrier_first_->site.line);
  }
  warps_[running_->index / 32].at_barrier |= 1u << running_->index % 32;
  if (++barrier_arrived_ == live) release_barrier();
  wait("barrier", site);
}

void Block::release_barrier() {
  barrier_arrived_ = 0;
  if (races != nullptr) races->join_block(threads[0].id, extent.x);
  if (counters != nullptr) {
    counters->count(Counted::barriers, "");
    counters->threads_met();
  }
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    make_ready(warp, warps_[warp].at_barrier);
    warps_[warp].at_barrier = 0;
  }
}

void Block::collective(uint32_t mask, const char* name, CollectiveFunction function, void* record, Site site, Meets kind) {
  const uint32_t warp_index = running_->index / 32, lane = running_->index % 32;
  Warp& warp = warps_[warp_index];
  if ((mask >> lane & 1) == 0) fault(site, "%s: lane %u is not in its own mask %08x", name, lane, mask);
  uint32_t number = 32;
  for (uint32_t open = warp.open; open != 0; open &= open - 1) {
    const auto candidate = static_cast<uint32_t>(__builtin_ctz(open));
    const Meeting& other = warp.meetings[candidate];
    if (other.mask == mask && other.function == function && other.name == name && other.site == site) {
      number = candidate;
    } else if ((other.mask >> lane & 1) != 0 && (mask & other.arrived) != 0) {
      // Lanes of a larger mask may wait for some that are still in a smaller one, but not these for those as well.
      fault(site, "lanes of one warp in different collectives: lane %u in %s with mask %08x, others in %s at %s:%d with mask %08x", lane, name, mask, other.name, other.site.file,
            other.site.line, other.mask);
    }
  }
  if (number == 32) {
    number = static_cast<uint32_t>(__builtin_ctz(~warp.open));  // an open meeting has a lane in it, so that there is room for this one
    warp.open |= 1u << number;
    warp.meetings[number] = {mask, 0, function, name, site, kind};
  }
  warp.meetings[number].arrived |= 1u << lane;
  running_->record = record;
  if (!complete(warp_index, number)) wait(name, site);
  else if (preemption_gap_ > 0 && random(4) == 0) preempt();
}

// Runs a collective when all lanes of its mask that have not exited are there.
bool Block::complete(uint32_t warp_index, uint32_t number) {
  Warp& warp = warps_[warp_index];
  const Meeting& meeting = warp.meetings[number];
  if ((meeting.mask & warp.alive & ~meeting.arrived) != 0) return false;
  if (meeting.kind == Meets::whole && meeting.arrived != all_lanes) {
    fault(meeting.site, "%s: an instruction of a whole warp, of which lane %d has exited or never was", meeting.name, __builtin_ctz(~meeting.arrived));
  }
  warp.open &= ~(1u << number);
  void* records[32] = {};
  for (uint32_t lanes = meeting.arrived; lanes != 0; lanes &= lanes - 1) {
    const int lane = __builtin_ctz(lanes);
    records[lane] = threads[warp_index * 32 + static_cast<uint32_t>(lane)].record;
  }
  if (meeting.kind == Meets::orders && races != nullptr) races->join_warp(threads[warp_index * 32].id, meeting.arrived);
  if (counters != nullptr && meeting.mask == all_lanes) counters->lanes_met(warp_index);
  meeting.function(records);
  const uint32_t self = running_->finished || running_->index / 32 != warp_index ? 0 : 1u << running_->index % 32;
  make_ready(warp_index, meeting.arrived & ~self);
  return true;
}

// ---- what lands later than it was issued, and who waits for a condition -----------------------------------------------------------------------------------------

void Block::begin_operation(const char* what, Operation& operation, Site site) {
  operation.what = what;
  operation.site = site;
  operation.issuer = issuer_ != nullptr ? issuer_ : &current()->running();  // of this block or another
  // At once, after 2^0 .. 2^17 choices of the scheduler, or only when nothing else can go on: what a wait that is too weak lets through needs the long ones.
  const uint32_t dice = order_ == Order::plain ? 0 : random(24);
  operation.due = dice < 2 ? choices_ : dice < 20 ? choices_ + (uint64_t{1} << (dice - 2)) : never;
  operations_.push_back(operation);
  next_due_ = std::min(next_due_, operation.due);
  if (dice < 2) land(operations_.size() - 1);
}

void Block::land(size_t number) {
  Operation operation = operations_[number];
  operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(number));
  const Thread* outer = issuer_;
  issuer_ = operation.issuer;
  operation.land(operation.record);
  issuer_ = outer;
  changed_ = true;
}

// Lands what is due and wakes who waited for it, until a thread can go on or nothing is left.
void Block::advance() {
  for (;;) {
    for (size_t i = 0; i < operations_.size();) {
      if (operations_[i].due > choices_) ++i;
      else land(i), i = 0;
    }
    next_due_ = never;
    for (const Operation& operation : operations_) next_due_ = std::min(next_due_, operation.due);
    if (std::exchange(changed_, false) && waiting_ > 0) wake();
    if (ready_warps_ != 0 || operations_.empty()) return;
    land(random(static_cast<uint32_t>(operations_.size())));
  }
}

void Block::wake() {
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    uint32_t awake = 0;
    for (uint32_t lanes = warps_[warp].waiting; lanes != 0; lanes &= lanes - 1) {
      const Thread& thread = threads[warp * 32 + static_cast<uint32_t>(__builtin_ctz(lanes))];
      if (thread.condition(thread.record)) awake |= lanes & -lanes;
    }
    warps_[warp].waiting &= ~awake;
    waiting_ -= static_cast<uint32_t>(__builtin_popcount(awake));
    make_ready(warp, awake);
  }
}

void Block::wait_for_condition(const char* what, bool (*condition)(void*), void* argument, Site site) {
  running_->condition = condition;
  running_->record = argument;
  warps_[running_->index / 32].waiting |= 1u << running_->index % 32;
  ++waiting_;
  wait(what, site);
}

}  // namespace PK_BUILD
