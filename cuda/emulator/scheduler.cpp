// Which thread of a block goes on.
#include <limits>
#include <utility>

#include "cluster.h"

namespace PK_BUILD {

namespace {

uint32_t nth_bit(uint32_t bits, uint32_t n) {
  for (; n > 0; --n) bits &= bits - 1;
  return static_cast<uint32_t>(__builtin_ctz(bits));
}

uint32_t count_bits(uint32_t bits) { return static_cast<uint32_t>(__builtin_popcount(bits)); }

}  // namespace

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
    if (cluster_->position > launch_->fault_position.load(std::memory_order_relaxed)) abandon();
    if (choices_ >= next_due_ || changed_ || ready_warps_ == 0) advance();
    if (ready_warps_ != 0) break;
    if (!launch_->blocks_meet) {
      cluster_->note_deadlock();
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
  Fiber::switch_to(running_->fiber, root_, false);
}

// Takes one of the threads that are ready.
Thread* Block::choose() {
  uint32_t warp = 0, lane = 0;
  ++choices_;
  switch (order_) {
    case Order::plain:
      warp = static_cast<uint32_t>(__builtin_ctz(ready_warps_));
      lane = static_cast<uint32_t>(__builtin_ctz(warps_[warp].ready));
      break;
    case Order::reverse:
      warp = 31 - static_cast<uint32_t>(__builtin_clz(ready_warps_));
      lane = 31 - static_cast<uint32_t>(__builtin_clz(warps_[warp].ready));
      break;
    case Order::uniform:
      warp = nth_bit(ready_warps_, random(count_bits(ready_warps_)));
      lane = nth_bit(warps_[warp].ready, random(count_bits(warps_[warp].ready)));
      break;
    case Order::priorities:
      // One warp runs as far ahead of the others as it can: a uniform choice keeps warps in step and never finds what running ahead breaks.
      if (choices_ > reshuffle_at_) {
        for (uint32_t i = warp_count_ - 1; i > 0; --i) std::swap(priorities_[i], priorities_[random(i + 1)]);
        reshuffle_at_ = choices_ + (16u << random(8));
      }
      while ((ready_warps_ >> priorities_[warp] & 1) == 0) ++warp;
      warp = priorities_[warp];
      lane = nth_bit(warps_[warp].ready, random(count_bits(warps_[warp].ready)));
      break;
  }
  warps_[warp].ready &= ~(1u << lane);
  if (warps_[warp].ready == 0) ready_warps_ &= ~(1u << warp);
  return threads_[warp * 32 + lane].get();
}

void Block::continue_with(Thread* thread) {
  Thread* from = running_;
  if (thread == from) return;
  running_ = thread;
  Fiber::switch_to(from->fiber, thread->fiber, from->finished);
}

void Block::preempt() {
  accesses_until_preemption_ = preemption_gap_ > 0 ? 1 + random(preemption_gap_) : std::numeric_limits<int64_t>::max();
  make_ready(running_->index / 32, 1u << running_->index % 32);
  if (launch_->blocks_meet && random(4) == 0) leave(State::interrupted);
  continue_with(next());
}

// The running thread goes on when another makes it ready.
void Block::wait(const char* what, Site site) {
  running_->waits_in = what;
  running_->site = site;
  continue_with(next());
}

}  // namespace PK_BUILD
