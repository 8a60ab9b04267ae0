#include "launch.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <numeric>
#include <system_error>
#include <thread>

#include "../core/status.h"
#include "cluster.h"

namespace PK_BUILD {

namespace {

// Clusters that are not running: their stacks are kept for the next launch. Never destroyed: one may still run when the process ends.
std::mutex& pool_mutex = *new std::mutex;
std::vector<std::unique_ptr<Cluster>>& pool = *new std::vector<std::unique_ptr<Cluster>>;

std::unique_ptr<Cluster> take() {
  std::lock_guard<std::mutex> lock(pool_mutex);
  if (pool.empty()) return std::make_unique<Cluster>();
  std::unique_ptr<Cluster> cluster = std::move(pool.back());
  pool.pop_back();
  return cluster;
}

void give_back(std::unique_ptr<Cluster> cluster) {
  cluster->blocks.clear();
  std::lock_guard<std::mutex> lock(pool_mutex);
  pool.push_back(std::move(cluster));
}

uint64_t os_threads() {
  const char* text = std::getenv("PEFT_KERNELS_EMULATOR_THREADS");
  const long wanted = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
  return wanted > 0 ? static_cast<uint64_t>(wanted) : std::max(1u, std::thread::hardware_concurrency());
}

// The order in which clusters start, without a list of them: position -> (multiplier * position + offset) mod clusters.
uint64_t cluster_at(uint64_t position, uint64_t clusters, uint64_t seed) {
  if (seed == 0) return position;
  const uint64_t hash = (seed * 0x9e3779b97f4a7c15u) >> 20;
  uint64_t multiplier = 1 + hash % std::min<uint64_t>(clusters, 1 << 20);  // small enough that the product does not wrap
  while (std::gcd(multiplier, clusters) != 1) ++multiplier;
  return (multiplier * position + hash % clusters) % clusters;
}

// Clusters that are resident on one OS thread. Their blocks take turns, which ends a turn only where blocks meet.
class Residents {
 public:
  explicit Residents(Launch& launch) : launch_(launch), random_((launch.seed * 0x9e3779b97f4a7c15u) | 1) {}
  ~Residents() {
    for (auto& cluster : clusters_) give_back(std::move(cluster));
  }
  uint64_t below(uint64_t bound) {
    random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
    return launch_.seed == 0 ? 0 : (random_ >> 20) % bound;
  }
  // Runs what no other OS thread has taken, so many clusters at a time. Throws where there is no memory.
  void run(uint64_t places);

 private:
  void start(uint64_t places);
  void remove(const Cluster& cluster);

