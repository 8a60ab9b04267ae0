// c = a * b of bf16, as kernels of 9.0 are written: a warp that loads tiles, two warpgroups that multiply them, a ring of stages between. And the same with a planted fault each.
#include "ptx/bulk_copy.cuh"
#include "ptx/fence.cuh"
#include "ptx/named_barrier.cuh"
#include "ptx/ptx.cuh"
#include "ptx/register_count.cuh"
#include "ptx/wgmma.cuh"
#include "staged.cuh"

namespace PK_BUILD {
namespace {

constexpr uint32_t kTile = 128, kDepth = 64, kStages = 3, kStageBytes = 2 * kTile * kDepth * sizeof(bf16);

struct Shared {
  SharedArray<bf16, kTile * kDepth, 1024> a[kStages], b[kStages];
  SharedArray<bf16, kTile * kTile, 1024> c;
  SharedBarrier full[kStages], empty[kStages];
};

enum Fault : int32_t {
  kSound,
  kNoBarrierAfterInitialization,
  kNoFenceAfterInitialization,
  kEmptyIgnored,
  kFullIgnored,
  kTooFewBytes,
  kTooManyBytes,
  kReleasedEarly,
  kHalfStep,
  kNoProxyFence,
  kNoWgmmaFence,
  kReadBeforeWait,
  kWrongCount,
  kExitsEarly,
  kRowTooMany,  // by the box of its tensor map
  kFaults
};

// A tile of an operand: 128 rows x 64 k, k-major in one box, mn-major in two of 64 rows.
template <Major MAJOR>
PK_DEVICE void load_tile(SharedArray<bf16, kTile * kDepth, 1024>& tile, const TensorMap* map, uint32_t row, uint32_t k, SharedBarrier& full) {
  const int32_t rows = static_cast<int32_t>(row), depth = static_cast<int32_t>(k);
  if (MAJOR == Major::k) {
    load_tensor<2>(tile.address(), map, {{depth, rows}}, full);  // planted: load
  } else {
    load_tensor<2>(tile.address(), map, {{rows, depth}}, full);
    load_tensor<2>(tile.address(64 * kDepth), map, {{rows + 64, depth}}, full);
  }
}

template <Major MAJOR>
PK_DEVICE MatrixDescriptor describe(uint32_t address) {
  return matrix_descriptor(address, Swizzle::bytes128, MAJOR == Major::k ? 16 : 64 * kDepth * sizeof(bf16), 1024);
}

template <int FAULT, Major A, Major B>
PK_DEVICE void multiply_tiles(Shared& shared, const TensorMap* c_map, uint32_t row0, uint32_t column0, uint32_t steps) {
  const uint32_t group = thread_index().x / 128, thread = thread_index().x % 128;
  constexpr uint32_t a_step = A == Major::k ? (FAULT == kHalfStep ? 16 : 32) : 2048, b_step = B == Major::k ? 32 : 2048;
  Accumulator<kTile> sums;
  sums.clear();
  for (uint32_t step = 0; step < steps; ++step) {
    const uint32_t stage = step % kStages;
    if (FAULT != kFullIgnored) shared.full[stage].wait(step / kStages % 2);  // planted: wait
    if (FAULT != kNoWgmmaFence) wgmma_fence();
    const MatrixDescriptor a = describe<A>(shared.a[stage].address(group * 64 * kDepth)), b = describe<B>(shared.b[stage].address());
#pragma unroll
    for (uint32_t i = 0; i < kDepth / 16; ++i) {
      wgmma<bf16, A, B>(sums, a.advanced(a_step * i), b.advanced(b_step * i));  // planted: wgmma
    }
    wgmma_commit();
    if (FAULT == kReleasedEarly && thread == 0) shared.empty[stage].arrive();
    if (FAULT != kReadBeforeWait || step + 1 < steps) wgmma_wait<0>();
    if (FAULT != kReleasedEarly && thread == 0) shared.empty[stage].arrive();
  }
  // Each warpgroup writes 64 rows, as two boxes of 64 columns.
  const uint32_t row = thread / 32 * 16 + lane() / 4, column = lane() % 4 * 2, first = group * 64 * kTile;
#pragma unroll
  for (int i = 0; i < Accumulator<kTile>::count; i += 2) {
    const uint32_t at_row = row + static_cast<uint32_t>(i) / 2 % 2 * 8, at_column = column + static_cast<uint32_t>(i) / 4 * 8;
    const Vector<bf16, 2> pair{{from_float<bf16>(sums.value(i)), from_float<bf16>(sums.value(i + 1))}};  // planted: read
    shared.c.store_vector<2>(first + at_column / 64 * 64 * 64 + at_row * 64 + at_column % 64, pair);
  }
  if (FAULT == kReadBeforeWait) wgmma_wait<0>();
  if (FAULT != kNoProxyFence) fence_proxy_async();
  if (group == 0) named_barrier<1, FAULT == kWrongCount ? 160 : 128>();  // planted: count
  else named_barrier<2, 128>();
  if (thread == 0) {
    for (uint32_t half = 0; half < 2; ++half) {
      store_tensor<2>(c_map, {{static_cast<int32_t>(column0 + half * 64), static_cast<int32_t>(row0 + group * 64)}}, shared.c.address(first + half * 64 * 64));  // planted: store
    }
    commit_bulk_stores();
    if (FAULT != kExitsEarly) wait_for_bulk_reads<0>();
  }
}

template <int FAULT, Major A, Major B>
PK_KERNEL void PK_LAUNCH_BOUNDS(384)
    hopper_product(PK_GRID_CONSTANT const TensorMap a_map, PK_GRID_CONSTANT const TensorMap b_map, PK_GRID_CONSTANT const TensorMap c_map, uint32_t depth) {
  PK_SHARED(Shared, shared);
  const uint32_t row0 = block_index().y * kTile, column0 = block_index().x * kTile, steps = (depth + kDepth - 1) / kDepth;
  if (thread_index().x == 0) {
    for (uint32_t i = 0; i < kStages; ++i) {
      shared.full[i].initialize(1);  // planted: initialize
      shared.empty[i].initialize(2);
    }
    if (FAULT != kNoFenceAfterInitialization) fence_barrier_initialization();
  }
  if (FAULT != kNoBarrierAfterInitialization) barrier();
  if (thread_index().x < 256) {
    increase_register_count<232>();
    multiply_tiles<FAULT, A, B>(shared, &c_map, row0, column0, steps);
    return;
  }
  decrease_register_count<40>();
  if (thread_index().x != 256) return;
  for (uint32_t step = 0; step < steps; ++step) {
    const uint32_t stage = step % kStages;
    SharedBarrier& full = shared.full[stage];
    if (FAULT != kEmptyIgnored) shared.empty[stage].wait(step / kStages % 2 ^ 1);  // planted: empty
    const uint32_t more = FAULT == kRowTooMany ? kDepth * sizeof(bf16) : 0;
    full.arrive_expect(FAULT == kTooFewBytes ? kStageBytes / 2 : FAULT == kTooManyBytes ? kStageBytes + 16 : kStageBytes + more);  // planted: expect
    load_tile<A>(shared.a[stage], &a_map, row0, step * kDepth, full);
    load_tile<B>(shared.b[stage], &b_map, column0, step * kDepth, full);
  }
}

using Kernel = void (*)(TensorMap, TensorMap, TensorMap, uint32_t);

// Faults are for the emulator to find: nobody runs them on a GPU.
constexpr int kBuilt = PK_EMULATED ? kFaults : kSound + 1;

template <int FAULT>
Kernel faulty_kernel(int32_t fault) {
  if constexpr (FAULT < kBuilt) return fault == FAULT ? hopper_product<FAULT, Major::k, Major::k> : faulty_kernel<FAULT + 1>(fault);
  else return nullptr;
}

// The map of a matrix [rows, k] as it lies in memory: rows of k, or of the other index.
template <class T>
int32_t map_matrix(TensorMap* map, const T* data, Major major, uint64_t rows, uint64_t depth, uint32_t box_rows) {
  if (major == Major::k) return make_tensor_map<T>("hopper_product", {data, 2, {depth, rows}, {depth * sizeof(T)}, {kDepth, box_rows}, Swizzle::bytes128}, map);
  return make_tensor_map<T>("hopper_product", {data, 2, {rows, depth}, {rows * sizeof(T)}, {64, kDepth}, Swizzle::bytes128}, map);
}

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

// c [m, n] of a [m, k], or [k, m] if it is mn-major, and b [n, k] or [k, n].
int32_t CONFORMANCE(hopper_product)(const pk_queue* queue, int32_t fault, int32_t a_is_mn_major, int32_t b_is_mn_major, const uint16_t* a, const uint16_t* b, uint16_t* c, uint64_t m,
                                     uint64_t n, uint64_t k) {
  const Major a_major = a_is_mn_major != 0 ? Major::mn : Major::k, b_major = b_is_mn_major != 0 ? Major::mn : Major::k;
  const uint32_t box_rows = fault == kRowTooMany ? kTile + 1 : kTile;
  Staged operands(*queue);
  a = operands.read_bytes("a", a, m * k * sizeof(bf16));
  b = operands.read_bytes("b", b, n * k * sizeof(bf16));
  c = operands.write_bytes("c", c, m * n * sizeof(bf16));
  TensorMap a_map, b_map, c_map;
  PK_TRY(map_matrix(&a_map, reinterpret_cast<const bf16*>(a), a_major, m, k, box_rows));
  PK_TRY(map_matrix(&b_map, reinterpret_cast<const bf16*>(b), b_major, n, k, kTile));
  PK_TRY(make_tensor_map<bf16>("hopper_product", {c, 2, {n, m}, {n * sizeof(bf16)}, {64, 64}, Swizzle::none}, &c_map));
  Kernel kernel = faulty_kernel<kSound>(fault);
  if (fault == kSound && a_major == Major::mn && b_major == Major::mn) kernel = hopper_product<kSound, Major::mn, Major::mn>;
  else if (fault == kSound && a_major == Major::mn) kernel = hopper_product<kSound, Major::mn, Major::k>;
  else if (fault == kSound && b_major == Major::mn) kernel = hopper_product<kSound, Major::k, Major::mn>;
  const Extent3 grid{static_cast<uint32_t>((n + kTile - 1) / kTile), static_cast<uint32_t>((m + kTile - 1) / kTile), 1};
  return launch_staged(*queue, {"hopper_product", grid, 384, shared_bytes<Shared>()}, operands, kernel, a_map, b_map, c_map, static_cast<uint32_t>(k));
}

}  // extern "C"
