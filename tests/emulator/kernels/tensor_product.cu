// y = x * w^T in bf16 with f32 sums, for chips from 8.0 on: copies that run ahead, swizzled shared memory, matrix fragments. With a fault planted, or none.
//
// x [m, k], w [n, k], y [m, n], rows contiguous, k and n multiples of 8. A block of 8 warps makes a tile of 128 x 128, a warp 64 x 32; three stages of 32 columns.
#include "ptx/ptx.cuh"
#include "staged.cuh"

namespace PK_BUILD {
namespace {

enum Fault { kSound, kWaitOneShort, kNoBarrierAfterWait, kNoTrailingBarrier, kRaggedEdge, kWrongRow, kSharedColumns, kFaults };

constexpr int kTile = 128, kDepth = 32, kStages = 3, kThreads = 256;
constexpr int kChunks = kDepth / 8;  // of 16 bytes, in a row of a tile

struct Shared {
  SharedArray<bf16, kTile * kDepth, 128> x[kStages], w[kStages];
};

struct Problem {
  const bf16 *x, *w;
  bf16* y;
  int64_t m, n, k;
};

// Four rows of 64 bytes fill the banks twice: exchanging chunks keeps the 8 rows of a matrix in different ones.
PK_DEVICE uint32_t element(int row, int chunk) { return static_cast<uint32_t>(row * kDepth + ((chunk ^ (row / 2 % kChunks)) * 8)); }

template <Fault FAULT>
PK_DEVICE void copy_tile(SharedArray<bf16, kTile * kDepth, 128>& tile, const bf16* source, int64_t row0, int64_t rows, int64_t column0, int64_t columns) {
#pragma unroll
  for (int i = 0; i < kTile * kChunks / kThreads; ++i) {
    const int at = static_cast<int>(thread_index().x) + i * kThreads, row = at / kChunks, chunk = at % kChunks;
    const int64_t column = column0 + chunk * 8, left = columns - column;
    const bool inside = row0 + row < rows && (left > 0 || FAULT == kRaggedEdge);
    const bf16* from = inside ? source + (row0 + row) * columns + column : source;
    const int64_t valid = !inside ? 0 : left < 8 && FAULT != kRaggedEdge ? left * 2 : 16;
    copy_async<16>(tile, element(row, chunk), from, static_cast<uint32_t>(valid));  // planted: copy
  }
}

template <Fault FAULT>
PK_KERNEL void PK_LAUNCH_BOUNDS(kThreads) tensor_product(Problem problem) {
  PK_SHARED(Shared, shared);
  const int warp_row = static_cast<int>(warp()) % 2 * 64, warp_column = static_cast<int>(warp()) / 2 * 32, in_warp = static_cast<int>(lane());
  const int64_t row0 = static_cast<int64_t>(block_index().y) * kTile, column0 = static_cast<int64_t>(block_index().x) * kTile;
  constexpr int kAhead = FAULT == kNoTrailingBarrier ? kStages : kStages - 1;  // stages that copies run ahead
  const int steps = static_cast<int>((problem.k + kDepth - 1) / kDepth);
  float sums[4][4][4] = {};

  const auto copy_stage = [&](int step) {
    if (step < steps) {
      copy_tile<FAULT>(shared.x[step % kStages], problem.x, row0, problem.m, int64_t{step} * kDepth, problem.k);
      copy_tile<kSound>(shared.w[step % kStages], problem.w, column0, problem.n, int64_t{step} * kDepth, problem.k);
    }
    commit_group();
  };
#pragma unroll
  for (int step = 0; step < kAhead; ++step) copy_stage(step);

  for (int step = 0; step < steps; ++step) {
    wait_group<FAULT == kWaitOneShort ? kAhead : kAhead - 1>();
    if (FAULT != kNoBarrierAfterWait) barrier();  // and all have done with the stage that is copied to next
    if (FAULT != kNoTrailingBarrier) copy_stage(step + kAhead);
    const auto &x = shared.x[step % kStages], &w = shared.w[step % kStages];
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[4][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) load_matrices(a[i], x, element(warp_row + 16 * i + in_warp % 16, 2 * k + in_warp / 16));  // planted: read
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int row = FAULT == kWrongRow ? in_warp % 16 : in_warp % 8 + in_warp / 16 * 8;
        const int chunk = FAULT == kWrongRow ? in_warp / 16 : in_warp / 8 % 2;
        load_matrices(b[j], w, element(warp_column + 16 * j + row, 2 * k + chunk));
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_m16n8k16<bf16>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
    if (FAULT == kNoTrailingBarrier) copy_stage(step + kAhead);  // to the stage that others still read
  }
  wait_group<0>();

#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t row = row0 + warp_row + 16 * i + in_warp / 4 + 8 * half;
        const int64_t column = (FAULT == kSharedColumns ? column0 / 2 : column0) + warp_column + 8 * j + in_warp % 4 * 2;
        if (row >= problem.m || column >= problem.n) continue;
        const Vector<bf16, 2> pair{{from_float<bf16>(sums[i][j][2 * half]), from_float<bf16>(sums[i][j][2 * half + 1])}};
        store_global(reinterpret_cast<Vector<bf16, 2>*>(problem.y + row * problem.n + column), pair);  // planted: store
      }
    }
  }
}

// Faults are for the emulator to find: nobody runs them on a GPU.
constexpr int kBuilt = PK_EMULATED ? kFaults : kSound + 1;

template <int FAULT>
void (*faulty_kernel(int32_t fault))(Problem) {
  if constexpr (FAULT < kBuilt) return fault == FAULT ? tensor_product<static_cast<Fault>(FAULT)> : faulty_kernel<FAULT + 1>(fault);
  else return nullptr;
}

int32_t run(const pk_queue& queue, Staged& operands, const Problem& problem, int32_t fault) {
  const Extent3 grid{static_cast<uint32_t>((problem.n + kTile - 1) / kTile), static_cast<uint32_t>((problem.m + kTile - 1) / kTile), 1};
  return launch_staged(queue, {"tensor_product", grid, kThreads, shared_bytes<Shared>()}, operands, faulty_kernel<kSound>(fault), problem);
}

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" int32_t CONFORMANCE(tensor_product)(const pk_queue* queue, int32_t fault, const void* x, const void* w, void* y, int64_t m, int64_t n, int64_t k) {
  Staged operands(*queue);
  x = operands.read_bytes("x", x, static_cast<uint64_t>(m * k) * sizeof(bf16));
  w = operands.read_bytes("w", w, static_cast<uint64_t>(n * k) * sizeof(bf16));
  y = operands.write_bytes("y", y, static_cast<uint64_t>(m * n) * sizeof(bf16));
  const Problem problem{static_cast<const bf16*>(x), static_cast<const bf16*>(w), static_cast<bf16*>(y), m, n, k};
  return run(*queue, operands, problem, fault);
}
