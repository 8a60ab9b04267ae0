// Kernels whose blocks reach each other's shared memory, and of grids that overlap; and the same with a planted fault each. A line that a report must name ends in `planted:` and
// its name.
#include "ptx/cluster.cuh"
#include "ptx/fence.cuh"
#include "ptx/overlap.cuh"
#include "ptx/ptx.cuh"
#include "staged.cuh"

namespace PK_BUILD {
namespace {

#define PK_FAULTS(X) \
  X(none) X(no_first_barrier) X(relaxed_arrival) X(arrives_twice) X(waits_without_arrival) X(no_last_barrier) X(no_such_block) X(past_end) X(one_thread_missing) X(exits_early) \
  X(overrun_stage) X(waits_in_block_only) X(exits_before_arrivals) X(barrier_not_initialised) X(rank_left_out) X(too_few_bytes) X(too_many_bytes) X(tile_not_waited_for)        \
  X(into_no_block) X(source_overwritten) X(no_proxy_fence) X(barrier_elsewhere) X(source_exits) X(no_wait_for_primary) X(reads_before_wait) X(overwrites_before_wait)

enum class Fault : uint32_t {
#define PK_NAME(name) name,
  PK_FAULTS(PK_NAME)
#undef PK_NAME
};

// They are for the emulator to find: nobody runs them on a GPU.
PK_DEVICE Fault built(Fault fault) { return PK_EMULATED ? fault : Fault::none; }

constexpr uint32_t kThreads = 64, kWords = 256, kRounds = 5, kMostBlocks = 8;

struct Shared {
  SharedArray<uint32_t, kMostBlocks * kWords, 128> tile;
  SharedArray<uint32_t, kWords, 128> first, second;
  SharedBarrier full, empty;
};

// input and results: [blocks, kWords], and of tiles results [blocks, size of a cluster, kWords]
struct Problem {
  const uint32_t* input;
  uint32_t* results;
  Fault fault;
};

PK_DEVICE uint32_t block_number() {
  const Extent3 block = block_index(), grid = grid_extent();
  return (block.z * grid.y + block.y) * grid.x + block.x;
}

// ---- loads from the next block, stores into the one before -----------------------------------------------------------------------------------------------------

template <int WIDTH>
PK_DEVICE void move_words(const RemoteArray<uint32_t, kWords, 128>& from, const RemoteArray<uint32_t, kWords, 128>& to, uint32_t at, uint32_t to_at) {
#pragma unroll
  for (uint32_t i = 0; i < 4; i += WIDTH) to.store_vector<WIDTH>(to_at + i, from.load_vector<WIDTH>(at + i));  // planted: remote_access
}

PK_KERNEL void exchange(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x, size = cluster_size(), rank = cluster_rank();
  const Fault fault = built(problem.fault);
  for (uint32_t i = thread; i < kWords; i += kThreads) shared.first.store(i, load_global(problem.input + block_number() * kWords + i));  // planted: relaxed_arrival
  if (fault == Fault::waits_without_arrival && thread == 5) cluster_wait();                                                              // planted: waits_without_arrival
  if (fault == Fault::relaxed_arrival) cluster_arrive_relaxed();
  else if (fault != Fault::no_first_barrier) cluster_arrive();
  if (fault == Fault::arrives_twice && thread == 3) cluster_arrive();  // planted: arrives_twice
  if (fault != Fault::no_first_barrier) cluster_wait();
  const RemoteArray<uint32_t, kWords, 128> previous(shared.second, (rank + size - 1) % size);
  const RemoteArray<uint32_t, kWords, 128> next(shared.first, (rank + 1) % size + (fault == Fault::no_such_block ? size : 0));  // planted: no_such_block
  if (fault == Fault::exits_early) {
    store_global(problem.results + block_number() * kWords + thread, next.load(thread));  // planted: exits_early
    return;
  }
  const uint32_t at = thread * 4 + (fault == Fault::past_end && thread == 40 ? kWords - 4 * 40 : 0), to_at = kWords - 4 - thread * 4;
  if (thread % 3 == 0) move_words<1>(next, previous, at, to_at);
  else if (thread % 3 == 1) move_words<2>(next, previous, at, to_at);
  else move_words<4>(next, previous, at, to_at);
  if (fault == Fault::one_thread_missing && rank == 1 && thread == 7) barrier();  // planted: one_thread_missing
  if (fault != Fault::no_last_barrier) cluster_barrier();                         // planted: cluster_barrier
  barrier();
  for (uint32_t i = thread; i < kWords; i += kThreads) store_global(problem.results + block_number() * kWords + i, shared.second.load(i));
}

// ---- a ring through all blocks of a cluster: each passes on to the next what it got, with one stage and barriers of its own that the others arrive at ----------

PK_KERNEL void pass_on(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x, size = cluster_size(), rank = cluster_rank(), at = block_number() * kWords + thread;
  const Fault fault = built(problem.fault);
  if (thread == 0 && fault != Fault::barrier_not_initialised) {
    shared.full.initialize(kThreads);
    shared.empty.initialize(kThreads);
  }
  cluster_barrier();
  const RemoteArray<uint32_t, kWords, 128> next(shared.first, (rank + 1) % size);
  const RemoteBarrier next_full(shared.full, (rank + 1) % size), previous_empty(shared.empty, (rank + size - 1) % size);
  uint32_t value = load_global(problem.input + at);
  for (uint32_t round = 0; round < kRounds; ++round) {
    if (round > 0 && fault != Fault::overrun_stage) shared.empty.wait_for_cluster((round - 1) % 2);
    next.store(thread, value + round);                                               // planted: waits_in_block_only
    next_full.arrive();                                                              // planted: arrive
    if (fault == Fault::waits_in_block_only) shared.full.wait(round % 2);
    else shared.full.wait_for_cluster(round % 2);
    value = value * 3 + shared.first.load(kThreads - 1 - thread);
    previous_empty.arrive();  // planted: exits_before_arrivals
  }
  // The next block's last arrival here.
  if (fault != Fault::exits_before_arrivals) shared.empty.wait_for_cluster((kRounds - 1) % 2);
  store_global(problem.results + at, value);
}

// ---- a tile that each block loads a part of, for all ---------------------------------------------------------------------------------------------------------

PK_KERNEL void share_tile(Problem problem, PK_GRID_CONSTANT const TensorMap map) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x, size = cluster_size(), rank = cluster_rank(), bytes = size * kWords * 4;
  const Fault fault = built(problem.fault);
  if (thread == 0) {
    shared.full.initialize(1);
    fence_barrier_initialization();
  }
  cluster_barrier();
  if (thread == 0) {
    const uint32_t all = (1u << size) - 1, but_last = all >> 1;
    shared.full.arrive_expect(fault == Fault::too_few_bytes ? kWords * 4 : fault == Fault::too_many_bytes ? bytes + 16 : bytes);
    const int32_t row = static_cast<int32_t>(block_number() * 4);
    const uint32_t ranks = fault == Fault::into_no_block ? 0 : fault == Fault::rank_left_out && rank == 0 ? but_last : all;
    load_tensor_multicast<2>(shared.tile.address(rank * kWords), &map, {{0, row}}, shared.full, static_cast<uint16_t>(ranks));  // planted: multicast
  }
  if (fault != Fault::tile_not_waited_for || rank != 0) shared.full.wait(0);  // planted: full
  for (uint32_t i = thread; i < size * kWords; i += kThreads) store_global(problem.results + block_number() * size * kWords + i, shared.tile.load(i));  // planted: tile
}

// ---- lines from block to block -------------------------------------------------------------------------------------------------------------------------------

PK_KERNEL void send_line(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x, size = cluster_size(), rank = cluster_rank(), next = (rank + 1) % size;
  const Fault fault = built(problem.fault);
  if (thread == 0) {
    shared.full.initialize(1);
    shared.full.arrive_expect(kWords * 4);
    fence_barrier_initialization();
  }
  for (uint32_t i = thread; i < kWords; i += kThreads) shared.first.store(i, load_global(problem.input + block_number() * kWords + i) ^ rank);  // planted: no_proxy_fence
  if (fault != Fault::no_proxy_fence) fence_proxy_async();
  cluster_barrier();
  if (thread == 33) {
    const uint32_t of_barrier = fault == Fault::barrier_elsewhere ? rank : next;
    copy_bulk(RemoteArray<uint32_t, kWords, 128>(shared.second, next), 0, shared.first.address(), kWords * 4, RemoteBarrier(shared.full, of_barrier));  // planted: copy
  }
  if (fault == Fault::source_overwritten) {
    barrier();
    shared.first.store(thread, 0);  // planted: source_overwritten
  }
  shared.full.wait(0);
  // Only when the next block has got it may this one's copy of it go.
  if (fault != Fault::source_exits) cluster_barrier();
  for (uint32_t i = thread; i < kWords; i += kThreads) store_global(problem.results + block_number() * kWords + i, shared.second.load(i));
}

// ---- two grids that overlap: the second reads what the first wrote, and writes what that read -------------------------------------------------------------------

// started [2]: how many blocks of each had started, counted by atomic instructions; seen [blocks]: of the first when a block of the second started
struct Overlap {
  uint32_t *input, *between, *results, *started, *seen;
  Fault fault;
};

PK_KERNEL void first_of_two(Overlap overlap) {
  const uint32_t at = block_index().x * kThreads + thread_index().x;
  if (thread_index().x == 0) let_next_launch_start();
  barrier();
  const uint32_t value = load_global(overlap.input + at);  // planted: overwrites_before_wait
  store_global(overlap.between + at, value * 3 + 1);        // planted: no_wait_for_primary
  barrier();
  if (thread_index().x == 0) atomic_add(overlap.started, 1);
}

PK_KERNEL void second_of_two(Overlap overlap) {
  const Fault fault = built(overlap.fault);
  const uint32_t at = block_index().x * kThreads + thread_index().x, other = grid_extent().x * kThreads - 1 - at;
  if (thread_index().x == 0) store_global(overlap.seen + block_index().x, atomic_add(overlap.started, 0));
  if (fault == Fault::overwrites_before_wait) store_global(overlap.input + other, 7u);  // planted: overwrites_before_wait
  uint32_t value = fault == Fault::reads_before_wait ? load_global(overlap.between + other) : 0;  // planted: reads_before_wait
  if (fault != Fault::no_wait_for_primary) wait_for_previous_launch();
  value = load_global(overlap.between + other);  // planted: no_wait_for_primary
  store_global(overlap.results + at, value + 5);
  barrier();
  if (fault == Fault::none) store_global(overlap.input + other, value);
}

const char* const names[] = {
#define PK_NAME(name) #name,
    PK_FAULTS(PK_NAME)
#undef PK_NAME
};

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

const char* CONFORMANCE(cluster_fault_name)(uint32_t fault) { return fault < sizeof names / sizeof names[0] ? names[fault] : nullptr; }

// kernel: 0 exchange, 1 pass_on, 2 share_tile, 3 send_line; extents: of the grid [3], of a cluster [3]
int32_t CONFORMANCE(cluster)(const pk_queue* queue, uint32_t kernel, uint32_t fault, const uint32_t* extents, const uint32_t* input, uint32_t* results) {
  using Kernel = void (*)(Problem, TensorMap);
  static constexpr struct {
    const char* name;
    Kernel kernel;
  } kernels[] = {{"exchange", exchange}, {"pass_on", pass_on}, {"share_tile", share_tile}, {"send_line", send_line}};
  const uint64_t blocks = uint64_t{extents[0]} * extents[1] * extents[2], size = kernel == 2 ? extents[3] * extents[4] * extents[5] : 1;
  LaunchShape shape{kernels[kernel].name, {extents[0], extents[1], extents[2]}, kThreads, shared_bytes<Shared>()};
  shape.cluster = {extents[3], extents[4], extents[5]};
  Staged operands(*queue);
  input = operands.read_bytes("input", input, blocks * kWords * 4);
  results = operands.write_bytes("results", results, blocks * size * kWords * 4);
  PK_TRY(operands.status());
  TensorMap map;
  PK_TRY(make_tensor_map<float>("share_tile", {input, 2, {64, blocks * 4}, {256}, {64, 4}, Swizzle::none}, &map));
  return launch_staged(*queue, shape, operands, kernels[kernel].kernel, Problem{input, results, static_cast<Fault>(fault)}, map);
}

// input, between, results: [blocks, 64]; started [1], seen [blocks]
int32_t CONFORMANCE(overlap)(const pk_queue* queue, uint32_t fault, uint32_t blocks, uint32_t* input, uint32_t* between, uint32_t* results, uint32_t* started, uint32_t* seen) {
  const uint64_t bytes = uint64_t{blocks} * kThreads * 4;
  Staged memory(*queue);
  input = memory.read_write_bytes("input", input, bytes);
  between = memory.read_write_bytes("between", between, bytes);
  results = memory.write_bytes("results", results, bytes);
  started = memory.read_write_bytes("started", started, 4);
  seen = memory.write_bytes("seen", seen, blocks * 4);
  Operands first, second;
  first.read_bytes("input", input, bytes);
  first.write_bytes("between", between, bytes);
  first.read_write_bytes("started", started, 4);
  second.write_bytes("input", input, bytes);
  second.read_bytes("between", between, bytes);
  second.write_bytes("results", results, bytes);
  second.read_write_bytes("started", started, 4);
  second.write_bytes("seen", seen, blocks * 4);
  const Overlap overlap{input, between, results, started, seen, static_cast<Fault>(fault)};
  PK_TRY(memory.status());
  PK_TRY(launch_overlapping(*queue, prepared({"first_of_two", {blocks, 1, 1}, kThreads, 0}, first, first_of_two, overlap),
                            prepared({"second_of_two", {blocks, 1, 1}, kThreads, 0}, second, second_of_two, overlap)));
  return memory.finish("second_of_two");
}

}  // extern "C"
