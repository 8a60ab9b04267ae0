// One kernel per primitive of warps and matrices from 8.0 on, for comparison with the definitions of PTX. Three warps, each with arguments of its own.
#include "ptx/ptx.cuh"
#include "tile/philox.cuh"
#include "staged.cuh"

namespace PK_BUILD {
namespace {

constexpr uint32_t kThreads = 96;
constexpr uint32_t kRows = 40;  // of 16 bytes, a warp

// ---- matrices of 8 x 8 ------------------------------------------------------------------------------------------------------------------------------------------

struct MoveShared {
  SharedArray<uint16_t, 3 * kRows * 8> rows;
};

// values [3, 40, 8], row_of [96], fragments [96, COUNT]
template <int COUNT, bool TRANSPOSED>
PK_KERNEL void load_fragments(const uint16_t* values, const uint32_t* row_of, uint32_t* fragments) {
  PK_SHARED(MoveShared, shared);
  const uint32_t thread = thread_index().x;
  for (uint32_t i = lane(); i < kRows * 8; i += 32) shared.rows.store(warp() * kRows * 8 + i, load_global(values + warp() * kRows * 8 + i));
  warp_barrier();
  uint32_t result[COUNT];
  load_matrices<TRANSPOSED>(result, shared.rows, (warp() * kRows + load_global(row_of + thread)) * 8);
  for (int i = 0; i < COUNT; ++i) store_global(fragments + thread * COUNT + i, result[i]);
}

// The opposite: rows that are not stored to stay what they were.
template <int COUNT, bool TRANSPOSED>
PK_KERNEL void store_fragments(uint16_t* values, const uint32_t* row_of, const uint32_t* fragments) {
  PK_SHARED(MoveShared, shared);
  const uint32_t thread = thread_index().x, first = warp() * kRows * 8;
  for (uint32_t i = lane(); i < kRows * 8; i += 32) shared.rows.store(first + i, load_global(values + first + i));
  warp_barrier();
  uint32_t mine[COUNT];
  for (int i = 0; i < COUNT; ++i) mine[i] = load_global(fragments + thread * COUNT + i);
  store_matrices<TRANSPOSED>(shared.rows, first + load_global(row_of + thread) * 8, mine);
  warp_barrier();
  for (uint32_t i = lane(); i < kRows * 8; i += 32) store_global(values + first + i, shared.rows.load(first + i));
}

template <int COUNT, bool TRANSPOSED>
int32_t move(const pk_queue& queue, bool stores, uint16_t* values, const uint32_t* row_of, uint32_t* fragments) {
  Staged operands(queue);
  values = operands.read_write_bytes("values", values, 3 * kRows * 16);
  row_of = operands.read_bytes("row_of", row_of, kThreads * sizeof(uint32_t));
  fragments = operands.read_write_bytes("fragments", fragments, kThreads * COUNT * sizeof(uint32_t));
  const LaunchShape shape{"move_matrices", {1, 1, 1}, kThreads, shared_bytes<MoveShared>()};
  if (stores) return launch_staged(queue, shape, operands, store_fragments<COUNT, TRANSPOSED>, values, row_of, fragments);
  return launch_staged(queue, shape, operands, load_fragments<COUNT, TRANSPOSED>, values, row_of, fragments);
}

// ---- products ---------------------------------------------------------------------------------------------------------------------------------------------------

enum Kind { kF16, kBf16, kTf32, kF64 };

// a [96, 4], b [96, 2], sums [96, 4]: the registers of each thread
template <int KIND>
PK_KERNEL void multiply_fragments(const uint32_t* a, const uint32_t* b, float* sums) {
  const uint32_t thread = thread_index().x;
  uint32_t as[4], bs[2];
  float c[4];
  for (int i = 0; i < 4; ++i) as[i] = load_global(a + thread * 4 + i);
  for (int i = 0; i < 2; ++i) bs[i] = load_global(b + thread * 2 + i);
  for (int i = 0; i < 4; ++i) c[i] = load_global(sums + thread * 4 + i);
  if constexpr (KIND == kF16) mma_m16n8k16<f16>(c, as, bs[0], bs[1]);
  else if constexpr (KIND == kBf16) mma_m16n8k16<bf16>(c, as, bs[0], bs[1]);
  else mma_m16n8k8_tf32(c, as, bs[0], bs[1]);
  for (int i = 0; i < 4; ++i) store_global(sums + thread * 4 + i, c[i]);
}

// a [96], b [96], sums [96, 2]
PK_KERNEL void multiply_f64(const double* a, const double* b, double* sums) {
  const uint32_t thread = thread_index().x;
  double c[2] = {load_global(sums + thread * 2), load_global(sums + thread * 2 + 1)};
  mma_m8n8k4_f64(c, load_global(a + thread), load_global(b + thread));
  store_global(sums + thread * 2, c[0]);
  store_global(sums + thread * 2 + 1, c[1]);
}

PK_KERNEL void round_to_tf32(const float* values, uint32_t* results, int64_t count) {
  const auto thread = static_cast<int64_t>(block_index().x) * block_extent().x + thread_index().x, threads = static_cast<int64_t>(grid_extent().x) * block_extent().x;
  for (int64_t i = thread; i < count; i += threads) store_global(results + i, tf32_of(load_global(values + i)));
}

// ---- lanes that combine -----------------------------------------------------------------------------------------------------------------------------------------

// results [96, 8]: sum, largest and smallest as unsigned and as signed, and the lanes with the same 4 and the same 8 bytes
PK_KERNEL void combine_lanes(const uint64_t* values, const uint32_t* masks, uint32_t* results) {
  const uint32_t thread = thread_index().x, mask = load_global(masks + warp());
  const uint64_t value = load_global(values + thread);
  if ((mask >> lane() & 1) == 0) return;
  const auto low = static_cast<uint32_t>(value);
  uint32_t all[8];
  all[0] = reduce_add(low, mask);
  all[1] = reduce_max(low, mask);
  all[2] = reduce_min(low, mask);
  all[3] = static_cast<uint32_t>(reduce_add(static_cast<int32_t>(low), mask));
  all[4] = static_cast<uint32_t>(reduce_max(static_cast<int32_t>(low), mask));
  all[5] = static_cast<uint32_t>(reduce_min(static_cast<int32_t>(low), mask));
  all[6] = match_any(low, mask);
  all[7] = match_any(value, mask);
  for (int i = 0; i < 8; ++i) store_global(results + thread * 8 + i, all[i]);
}

// ---- copies -----------------------------------------------------------------------------------------------------------------------------------------------------

struct CopyShared {
  SharedArray<uint32_t, 4 * 4 * kThreads> stages;
};

// Thread i takes BYTES bytes of source at multiples of 16 in four groups, of which valid[4 i + group] are to be read; results: all of shared memory, 16 bytes a copy.
template <int BYTES>
PK_KERNEL void copy_in_groups(const uint32_t* source, const uint32_t* valid, uint32_t* results) {
  PK_SHARED(CopyShared, shared);
  const uint32_t thread = thread_index().x, first = thread * 16;
  for (uint32_t i = 0; i < 16; ++i) shared.stages.store(first + i, 7);
  for (uint32_t group = 0; group < 4; ++group) {
    copy_async<BYTES>(shared.stages, first + group * 4, source + first + group * 4, load_global(valid + thread * 4 + group));
    commit_group();
  }
  const auto write_out = [&](uint32_t group) {
    for (uint32_t i = group * 4; i < group * 4 + 4; ++i) store_global(results + first + i, shared.stages.load(first + i));
  };
  wait_group<3>();
  write_out(0);
  wait_group<1>();
  write_out(1);
  write_out(2);
  wait_group<0>();
  write_out(3);
}

// ---- random bits ------------------------------------------------------------------------------------------------------------------------------------------------

PK_KERNEL void draw_bits(const uint32_t* counters_and_keys, uint32_t* results, uint32_t count) {
  const uint32_t i = thread_index().x;
  if (i >= count) return;
  const uint32_t* in = counters_and_keys + 6 * i;
  const Vector<uint32_t, 4> bits = philox({{load_global(in), load_global(in + 1), load_global(in + 2), load_global(in + 3)}}, {load_global(in + 4), load_global(in + 5)});
  for (uint32_t j = 0; j < 4; ++j) store_global(results + 4 * i + j, bits.values[j]);
}

// ---- blocks that wait for each other ----------------------------------------------------------------------------------------------------------------------------

// Blocks take numbers as they start. Each adds its number to what the one before it left: results [blocks], flags: a counter, and how many have done so.
PK_KERNEL void pass_along(uint32_t* flags, uint64_t* results) {
  if (thread_index().x != 0) return;
  const uint32_t number = atomic_add(flags, 1);
  wait_global_at_least(flags + 1, number);
  store_global(results + number, (number > 0 ? load_global(results + number - 1) : 0) + number);
  store_release(flags + 1, number + 1);
}

// The block that comes last adds up what all have left.
PK_KERNEL void last_adds_up(uint32_t* counter, uint64_t* parts, uint64_t* sum) {
  if (thread_index().x != 0) return;
  store_global(parts + block_index().x, uint64_t{block_index().x} * block_index().x);
  if (atomic_add_acquire_release(counter, 1) != grid_extent().x - 1) return;
  uint64_t total = 0;
  for (uint32_t i = 0; i < grid_extent().x; ++i) total += load_global(parts + i);
  store_global(sum, total);
}

// All blocks meet `rounds` times; in between each takes what its neighbour left. values [2, blocks]
PK_KERNEL void rotate_blocks(uint32_t* arrived, uint64_t* values, uint32_t rounds) {
  const uint32_t block = block_index().x, blocks = grid_extent().x;
  for (uint32_t round = 0; round < rounds; ++round) {
    if (thread_index().x == 0) {
      const uint64_t value = load_global(values + round % 2 * blocks + (block + 1) % blocks);
      store_global(values + (round + 1) % 2 * blocks + block, value + 1);
      atomic_add_release(arrived, 1);
      wait_global_at_least(arrived, (round + 1) * blocks);
    }
    barrier();
  }
}

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

int32_t CONFORMANCE(move_matrices)(const pk_queue* queue, int32_t stores, int32_t count, int32_t transposed, uint16_t* values, const uint32_t* row_of, uint32_t* fragments) {
  const auto run = count == 1 ? (transposed != 0 ? move<1, true> : move<1, false>) : count == 2 ? (transposed != 0 ? move<2, true> : move<2, false>) : transposed != 0 ? move<4, true> : move<4, false>;
  return run(*queue, stores != 0, values, row_of, fragments);
}

int32_t CONFORMANCE(multiply_fragments)(const pk_queue* queue, int32_t kind, const void* a, const void* b, void* sums) {
  Staged operands(*queue);
  a = operands.read_bytes("a", a, kThreads * (kind == kF64 ? 8 : 16));
  b = operands.read_bytes("b", b, kThreads * 8);
  sums = operands.read_write_bytes("sums", sums, kThreads * 16);
  const LaunchShape shape{"multiply_fragments", {1, 1, 1}, kThreads, 0};
  if (kind == kF64) return launch_staged(*queue, shape, operands, multiply_f64, static_cast<const double*>(a), static_cast<const double*>(b), static_cast<double*>(sums));
  const auto kernel = kind == kF16 ? multiply_fragments<kF16> : kind == kBf16 ? multiply_fragments<kBf16> : multiply_fragments<kTf32>;
  return launch_staged(*queue, shape, operands, kernel, static_cast<const uint32_t*>(a), static_cast<const uint32_t*>(b), static_cast<float*>(sums));
}

int32_t CONFORMANCE(round_to_tf32)(const pk_queue* queue, const float* values, uint32_t* results, int64_t count) {
  Staged operands(*queue);
  values = operands.read_bytes("values", values, static_cast<uint64_t>(count) * 4);
  results = operands.write_bytes("results", results, static_cast<uint64_t>(count) * 4);
  return launch_staged(*queue, {"round_to_tf32", {8, 1, 1}, 128, 0}, operands, round_to_tf32, values, results, count);
}

int32_t CONFORMANCE(combine_lanes)(const pk_queue* queue, const uint64_t* values, const uint32_t* masks, uint32_t* results) {
  Staged operands(*queue);
  values = operands.read_bytes("values", values, kThreads * sizeof(uint64_t));
  masks = operands.read_bytes("masks", masks, kThreads / 32 * sizeof(uint32_t));
  results = operands.write_bytes("results", results, kThreads * 8 * sizeof(uint32_t));
  return launch_staged(*queue, {"combine_lanes", {1, 1, 1}, kThreads, 0}, operands, combine_lanes, values, masks, results);
}

int32_t CONFORMANCE(copy_in_groups)(const pk_queue* queue, int32_t bytes, const uint32_t* source, uint64_t source_bytes, const uint32_t* valid, uint32_t* results) {
  Staged operands(*queue);
  source = operands.read_bytes("source", source, source_bytes);
  valid = operands.read_bytes("valid", valid, kThreads * 4 * sizeof(uint32_t));
  results = operands.write_bytes("results", results, kThreads * 16 * sizeof(uint32_t));
  const LaunchShape shape{"copy_in_groups", {1, 1, 1}, kThreads, shared_bytes<CopyShared>()};
  return launch_staged(*queue, shape, operands, bytes == 4 ? copy_in_groups<4> : bytes == 8 ? copy_in_groups<8> : copy_in_groups<16>, source, valid, results);
}

int32_t CONFORMANCE(draw_bits)(const pk_queue* queue, const uint32_t* counters_and_keys, uint32_t* results, uint32_t count) {
  Staged operands(*queue);
  counters_and_keys = operands.read_bytes("counters_and_keys", counters_and_keys, count * 6 * sizeof(uint32_t));
  results = operands.write_bytes("results", results, count * 4 * sizeof(uint32_t));
  return launch_staged(*queue, {"draw_bits", {1, 1, 1}, 64, 0}, operands, draw_bits, counters_and_keys, results, count);
}

int32_t CONFORMANCE(pass_along)(const pk_queue* queue, uint32_t blocks, uint32_t* flags, uint64_t* results) {
  Staged operands(*queue);
  flags = operands.read_write_bytes("flags", flags, 2 * sizeof(uint32_t));
  results = operands.read_write_bytes("results", results, blocks * sizeof(uint64_t));
  return launch_staged(*queue, {"pass_along", {blocks, 1, 1}, 64, 0, BlocksWait::for_started}, operands, pass_along, flags, results);
}

int32_t CONFORMANCE(last_adds_up)(const pk_queue* queue, uint32_t blocks, uint32_t* counter, uint64_t* parts, uint64_t* sum) {
  Staged operands(*queue);
  counter = operands.read_write_bytes("counter", counter, sizeof(uint32_t));
  parts = operands.read_write_bytes("parts", parts, blocks * sizeof(uint64_t));
  sum = operands.write_bytes("sum", sum, sizeof(uint64_t));
  return launch_staged(*queue, {"last_adds_up", {blocks, 1, 1}, 32, 0}, operands, last_adds_up, counter, parts, sum);
}

int32_t CONFORMANCE(rotate_blocks)(const pk_queue* queue, uint32_t blocks, uint32_t* arrived, uint64_t* values, uint32_t rounds) {
  Staged operands(*queue);
  arrived = operands.read_write_bytes("arrived", arrived, sizeof(uint32_t));
  values = operands.read_write_bytes("values", values, 2 * blocks * sizeof(uint64_t));
  return launch_staged(*queue, {"rotate_blocks", {blocks, 1, 1}, 64, 0, BlocksWait::for_all}, operands, rotate_blocks, arrived, values, rounds);
}

}  // extern "C"
