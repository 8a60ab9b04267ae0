#include "launch.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <system_error>
#include <thread>

#include "../core/status.h"
#include "block.h"

namespace PK_BUILD {

namespace {

// Blocks that are not running: their stacks are kept for the next launch.
class BlockPool {
 public:
  std::unique_ptr<Block> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return std::make_unique<Block>();
    std::unique_ptr<Block> block = std::move(free_.back());
    free_.pop_back();
    return block;
  }
  void give_back(std::unique_ptr<Block> block) {
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(block));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Block>> free_;
};

BlockPool& pool() {
  static BlockPool& blocks = *new BlockPool;  // never destroyed: a launch may still run when the process ends
  return blocks;
}

uint64_t os_threads() {
  static const uint64_t count = [] {
    const char* text = std::getenv("PEFT_KERNELS_EMULATOR_THREADS");
    const long wanted = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
    return wanted > 0 ? static_cast<uint64_t>(wanted) : std::max(1u, std::thread::hardware_concurrency());
  }();
  return count;
}

// The order in which blocks start, without a list of them: position -> (multiplier * position + offset) mod blocks.
struct BlockOrder {
  uint64_t blocks, multiplier = 1, offset = 0;

  BlockOrder(uint64_t block_count, uint64_t seed) : blocks(block_count) {
    if (seed == 0) return;
    const uint64_t hash = (seed * 0x9e3779b97f4a7c15u) >> 20;
    offset = hash % blocks;
    multiplier = 1 + hash % std::min<uint64_t>(blocks, 1 << 20);  // small enough that the product does not wrap
    while (std::gcd(multiplier, blocks) != 1) ++multiplier;
  }
  uint64_t at(uint64_t position) const { return (multiplier * position + offset) % blocks; }
};

// Blocks that wait for each other: some are resident at a time, and take turns on this OS thread. False: no memory.
bool run_together(Launch& launch, uint64_t blocks, const BlockOrder& order) {
  uint64_t random = launch.seed * 0x9e3779b97f4a7c15u | 1;
  const auto below = [&](uint64_t bound) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return launch.seed == 0 ? 0 : (random >> 20) % bound;
  };
  const uint64_t places = launch.shape.blocks_wait == BlocksWait::for_all ? blocks : 1 + below(std::min<uint64_t>(blocks, 16));
  struct Resident {
    std::unique_ptr<Block> block;
    bool stalled;
  };
  std::vector<Resident> residents;
  uint64_t position = 0, stalled = 0;
  bool enough_memory = true;
  while (enough_memory && launch.fault_position.load(std::memory_order_relaxed) == Launch::nowhere) {
    while (enough_memory && residents.size() < places && position < blocks) {
      residents.push_back({pool().take(), false});
      enough_memory = residents.back().block->begin(launch, position, order.at(position));
      ++position;
    }
    if (residents.empty() || !enough_memory) break;
    if (stalled == residents.size()) {
      residents.front().block->note_deadlock();
      break;
    }
    uint64_t chosen = below(residents.size());
    while (residents[chosen].stalled) chosen = (chosen + 1) % residents.size();
    Block& block = *residents[chosen].block;
    const Block::State state = block.go_on();
    if (block.has_moved()) {
      for (Resident& resident : residents) resident.stalled = false;
      stalled = 0;
    }
    if (state == Block::State::stalled) {
      residents[chosen].stalled = true;
      ++stalled;
    } else if (state == Block::State::ended) {
      block.forget_launch();
      pool().give_back(std::move(residents[chosen].block));
      residents.erase(residents.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
  }
  for (Resident& resident : residents) {
    resident.block->forget_launch();
    pool().give_back(std::move(resident.block));
  }
  return enough_memory;
}

// As a driver refuses a launch.
int32_t check_configuration(const LaunchShape& shape, const char* what, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return PK_OK;
  return fail(PK_ERROR_CUDA, "%s: invalid configuration argument: %s %llu, this chip has %llu to %llu", shape.kernel, what, static_cast<unsigned long long>(value),
              static_cast<unsigned long long>(least), static_cast<unsigned long long>(most));
}

}  // namespace

bool imitated_chip(const pk_queue& queue, pk_chip* chip) {
  // Compute capability, multiprocessors of its largest product, KiB of shared memory for a block.
  static constexpr int32_t chips[][3] = {{80, 108, 163}, {86, 84, 99}, {89, 142, 99}, {90, 132, 227}, {100, 148, 227}, {120, 188, 99}};
  const int32_t capability = queue.device == 0 ? 90 : queue.device;
  for (const auto& known : chips) {
    if (known[0] != capability) continue;
    chip->compute_capability = capability;
    chip->multiprocessors = known[1];
    chip->shared_memory_per_block = known[2] * int64_t{1024};
    return true;
  }
  return false;
}

int32_t run_grid(const pk_queue& queue, const LaunchShape& shape, const Operands& operands, void (*body)(void*), void* argument) {
  pk_chip chip{};
  if (!imitated_chip(queue, &chip)) return fail(PK_ERROR_NO_DEVICE, "%s: the emulator imitates no chip of compute capability %d / 10", shape.kernel, queue.device);
  PK_TRY(check_configuration(shape, "threads per block", shape.block_threads, 1, most_threads));
  PK_TRY(check_configuration(shape, "grid extent x", shape.grid.x, 1, INT32_MAX));
  PK_TRY(check_configuration(shape, "grid extent y", shape.grid.y, 1, 65535));
  PK_TRY(check_configuration(shape, "grid extent z", shape.grid.z, 1, 65535));
  PK_TRY(check_configuration(shape, "bytes of shared memory", shape.shared_bytes, 0, static_cast<uint64_t>(chip.shared_memory_per_block)));

  Launch launch;
  launch.shape = shape;
  launch.operands = &operands.all();
  launch.seed = queue.stream;
  launch.detects_races = detects_races();
  CounterRows* counters = active_counters();
  launch.counts = counters != nullptr;
  launch.body = body;
  launch.argument = argument;
  const uint64_t blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  const BlockOrder order(blocks, launch.seed);
  std::atomic<bool> out_of_memory{false};
  const auto work = [&] {
    std::unique_ptr<Block> block = pool().take();
    for (;;) {
      const uint64_t position = launch.next_position.fetch_add(1, std::memory_order_relaxed);
      if (position >= blocks || position > launch.fault_position.load(std::memory_order_relaxed) || out_of_memory) break;
      if (!block->begin(launch, position, order.at(position))) out_of_memory = true;
      else block->go_on();
    }
    block->forget_launch();
    pool().give_back(std::move(block));
  };

  if (shape.blocks_wait == BlocksWait::for_all) {
    const uint64_t resident = static_cast<uint64_t>(chip.multiprocessors) * std::min<uint64_t>(2048 / shape.block_threads, 32);
    PK_TRY(check_configuration(shape, "blocks of a cooperative launch", blocks, 1, resident));
  }
  if (shape.blocks_wait != BlocksWait::none) {
    out_of_memory = !run_together(launch, blocks, order);
  } else {
    std::vector<std::thread> helpers;
    try {
      for (uint64_t i = 1; i < std::min(os_threads(), blocks); ++i) helpers.emplace_back(work);
    } catch (const std::system_error&) {
      // fewer threads do it as well
    }
    work();
    for (std::thread& helper : helpers) helper.join();
  }
  if (out_of_memory) return fail(PK_ERROR_EMULATOR, "%s: no memory for the stacks of %u threads", shape.kernel, shape.block_threads);
  if (!launch.report.empty()) return fail(PK_ERROR_EMULATOR, "%s", launch.report.c_str());
  if (counters != nullptr) {
    ++counters->at(Counted::launches, shape.kernel, "").count;
    counters->add(launch.counters);
  }
  return PK_OK;
}

}  // namespace PK_BUILD
