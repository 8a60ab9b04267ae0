#include "block.h"

#include <cstdio>
#include <cstring>
#include <limits>

namespace PK_BUILD {

__thread Block* current_block = nullptr;

bool operator==(const Site& left, const Site& right) {
  return left.line == right.line && (left.file == right.file || std::strcmp(left.file, right.file) == 0);
}

namespace {

uint32_t nth_bit(uint32_t bits, uint32_t n) {
  for (; n > 0; --n) bits &= bits - 1;
  return static_cast<uint32_t>(__builtin_ctz(bits));
}

uint32_t count_bits(uint32_t bits) { return static_cast<uint32_t>(__builtin_popcount(bits)); }

uint64_t mixed(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0x9e3779b97f4a7c15u;
  return state ^ state >> 29;
}

std::string text_of(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string text_of(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

std::string text_of(Extent3 index) { return text_of("(%u,%u,%u)", index.x, index.y, index.z); }

}  // namespace

// ---- a block from its first thread to its last --------------------------------------------------------------------------------------------------------------

bool Block::run(Launch& launch, uint64_t position, uint64_t block_number) {
  launch_ = &launch;
  position_ = position;
  grid = launch.shape.grid;
  extent = {launch.shape.block_threads, 1, 1};
  index = {static_cast<uint32_t>(block_number % grid.x), static_cast<uint32_t>(block_number / grid.x % grid.y), static_cast<uint32_t>(block_number / grid.x / grid.y)};
  const uint32_t count = launch.shape.block_threads;

  // The schedule follows from these alone.
  random_state_ = mixed(mixed(mixed(mixed(launch.seed + 1, block_number), count), grid.x), uint64_t{grid.y} << 32 | grid.z) | 1;
  order_ = launch.seed == 0 ? Order::plain : launch.seed % 8 == 6 ? Order::reverse : launch.seed % 8 == 7 ? Order::uniform : Order::priorities;
  const bool preempts = order_ == Order::uniform || order_ == Order::priorities;
  preemption_gap_ = preempts ? 16u << random(7) : 0;
  accesses_until_preemption_ = preempts ? 1 + random(preemption_gap_) : std::numeric_limits<int64_t>::max();
  choices_ = reshuffle_at_ = 0;

  warp_count_ = (count + 31) / 32;
  ready_warps_ = 0;
  live_ = count;
  barrier_arrived_ = 0;
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    const uint32_t lanes = count - warp * 32 >= 32 ? all_lanes : (1u << count % 32) - 1;
    warps_[warp].alive = lanes;
    warps_[warp].ready = warps_[warp].at_barrier = warps_[warp].open = 0;
    priorities_[warp] = warp;
    make_ready(warp, lanes);
  }
  if (!shared_.reserve()) return false;
  shared_.begin_block();
  while (threads_.size() < count) threads_.push_back(std::make_unique<Thread>());
  for (uint32_t i = 0; i < count; ++i) {
    threads_[i]->index = i;
    threads_[i]->finished = false;
    if (!threads_[i]->fiber.prepare(fiber_entry)) return false;
  }

  current_block = this;
  running_ = choose();
  Fiber::switch_to(root_, running_->fiber, false);
  running_ = nullptr;
  if (live_ == 0) {
    const std::string wrong = shared_.check_guards();
    if (!wrong.empty()) note_fault(text_of("%s: block %s seed %llu: ", launch.shape.kernel, text_of(index).c_str(), static_cast<unsigned long long>(launch.seed)) + wrong);
  }
  current_block = nullptr;
  return true;
}

void Block::forget_launch() {
  launch_ = nullptr;
  root_.forget_stack();
  for (RecentRun& recent : recent_) recent = RecentRun();
}

void Block::fiber_entry() {
  Block& block = *current_block;
  Fiber::entered(block.root_);
  block.launch_->body(block.launch_->argument);
  block.thread_finished();
  __builtin_trap();
}

void Block::thread_finished() {
  Thread& thread = *running_;
  thread.finished = true;
  --live_;
  const uint32_t warp = thread.index / 32;
  warps_[warp].alive &= ~(1u << thread.index % 32);
  // A thread that has exited is waited for no more.
  for (uint32_t open = warps_[warp].open; open != 0; open &= open - 1) complete(warp, static_cast<uint32_t>(__builtin_ctz(open)));
  if (barrier_arrived_ > 0 && barrier_arrived_ == live_) release_barrier();
  if (live_ == 0) Fiber::switch_to(thread.fiber, root_, true);
  continue_with(next());
}

// ---- faults -------------------------------------------------------------------------------------------------------------------------------------------------

void Block::note_fault(const std::string& report) {
  std::lock_guard<std::mutex> lock(launch_->mutex);
  if (position_ >= launch_->fault_position.load(std::memory_order_relaxed)) return;
  launch_->fault_position.store(position_, std::memory_order_relaxed);
  launch_->report = report;
}

void Block::abandon() {
  Fiber::switch_to(running_->fiber, root_, false);
  __builtin_trap();
}

void Block::fault(Site site, const char* format, ...) {
  {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    note_fault(text_of("%s at %s:%d: block %s thread (%u,0,0) seed %llu ", launch_->shape.kernel, site.file, site.line, text_of(index).c_str(), running_->index,
                       static_cast<unsigned long long>(launch_->seed)) +
               text);
  }
  abandon();
}

void Block::report_deadlock() {
  {
    struct Group {
      const Thread* first;
      uint32_t count;
    };
    std::vector<Group> groups;
    for (uint32_t i = 0; i < extent.x; ++i) {
      const Thread* thread = threads_[i].get();
      if (thread->finished) continue;
      Group* found = nullptr;
      for (Group& group : groups) {
        if (group.first->site == thread->site && std::strcmp(group.first->waits_in, thread->waits_in) == 0) found = &group;
      }
      if (found != nullptr) ++found->count;
      else groups.push_back({thread, 1});
    }
    std::string report = text_of("%s: block %s seed %llu: deadlock, none of %u threads can go on:", launch_->shape.kernel, text_of(index).c_str(),
                                 static_cast<unsigned long long>(launch_->seed), live_);
    for (const Group& group : groups) {
      report += text_of("%s %u (the first is %u) in %s at %s:%d", &group == groups.data() ? "" : ",", group.count, group.first->index, group.first->waits_in, group.first->site.file,
                        group.first->site.line);
    }
    note_fault(report);
  }
  abandon();
}

void Block::find_operand(const void* address, uint64_t bytes, Right wanted, Site site) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes == 0) {
    for (const Operand& operand : *launch_->operands) {
      uintptr_t run = 0;
      if (!operand.allows(wanted) || !operand.find_run(begin, bytes, &run)) continue;
      if (((begin - run) | bytes) % operand.element_bytes != 0) continue;
      recent_[static_cast<uint32_t>(site.line) % recent_count] = {run, operand.run_bytes, operand.element_bytes - 1, &operand};
      return;
    }
  }
  std::string sentence = describe_access(*launch_->operands, begin, bytes, wanted);
  char text[512];  // the string must be gone when the fiber is dropped
  std::snprintf(text, sizeof text, "%s", sentence.c_str());
  std::string().swap(sentence);
  fault(site, "%s", text);
}

