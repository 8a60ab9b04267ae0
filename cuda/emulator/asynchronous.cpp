// What lands later than it was issued, and who waits for it.
#include "block.h"

#include <algorithm>
#include <limits>

namespace PK_BUILD {

namespace {
constexpr uint64_t never = std::numeric_limits<uint64_t>::max();
}

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
    if (changed_) wake();
    if (ready_warps_ != 0 || operations_.empty()) return;
    land(random(static_cast<uint32_t>(operations_.size())));
  }
}

void Block::wake() {
  changed_ = false;
  if (waiting_ == 0) return;
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    uint32_t awake = 0;
    for (uint32_t lanes = warps_[warp].waiting; lanes != 0; lanes &= lanes - 1) {
      const Thread& thread = *threads_[warp * 32 + static_cast<uint32_t>(__builtin_ctz(lanes))];
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