  Launch& launch_;
  uint64_t random_, next_ = Launch::nowhere;  // next_: the position that was taken and has not started
  std::vector<std::unique_ptr<Cluster>> clusters_;
  std::vector<Block*> blocks_;  // of these, that have not ended
};

// Starts as many as there are places for.
void Residents::start(uint64_t places) {
  while (clusters_.size() < places) {
    if (next_ == Launch::nowhere) next_ = launch_.next_position.fetch_add(1, std::memory_order_relaxed);
    const Grid* last = &launch_.grids.back();
    if (next_ >= last->position + last->clusters || next_ > launch_.fault_position.load(std::memory_order_relaxed)) return;
    Grid* grid = &launch_.grids.front();
    while (next_ - grid->position >= grid->clusters) ++grid;
    if (grid->previous != nullptr && grid->previous->holding > 0) return;
    clusters_.push_back(take());
    if (!launch_.together) random_ = (launch_.seed + next_ * 2 + 1) * 0x9e3779b97f4a7c15u;  // whichever OS thread it is
    clusters_.back()->begin(launch_, *grid, next_, cluster_at(next_ - grid->position, grid->clusters, launch_.seed));
    for (const auto& block : clusters_.back()->blocks) blocks_.push_back(block.get());
    next_ = Launch::nowhere;
  }
}

void Residents::remove(const Cluster& cluster) {
  blocks_.erase(std::remove_if(blocks_.begin(), blocks_.end(), [&](const Block* block) { return &block->cluster == &cluster; }), blocks_.end());
  const auto found = std::find_if(clusters_.begin(), clusters_.end(), [&](const auto& resident) { return resident.get() == &cluster; });
  give_back(std::move(*found));
  clusters_.erase(found);
}

void Residents::run(uint64_t places) {
  for (start(places); !blocks_.empty(); start(places)) {
    if (std::all_of(blocks_.begin(), blocks_.end(), [](const Block* block) { return block->stalled; })) return blocks_.front()->cluster.note_deadlock();
    uint64_t chosen = below(blocks_.size());
    while (blocks_[chosen]->stalled) chosen = (chosen + 1) % blocks_.size();
    Block& block = *blocks_[chosen];
    Cluster& cluster = block.cluster;
    const Block::State state = block.go_on();
    if (block.has_moved()) {
      for (Block* other : blocks_) other->stalled = false;
    }
    block.stalled = state == Block::State::stalled;
    if (state == Block::State::faulty) {
      if (launch_.together) return;
      remove(cluster);
    } else if (state == Block::State::ended) {
      blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(chosen));
      block.let_next_grid_start();
      if (launch_.together) --cluster.grid->running;
      if (--cluster.live > 0) continue;
      if (launch_.detects_races) cluster.races.release_global(cluster.grid);
      remove(cluster);
    }
  }
}

// As a driver refuses a launch.
int32_t check_configuration(const LaunchShape& shape, const char* what, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return PK_OK;
  return fail(PK_ERROR_CUDA, "%s: invalid configuration argument: %s %llu, this chip has %llu to %llu", shape.kernel, what, static_cast<unsigned long long>(value),
              static_cast<unsigned long long>(least), static_cast<unsigned long long>(most));
}

int32_t check_shape(const LaunchShape& shape, const pk_chip& chip) {
  PK_TRY(check_configuration(shape, "threads per block", shape.block_threads, 1, most_threads));
  const uint32_t most_of_grid[] = {INT32_MAX, 65535, 65535}, grid[] = {shape.grid.x, shape.grid.y, shape.grid.z}, cluster[] = {shape.cluster.x, shape.cluster.y, shape.cluster.z};
  static constexpr const char* extents[] = {"grid extent x", "grid extent y", "grid extent z"};
  uint64_t blocks = 1, cluster_blocks = 1;
  for (int axis = 0; axis < 3; ++axis) {
    PK_TRY(check_configuration(shape, extents[axis], grid[axis], 1, most_of_grid[axis]));
    PK_TRY(check_configuration(shape, "extent of a cluster", cluster[axis], 1, most_cluster_blocks));
    PK_TRY(check_configuration(shape, "blocks past the last whole cluster", grid[axis] % cluster[axis], 0, 0));
    blocks *= grid[axis];
    cluster_blocks *= cluster[axis];
  }
  PK_TRY(check_configuration(shape, "blocks of a cluster", cluster_blocks, 1, chip.compute_capability >= 90 ? most_cluster_blocks : 1));
  PK_TRY(check_configuration(shape, "bytes of shared memory", shape.shared_bytes, 0, static_cast<uint64_t>(chip.shared_memory_per_block)));
  if (shape.blocks_wait != BlocksWait::for_all) return PK_OK;
  const uint64_t resident = static_cast<uint64_t>(chip.multiprocessors) * std::min<uint64_t>(2048 / shape.block_threads, 32);
  return check_configuration(shape, "blocks of a cooperative launch", blocks, 1, resident);
}

}  // namespace

int32_t imitated_chip(const pk_queue& queue, const char* what, pk_chip* chip) {
  // Compute capability, multiprocessors of its largest product, KiB of shared memory for a block.
  static constexpr int32_t chips[][3] = {{80, 108, 163}, {86, 84, 99}, {89, 142, 99}, {90, 132, 227}, {100, 148, 227}, {120, 188, 99}};
  const int32_t capability = queue.device == 0 ? 90 : queue.device;
  const auto known = std::find_if(std::begin(chips), std::end(chips), [&](const int32_t(&of)[3]) { return of[0] == capability; });
  if (known == std::end(chips)) {
    return fail(PK_ERROR_NO_DEVICE, "%s: the emulator imitates no chip of compute capability %d, expected 80, 86, 89, 90, 100 or 120", what, queue.device);
  }
  chip->compute_capability = capability;
  chip->multiprocessors = (*known)[1];
  chip->shared_memory_per_block = (*known)[2] * int64_t{1024};
  return PK_OK;
}