// ---- which thread goes on -----------------------------------------------------------------------------------------------------------------------------------

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
  if (position_ > launch_->fault_position.load(std::memory_order_relaxed)) abandon();
  if (ready_warps_ == 0) report_deadlock();
  return choose();
}

// Takes one of the threads that are ready.
Thread* Block::choose() {
  uint32_t warp = 0, lane = 0;
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
      if (++choices_ > reshuffle_at_) {
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
  continue_with(next());
}

// The running thread goes on when another makes it ready.
void Block::wait(const char* what, Site site) {
  running_->waits_in = what;
  running_->site = site;
  continue_with(next());
}

// ---- the barrier of the block -------------------------------------------------------------------------------------------------------------------------------

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
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    make_ready(warp, warps_[warp].at_barrier);
    warps_[warp].at_barrier = 0;
  }
}

// ---- collectives of a warp ----------------------------------------------------------------------------------------------------------------------------------

void Block::collective(uint32_t mask, const char* name, CollectiveFunction function, void* record, Site site) {
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
    warp.meetings[number] = {mask, 0, function, name, site};
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
  meeting.function(records);
  const uint32_t self = running_->finished || running_->index / 32 != warp_index ? 0 : 1u << running_->index % 32;
  make_ready(warp_index, meeting.arrived & ~self);
  return true;
}

}  // namespace PK_BUILD
