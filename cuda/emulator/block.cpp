#include "block.h"

#include <limits>

#include "bulk_copy.h"
#include "cluster.h"

namespace PK_BUILD {

__thread Block* current_block = nullptr;

namespace {

uint64_t mixed(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0x9e3779b97f4a7c15u;
  return state ^ state >> 29;
}

}  // namespace

Block::Block(Cluster& of, uint32_t rank_in_cluster)
    : cluster(of),
      launch(*of.launch),
      grid(*of.grid),
      rank(rank_in_cluster),
      index(grid.block_index(of.number, rank)),
      shared(of.memory + rank * shared_arena_bytes),
      unfenced(of.unfenced),
      races(launch.detects_races ? &of.races : nullptr) {
  // The schedule follows from these alone.
  const Extent3& blocks = grid.shape.grid;
  const uint64_t number = (uint64_t{index.z} * blocks.y + index.y) * blocks.x + index.x, seed = launch.seed;
  random_state_ = mixed(mixed(mixed(mixed(seed + 1, number), extent.x), blocks.x), uint64_t{blocks.y} << 32 | blocks.z) | 1;
  order_ = seed == 0 ? Order::plain : seed % 8 == 6 ? Order::reverse : seed % 8 == 7 ? Order::uniform : Order::priorities;
  const bool preempts = order_ == Order::uniform || order_ == Order::priorities;
  preemption_gap_ = preempts ? 16u << random(7) : 0;
  accesses_until_preemption_ = preempts ? 1 + random(preemption_gap_) : std::numeric_limits<int64_t>::max();

  for (uint32_t warp = 0; warp < warp_count_; ++warp) {
    priorities_[warp] = warp;
    warps_[warp].alive = extent.x - warp * 32 >= 32 ? all_lanes : (1u << extent.x % 32) - 1;
    make_ready(warp, warps_[warp].alive);
  }
  threads.reserve(extent.x);
  for (uint32_t i = 0; i < extent.x; ++i) {
    const uint32_t id = rank * extent.x + i;
    threads.push_back({&of.fibers[id], i, id});
    threads[i].fiber->prepare(run_thread);
  }
  running_ = choose();
}

Block::State Block::go_on() {
  current_block = this;
  state_ = State::faulty;  // unless it leaves otherwise
  changed_ = true;         // by other blocks
  Fiber::switch_to(root_, *running_->fiber, false);
  if (state_ == State::ended && counters != nullptr) {
    counters->threads_met();
    std::lock_guard<std::mutex> lock(launch.mutex);
    launch.counters.add(counters->rows());
  }
  current_block = nullptr;
  return state_;
}

void Block::run_thread() {
  Block& block = *current_block;
  Fiber::entered(block.root_);
  block.grid.call();
  block.exit_thread();
  __builtin_trap();
}

void Block::exit_thread() {
  Thread& thread = *running_;
  if (!thread.copies.empty()) fault(thread.copies.front().site, "ends while this copy_async of it is under way");
  const BulkGroups& bulk = thread.bulk;
  if (bulk.reads_waited_for < bulk.stores.size()) fault(bulk.stores[bulk.reads_waited_for]->site, "copies from shared memory, and exits without waiting until that has been read");
  if (live == 1) check_end();
  thread.finished = true;
  --live;
  const uint32_t warp = thread.index / 32;
  warps_[warp].alive &= ~(1u << thread.index % 32);
  // A thread that has exited is waited for no more.
  for (uint32_t open = warps_[warp].open; open != 0; open &= open - 1) complete(warp, static_cast<uint32_t>(__builtin_ctz(open)));
  if (barrier_arrived_ > 0 && barrier_arrived_ == live) release_barrier();
  cluster.thread_exits(thread);
  if (live == 0) {
    state_ = State::ended;
    Fiber::switch_to(*thread.fiber, root_, true);
  }
  continue_with(next());
}

// Before its last thread exits.
void Block::check_end() {
  cluster.check_exit(*this);
  if (!operations_.empty()) {
    issuer_ = operations_.front().issuer;
    fault(operations_.front().site, "ends with the block while its %s is under way", operations_.front().what);
  }
  for (const Thread& thread : threads) {
    for (const auto& store : thread.bulk.stores) store->write();  // which nobody had to wait for
  }
  ending_ = true;
  shared.check_guards();
  hopper.check_end();
  ending_ = false;
}

void Block::watch_shared(const void* address, uint32_t bytes, bool write, Site site) {
  if (races != nullptr) races->access(address, bytes, write ? Access::write : Access::read, site);
  count_shared(address, bytes, write, site);
}

void Block::watch_global(const Operand& operand, const void* address, uint64_t bytes, Right wanted, Site site, bool atomic) {
  if (counters != nullptr) counters->global(running_->index, operand, address, bytes, wanted, site);
  if (races == nullptr || !operand.contended) return;
  races->access_global(address, static_cast<uint32_t>(bytes), atomic || wanted == Right::read_write ? Access::atomic : wanted == Right::read ? Access::read : Access::write, site);
}

void Block::check_run(const char* address, uint32_t bytes, Right wanted, Site site) {
  bool contended = false;
  const Operand* operand = nullptr;
  for (uint32_t done = 0, step = 16; done < bytes; done += step) {
    for (step = 16; reinterpret_cast<uintptr_t>(address + done) % step != 0 || step > bytes - done;) step /= 2;
    operand = &operand_of(address + done, step, wanted, site);
    contended = contended || operand->contended;
  }
  if (counters != nullptr && operand != nullptr) counters->run(*operand, address, bytes, wanted);
  if (races != nullptr && contended) races->access_global(address, bytes, wanted == Right::read ? Access::read : Access::write, site);
}

}  // namespace PK_BUILD
