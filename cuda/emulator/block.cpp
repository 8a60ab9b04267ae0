#include "block.h"

#include <limits>

#include "hopper.h"

namespace PK_BUILD {

__thread Block* current_block = nullptr;

namespace {

uint64_t mixed(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0x9e3779b97f4a7c15u;
  return state ^ state >> 29;
}

}  // namespace

bool Block::begin(Launch& launch, uint64_t position, uint64_t block_number) {
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
  next_due_ = std::numeric_limits<uint64_t>::max();

  warp_count_ = (count + 31) / 32;
  ready_warps_ = 0;
  live_ = count;
  barrier_arrived_ = waiting_ = 0;
  operations_.clear();
  changed_ = false;
  issuer_ = nullptr;
  hopper_ = nullptr;
  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    const uint32_t lanes = count - warp * 32 >= 32 ? all_lanes : (1u << count % 32) - 1;
    warps_[warp].alive = lanes;
    warps_[warp].ready = warps_[warp].at_barrier = warps_[warp].waiting = warps_[warp].open = 0;
    priorities_[warp] = warp;
    make_ready(warp, lanes);
  }
  if (!shared_.reserve()) return false;
  shared_.begin_block();
  shared_races_.begin_block(launch.detects_races, this, shared_.begin(), count);
  unfenced_writes_.begin_block(shared_.begin(), count);
  while (threads_.size() < count) threads_.push_back(std::make_unique<Thread>());
  for (uint32_t i = 0; i < count; ++i) {
    threads_[i]->index = i;
    threads_[i]->finished = false;
    threads_[i]->copies.clear();
    threads_[i]->copy_groups = 0;
    if (!threads_[i]->fiber.prepare(fiber_entry)) return false;
  }

  global_log_.begin_block(launch.detects_races && uint64_t{grid.x} * grid.y * grid.z > 1 ? &launch : nullptr, position, block_number);
  counters_ = launch.counts ? std::make_unique<BlockCounters>(launch.shape.kernel) : nullptr;
  waiting_for_blocks_ = 0;
  running_ = nullptr;
  return true;
}

Block::State Block::go_on() {
  current_block = this;
  state_ = State::ended;
  changed_ = true;  // by other blocks
  if (running_ == nullptr) {
    running_ = choose();
    moved_ = true;
  }
  Fiber::switch_to(root_, running_->fiber, false);
  current_block = nullptr;
  if (state_ != State::ended) return state_;
  running_ = nullptr;
  if (live_ == 0) {
    const bool sound = check_end();
    if (sound && global_log_.on()) global_log_.end_segment();
    if (counters_ != nullptr) {
      counters_->threads_met();
      std::lock_guard<std::mutex> lock(launch_->mutex);
      launch_->counters.add(counters_->rows());
    }
  }
  return State::ended;
}

bool Block::check_end() {
  std::string wrong = shared_.check_guards();
  if (wrong.empty() && hopper_ != nullptr) wrong = hopper_->finish_block();
  if (!operations_.empty()) note_fault(describe_unfinished());
  else if (!wrong.empty()) note_fault(std::string(launch_->shape.kernel) + ": " + place(nullptr) + ": " + wrong);
  return operations_.empty() && wrong.empty();
}

void Block::forget_launch() {
  launch_ = nullptr;
  counters_.reset();
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

Hopper& Block::begin_hopper() {
  hopper_ = std::make_shared<Hopper>();
  return *hopper_;
}

void Block::thread_finished() {
  Thread& thread = *running_;
  if (!thread.copies.empty()) fault(thread.copies.front().site, "ends while this copy_async of it is under way");
  if (hopper_ != nullptr) hopper_->thread_exits(thread.index);
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

}  // namespace PK_BUILD