Extent3 Grid::block_index(uint64_t cluster, uint32_t rank) const {
  const Extent3& extent = shape.cluster;
  const auto of = [](uint64_t at, uint32_t blocks, uint32_t place) { return static_cast<uint32_t>(at) * blocks + place; };
  return {of(cluster % in_clusters.x, extent.x, rank % extent.x), of(cluster / in_clusters.x % in_clusters.y, extent.y, rank / extent.x % extent.y),
          of(cluster / in_clusters.x / in_clusters.y, extent.z, rank / extent.x / extent.y)};
}

int32_t run_grids(const pk_queue& queue, std::vector<PreparedLaunch> prepared) {
  pk_chip chip{};
  PK_TRY(imitated_chip(queue, prepared[0].shape.kernel, &chip));
  CounterRows* counters = active_counters();
  Launch launch;
  launch.seed = queue.stream;
  launch.detects_races = detects_races();
  launch.counts = counters != nullptr;
  launch.together = launch.blocks_meet = prepared.size() > 1;
  launch.grids.resize(prepared.size());
  std::vector<Operand*> operands;
  uint64_t position = 0;
  bool all_resident = false;
  for (size_t i = 0; i < prepared.size(); ++i) {
    Grid& grid = launch.grids[i];
    static_cast<PreparedLaunch&>(grid) = prepared[i];
    const LaunchShape& shape = grid.shape;
    PK_TRY(check_shape(shape, chip));
    for (Operand& operand : grid.operands.all) operands.push_back(&operand);
    grid.previous = i > 0 ? &launch.grids[i - 1] : nullptr;
    grid.in_clusters = {shape.grid.x / shape.cluster.x, shape.grid.y / shape.cluster.y, shape.grid.z / shape.cluster.z};
    grid.clusters = uint64_t{grid.in_clusters.x} * grid.in_clusters.y * grid.in_clusters.z;
    grid.position = position;
    grid.holding = grid.running = grid.clusters * grid.cluster_blocks();
    position += grid.clusters;
    launch.together = launch.together || shape.blocks_wait != BlocksWait::none;
    launch.blocks_meet = launch.blocks_meet || launch.together || grid.cluster_blocks() > 1;
    all_resident = all_resident || shape.blocks_wait == BlocksWait::for_all;
  }
  find_contended(operands);
  for (Operand* operand : operands) operand->watched = launch.counts || (launch.detects_races && operand->contended);

  std::atomic<bool> out_of_memory{false};
  const auto work = [&](uint64_t places) {
    try {
      Residents residents(launch);
      residents.run(places != 0 ? places : 1 + residents.below(std::min<uint64_t>(position, 16)));
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (uint64_t i = 1; !launch.together && i < std::min(os_threads(), position); ++i) helpers.emplace_back(work, 1);
  } catch (const std::system_error&) {
    // fewer threads do it as well
  }
  work(!launch.together ? 1 : all_resident ? position : 0);
  for (std::thread& helper : helpers) helper.join();
  if (out_of_memory) return fail(PK_ERROR_EMULATOR, "%s: no memory for the stacks of %u threads", prepared[0].shape.kernel, prepared[0].shape.block_threads);
  if (!launch.report.empty()) return fail(PK_ERROR_EMULATOR, "%s", launch.report.c_str());
  if (counters != nullptr) {
    for (const Grid& grid : launch.grids) ++counters->at(Counted::launches, grid.shape.kernel, "").count;
    counters->add(launch.counters);
  }
  return PK_OK;
}

}  // namespace PK_BUILD
