#include "block.h"

#include <limits>

#include "bulk_copy.h"
#include "cluster.h"
#include "hopper.h"

namespace PK_BUILD {

__thread Block* current_block = nullptr;

namespace {

uint64_t mixed(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0x9e3779b97f4a7c15u;
  return state ^ state >> 29;
}

}  // namespace

bool Block::begin(Cluster& cluster, uint32_t rank) {
  launch_ = cluster.launch;
  grid_ = cluster.grid;
  cluster_ = &cluster;
  rank_ = rank;
  grid = grid_->shape.grid;
  index = grid_->block_index(cluster.number, rank);
  const uint32_t count = grid_->shape.block_threads;
  extent = {count, 1, 1};

  // The schedule follows from these alone.
  const uint64_t number = (uint64_t{index.z} * grid.y + index.y) * grid.x + index.x;
  random_state_ = mixed(mixed(mixed(mixed(launch_->seed + 1, number), count), grid.x), uint64_t{grid.y} << 32 | grid.z) | 1;
  order_ = launch_->seed == 0 ? Order::plain : launch_->seed % 8 == 6 ? Order::reverse : launch_->seed % 8 == 7 ? Order::uniform : Order::priorities;
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
  shared_.begin_block(cluster.memory + rank * shared_arena_bytes);
  while (threads_.size() < count) threads_.push_back(std::make_unique<Thread>());
  for (uint32_t i = 0; i < count; ++i) {
    Thread& thread = *threads_[i];
    thread.index = i;
    thread.id = rank * count + i;
    thread.finished = thread.at_cluster_barrier = false;
    thread.copies.clear();
    thread.copy_groups = 0;
    thread.bulk = BulkGroups();
    if (!thread.fiber.prepare(fiber_entry)) return false;
  }
  unfenced_ = &cluster.unfenced;
  races_ = launch_->detects_races ? &cluster.races : nullptr;
  counters_ = launch_->counts ? std::make_unique<BlockCounters>(grid_->shape.kernel) : nullptr;
  watched_ = races_ != nullptr || counters_ != nullptr;
  holds_next_grid_ = true;
  knows_cluster = false;
  running_ = nullptr;
  return true;
}

Block::State Block::go_on() {
  current_block = this;
  state_ = State::faulty;  // unless it leaves otherwise
  changed_ = true;         // by other blocks
  if (running_ == nullptr) {
    running_ = choose();
    moved_ = true;
  }
  Fiber::switch_to(root_, running_->fiber, false);
  if (state_ == State::ended) {
    if (!check_end()) state_ = State::faulty;
    if (counters_ != nullptr) {
      counters_->threads_met();
      std::lock_guard<std::mutex> lock(launch_->mutex);
      launch_->counters.add(counters_->rows());
    }
  }
  current_block = nullptr;
  return state_;
}

bool Block::check_end() {
  for (uint32_t i = 0; i < extent.x; ++i) {
    for (const auto& store : threads_[i]->bulk.stores) store->write();  // which nobody had to wait for
  }
  std::string wrong = shared_.check_guards();
  if (wrong.empty() && hopper_ != nullptr) wrong = hopper_->check_end();
  if (!operations_.empty()) launch_->note_fault(cluster_->position, describe_unfinished());
  else if (!wrong.empty()) launch_->note_fault(cluster_->position, std::string(grid_->shape.kernel) + ": " + place(nullptr) + ": " + wrong);
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
  (*block.grid_->call)();
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
  const BulkGroups& bulk = thread.bulk;
  if (bulk.reads_waited_for < bulk.stores.size()) fault(bulk.stores[bulk.reads_waited_for]->site, "copies from shared memory, and exits without waiting until that has been read");
  if (live_ == 1) cluster_->check_exit(*this);
  thread.finished = true;
  --live_;
  const uint32_t warp = thread.index / 32;
  warps_[warp].alive &= ~(1u << thread.index % 32);
  // A thread that has exited is waited for no more.
  for (uint32_t open = warps_[warp].open; open != 0; open &= open - 1) complete(warp, static_cast<uint32_t>(__builtin_ctz(open)));
  if (barrier_arrived_ > 0 && barrier_arrived_ == live_) release_barrier();
  cluster_->thread_exits(thread);
  if (live_ == 0) {
    state_ = State::ended;
    Fiber::switch_to(thread.fiber, root_, true);
  }
  continue_with(next());
}

void Block::watch_shared(const void* address, uint32_t bytes, bool write, Site site) {
  if (races_ != nullptr) races_->access(address, bytes, write ? Access::write : Access::read, site);
  count_shared(address, bytes, write, site);
}

void Block::watch_global(const Operand& operand, const void* address, uint64_t bytes, Right wanted, Site site, bool atomic) {
  if (counters_ != nullptr) counters_->global(running_->index, operand, address, bytes, wanted, site);
  if (races_ == nullptr || !operand.contended) return;
  races_->access_global(address, static_cast<uint32_t>(bytes), atomic || wanted == Right::read_write ? Access::atomic : wanted == Right::read ? Access::read : Access::write, site);
}

}  // namespace PK_BUILD
