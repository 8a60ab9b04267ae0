// Kernels with a fault of order planted each, and the same kernels without it. A report names every line that ends in `planted:` and the fault's name.
#include "ptx/launch.cuh"
#include "ptx/ptx.cuh"

namespace PK_BUILD {
namespace {

constexpr uint32_t kThreads = 256, kBlocks = 24;

struct Shared {
  SharedArray<float, 4 * kThreads> first, second;
  SharedArray<uint16_t, 8 * 32 * (kThreads / 32)> rows;
};

// input [1024], results [24, 256], flags [4] which are zero
struct Problem {
  const float* input;
  float* results;
  uint32_t* flags;
};

PK_DEVICE uint32_t thread() { return thread_index().x; }
PK_DEVICE float* own_result(const Problem& problem) { return problem.results + block_index().x * kThreads + thread(); }

// ---- shared memory ----------------------------------------------------------------------------------------------------------------------------------------------

template <bool SOUND>
PK_KERNEL void write_then_read(Problem problem) {
  PK_SHARED(Shared, shared);
  shared.first.store(thread(), load_global(problem.input + thread()));  // planted: write_then_read
  if (SOUND) barrier();
  store_global(own_result(problem), shared.first.load((thread() + 37) % kThreads));  // planted: write_then_read
}

template <bool SOUND>
PK_KERNEL void read_then_write(Problem problem) {
  PK_SHARED(Shared, shared);
  shared.first.store(thread(), load_global(problem.input + thread()));
  barrier();
  const float value = shared.first.load((thread() + 37) % kThreads);  // planted: read_then_write
  if (SOUND) barrier();
  shared.first.store(thread(), value + 1);  // planted: read_then_write
  barrier();
  store_global(own_result(problem), shared.first.load(thread()));
}

template <bool SOUND>
PK_KERNEL void both_write(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t target = SOUND ? thread() : thread() / 2;
  shared.first.store(target, 1.0f);  // planted: both_write
  barrier();
  store_global(own_result(problem), shared.first.load(target));
}

// One warp transposes a tile of 32 x 32 by rows and columns.
template <bool SOUND>
PK_KERNEL void warp_transpose(Problem problem) {
  PK_SHARED(Shared, shared);
  if (warp() != 0) return;
  for (uint32_t i = 0; i < 32; ++i) shared.first.store(i * 32 + (lane() + i) % 32, load_global(problem.input + i * 32 + lane()));  // planted: warp_transpose
  if (SOUND) warp_barrier();
  else shuffle(0.0f, 0);  // which orders no memory
  float sum = 0;
  for (uint32_t i = 0; i < 32; ++i) sum = sum * 0.5f + shared.first.load(lane() * 32 + (i + lane()) % 32);  // planted: warp_transpose
  store_global(own_result(problem), sum);
}

template <bool SOUND>
PK_KERNEL void rows_not_stored(Problem problem) {
  PK_SHARED(Shared, shared);
  for (uint32_t i = 0; i < 8; ++i) shared.rows.store(warp() * 256 + i * 32 + lane(), static_cast<uint16_t>(thread() + i));  // planted: rows_not_stored
  if (SOUND) warp_barrier();
  uint32_t fragments[4];
  load_matrices(fragments, shared.rows, warp() * 256 + lane() * 8);  // planted: rows_not_stored
  store_global(own_result(problem), static_cast<float>(fragments[0] % 1000));
}

template <bool SOUND>
PK_KERNEL void fragments_overwritten(Problem problem) {
  PK_SHARED(Shared, shared);
  uint32_t fragments[4] = {thread(), thread() + 1, thread() + 2, thread() + 3};
  const uint32_t reader = SOUND ? warp() : (warp() + 1) % 8;
  store_matrices(shared.rows, warp() * 256 + lane() * 8, fragments);  // planted: fragments_overwritten
  warp_barrier();
  store_global(own_result(problem), static_cast<float>(shared.rows.load(reader * 256 + lane() * 8)));  // planted: fragments_overwritten
}

// ---- asynchronous copies ----------------------------------------------------------------------------------------------------------------------------------------

template <bool SOUND>
PK_KERNEL void missing_wait(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<16>(shared.first, thread() * 4, problem.input + thread() * 4);  // planted: missing_wait
  commit_group();
  if (SOUND) wait_group<0>();
  barrier();
  store_global(own_result(problem), shared.first.load((thread() * 4 + 64) % 1024));  // planted: missing_wait
  wait_group<0>();
}

// Its own bytes, which no barrier helps with.
template <bool SOUND>
PK_KERNEL void own_bytes_under_way(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<8>(shared.first, thread() * 2, problem.input + thread() * 2);  // planted: own_bytes_under_way
  if (SOUND) commit_group();  // what is in no group is not waited for
  wait_group<0>();
  const float value = shared.first.load(thread() * 2 + 1);  // planted: own_bytes_under_way
  commit_group();
  wait_group<0>();
  store_global(own_result(problem), value);
}

template <bool SOUND>
PK_KERNEL void one_group_short(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<4>(shared.first, thread(), problem.input + thread());
  commit_group();
  copy_async<4>(shared.second, thread(), problem.input + 256 + thread());  // planted: one_group_short
  commit_group();
  wait_group<1>();
  barrier();
  float value = shared.first.load((thread() + 5) % kThreads);
  wait_group<SOUND ? 0 : 1>();
  barrier();
  value += shared.second.load((thread() + 5) % kThreads);  // planted: one_group_short
  wait_group<0>();
  store_global(own_result(problem), value);
}

template <bool SOUND>
PK_KERNEL void no_barrier_after_wait(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<4>(shared.first, thread(), problem.input + thread());  // planted: no_barrier_after_wait
  commit_group();
  wait_group<0>();
  if (SOUND) barrier();
  store_global(own_result(problem), shared.first.load((thread() + 64) % kThreads));  // planted: no_barrier_after_wait
}

// A ring of two stages, of which the one that others still read is overwritten.
template <bool SOUND>
PK_KERNEL void stage_overwritten(Problem problem) {
  PK_SHARED(Shared, shared);
  float sum = 0;
  for (uint32_t step = 0; step < 4; ++step) {
    copy_async<4>(shared.first, thread(), problem.input + step * kThreads + thread());  // planted: stage_overwritten
    commit_group();
    wait_group<0>();
    barrier();
    sum += shared.first.load((thread() + 96) % kThreads);  // planted: stage_overwritten
    if (SOUND) barrier();
  }
  store_global(own_result(problem), sum);
}

template <bool SOUND>
PK_KERNEL void copied_twice(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<4>(shared.first, thread(), problem.input + thread());  // planted: copied_twice
  commit_group();
  if (SOUND) wait_group<0>();
  copy_async<4>(shared.first, thread(), problem.input + 256 + thread());  // planted: copied_twice
  commit_group();
  wait_group<0>();
  store_global(own_result(problem), shared.first.load(thread()));
}

template <bool SOUND>
PK_KERNEL void ragged_edge(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t index = 600 + thread() * 4, valid = index >= 1022 ? 0 : index + 4 > 1022 ? (1022 - index) * 4 : 16;  // the last two elements belong to somebody else
  if (index < 1024) copy_async<16>(shared.first, thread() * 4, problem.input + index, SOUND ? valid : 16);  // planted: ragged_edge
  commit_group();
  wait_group<0>();
  if (index < 1024) store_global(own_result(problem), shared.first.load(thread() * 4 + 3));
}

template <bool SOUND>
PK_KERNEL void misaligned_copy(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<8>(shared.first, thread() * 2, problem.input + thread() * 2 + (SOUND ? 0 : 1));  // planted: misaligned_copy
  commit_group();
  wait_group<0>();
  store_global(own_result(problem), shared.first.load(thread() * 2));
}

template <bool SOUND>
PK_KERNEL void ends_under_way(Problem problem) {
  PK_SHARED(Shared, shared);
  copy_async<4>(shared.first, thread(), problem.input + thread());  // planted: ends_under_way
  commit_group();
  if (SOUND) wait_group<0>();
  store_global(own_result(problem), 1.0f);
}

// ---- whole warps ------------------------------------------------------------------------------------------------------------------------------------------------

template <bool SOUND>
PK_KERNEL void lane_has_exited(Problem problem) {
  if (!SOUND && thread() == 77) return;
  float sums[4] = {};
  const uint32_t a[4] = {};
  mma_m16n8k16<bf16>(sums, a, 0, 0);  // planted: lane_has_exited
  store_global(own_result(problem), sums[0]);
}

template <bool SOUND>
PK_KERNEL void row_misaligned(Problem problem) {
  PK_SHARED(Shared, shared);
  for (uint32_t i = 0; i < 8; ++i) shared.rows.store(thread() * 8 + i, 1);
  barrier();
  uint32_t fragments[1];
  load_matrices(fragments, shared.rows, lane() * 8 + (SOUND || lane() != 5 ? 0 : 4));  // planted: row_misaligned
  store_global(own_result(problem), static_cast<float>(fragments[0]));
}

// ---- global memory, within a block ------------------------------------------------------------------------------------------------------------------------------

template <bool SOUND>
PK_KERNEL void global_write_then_read(Problem problem) {
  store_global(own_result(problem), load_global(problem.input + thread()));  // planted: global_write_then_read
  if (SOUND) barrier();
  const float value = load_global(problem.results + (thread() + 37) % kThreads);  // planted: global_write_then_read
  barrier();
  store_global(own_result(problem), value);
}

template <bool SOUND>
PK_KERNEL void global_read_then_write(Problem problem) {
  const float value = load_global(problem.results + (thread() ^ 1));  // planted: global_read_then_write
  if (SOUND) warp_barrier();
  store_global(own_result(problem), value + 1.0f);  // planted: global_read_then_write
}

template <bool SOUND>
PK_KERNEL void global_both_write(Problem problem) {
  store_global(problem.results + thread() / (SOUND ? 1 : 2), 1.0f);  // planted: global_both_write
}

template <bool SOUND>
PK_KERNEL void global_plain_and_atomic(Problem problem) {
  if (thread() < 40) atomic_add(problem.flags + 1, 1u);  // planted: global_plain_and_atomic
  if (SOUND) barrier();
  if (thread() == 77) store_global(own_result(problem), static_cast<float>(load_global(problem.flags + 1)) * (SOUND ? 1.0f : 0.0f));  // planted: global_plain_and_atomic
}

// ---- between blocks ---------------------------------------------------------------------------------------------------------------------------------------------

template <bool SOUND>
PK_KERNEL void blocks_write_the_same(Problem problem) {
  const uint32_t block = SOUND ? block_index().x : block_index().x / 2;
  store_global(problem.results + block * kThreads + thread(), 1.0f);  // planted: blocks_write_the_same
}

template <bool SOUND>
PK_KERNEL void reads_what_another_writes(Problem problem) {
  if (block_index().x == 3 && thread() == 0) store_global(problem.results + 3 * kThreads + 1, 1.0f);  // planted: reads_what_another_writes
  if (block_index().x == (SOUND ? 3u : 9u) && thread() == 0) store_global(problem.results + 9 * kThreads, load_global(problem.results + 3 * kThreads + 1));  // planted: reads_what_another_writes
}

// Block 0 writes for all others.
template <bool SOUND>
PK_KERNEL void missing_release(Problem problem) {
  if (thread() != 0) return;
  if (block_index().x == 0) {
    store_global(problem.results, load_global(problem.input));  // planted: missing_release
    if (SOUND) atomic_add_release(problem.flags, 1);
    else atomic_add(problem.flags, 1);
  } else {
    wait_global_at_least(problem.flags, 1);
    store_global(own_result(problem), load_global(problem.results));  // planted: missing_release
  }
}

// The last block to count itself adds up what all have written.
template <bool SOUND>
PK_KERNEL void missing_acquire(Problem problem) {
  if (thread() != 0) return;
  store_global(own_result(problem), 1.0f);  // planted: missing_acquire
  const uint32_t before = SOUND ? atomic_add_acquire_release(problem.flags, 1) : atomic_add_release(problem.flags, 1);
  if (before != kBlocks - 1) return;
  float sum = 0;
  for (uint32_t i = 0; i < kBlocks; ++i) sum += load_global(problem.results + i * kThreads);  // planted: missing_acquire
  store_global(problem.results + 1, sum);
}

template <bool SOUND>
PK_KERNEL void flag_read_plainly(Problem problem) {
  if (thread() != 0) return;
  if (block_index().x == 0) store_release(problem.flags, 1u);  // planted: flag_read_plainly
  else if (!SOUND) store_global(own_result(problem), load_global(problem.flags) > 1 ? 1.0f : 0.0f);  // planted: flag_read_plainly
  else store_global(own_result(problem), load_acquire(problem.flags) > 1 ? 1.0f : 0.0f);
}

template <bool SOUND>
PK_KERNEL void waits_unannounced(Problem problem) {
  if (thread() != 0) return;
  if (block_index().x == 0) store_release(problem.flags, 1u);
  else if (!SOUND) wait_global_at_least(problem.flags, 1);  // planted: waits_unannounced
}

// Blocks of which only some are resident, and each waits for one that has not started.
template <bool SOUND>
PK_KERNEL void waits_for_later(Problem problem) {
  if (thread() != 0) return;
  const uint32_t number = atomic_add(problem.flags, 1);
  wait_global_at_least(problem.flags, SOUND ? number : kBlocks);  // planted: waits_for_later
  store_global(own_result(problem), 1.0f);
}

struct Fault {
  const char* name;
  void (*faulty)(Problem);
  void (*sound)(Problem);
  uint32_t blocks;
  BlocksWait blocks_wait;
};

#define PK_FAULT(name) {#name, name<false>, name<true>, 1, BlocksWait::none}
#define PK_FAULT_OF_BLOCKS(name, wait) {#name, name<false>, name<true>, kBlocks, BlocksWait::wait}
const Fault faults[] = {PK_FAULT(write_then_read),
                        PK_FAULT(read_then_write),
                        PK_FAULT(both_write),
                        PK_FAULT(warp_transpose),
                        PK_FAULT(rows_not_stored),
                        PK_FAULT(fragments_overwritten),
                        PK_FAULT(missing_wait),
                        PK_FAULT(own_bytes_under_way),
                        PK_FAULT(one_group_short),
                        PK_FAULT(no_barrier_after_wait),
                        PK_FAULT(stage_overwritten),
                        PK_FAULT(copied_twice),
                        PK_FAULT(ragged_edge),
                        PK_FAULT(misaligned_copy),
                        PK_FAULT(ends_under_way),
                        PK_FAULT(lane_has_exited),
                        PK_FAULT(row_misaligned),
                        PK_FAULT(global_write_then_read),
                        PK_FAULT(global_read_then_write),
                        PK_FAULT(global_both_write),
                        PK_FAULT(global_plain_and_atomic),
                        PK_FAULT_OF_BLOCKS(blocks_write_the_same, none),
                        PK_FAULT_OF_BLOCKS(reads_what_another_writes, none),
                        PK_FAULT_OF_BLOCKS(missing_release, for_all),
                        PK_FAULT_OF_BLOCKS(missing_acquire, none),
                        PK_FAULT_OF_BLOCKS(flag_read_plainly, none),
                        PK_FAULT_OF_BLOCKS(waits_unannounced, none),
                        PK_FAULT_OF_BLOCKS(waits_for_later, for_started)};

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

// The name of a fault, or null behind the last.
const char* emulator_test_race_name(uint64_t fault) { return fault < sizeof faults / sizeof faults[0] ? faults[fault].name : nullptr; }

int32_t emulator_test_race(const pk_queue* queue, uint64_t fault, int32_t sound, const float* input, float* results, uint32_t* flags) {
  const Fault& of = faults[fault];
  Operands operands;
  operands.read_bytes("input", input, (of.faulty == ragged_edge<false> ? 1022 : 1024) * sizeof(float));
  operands.read_write_bytes("results", results, kBlocks * kThreads * sizeof(float));
  operands.read_write_bytes("flags", flags, 4 * sizeof(uint32_t));
  return launch(*queue, {of.name, {of.blocks, 1, 1}, kThreads, shared_bytes<Shared>(), of.blocks_wait}, operands, sound != 0 ? of.sound : of.faulty, Problem{input, results, flags});
}

// For launches from this OS thread.
void emulator_test_detect_races(int32_t on) {
#if PK_EMULATED
  set_detects_races(on != 0);
#else
  static_cast<void>(on);
#endif
}

}  // extern "C"
