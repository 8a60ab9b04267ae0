// Kernels of many blocks: a matrix product, one whose result is its schedule, and one that counts.
#include "ptx/launch.cuh"
#include "ptx/ptx.cuh"

namespace PK_BUILD {
namespace {

// ---- c = a * b, all row-major: 64 x 64 tiles, 16 x 16 threads of 4 x 4 elements -------------------------------------------------------------------------------

constexpr int kTile = 64, kDepth = 16, kSide = 16;

struct ProductShared {
  SharedArray<float, kDepth * kTile> a, b;
};

struct Product {
  const float *a, *b;
  float* c;
  int64_t m, n, k;
};

PK_KERNEL void multiply(Product product) {
  PK_SHARED(ProductShared, shared);
  const int thread = static_cast<int>(thread_index().x), row = thread / kSide * 4, column = thread % kSide * 4;
  const int64_t row0 = static_cast<int64_t>(block_index().y) * kTile, column0 = static_cast<int64_t>(block_index().x) * kTile;
  float sums[4][4] = {};
  for (int64_t k0 = 0; k0 < product.k; k0 += kDepth) {
    for (int i = thread; i < kTile * kDepth; i += kSide * kSide) {
      const int64_t m = row0 + i / kDepth, n = column0 + i % kTile, ka = k0 + i % kDepth, kb = k0 + i / kTile;
      shared.a.store(static_cast<uint32_t>(i % kDepth * kTile + i / kDepth), m < product.m && ka < product.k ? load_global(product.a + m * product.k + ka) : 0.0f);
      shared.b.store(static_cast<uint32_t>(i), n < product.n && kb < product.k ? load_global(product.b + kb * product.n + n) : 0.0f);
    }
    barrier();
    for (int k = 0; k < kDepth; ++k) {
      const Vector<float, 4> a = shared.a.load_vector<4>(static_cast<uint32_t>(k * kTile + row)), b = shared.b.load_vector<4>(static_cast<uint32_t>(k * kTile + column));
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) sums[i][j] = fma(a.values[i], b.values[j], sums[i][j]);
      }
    }
    barrier();
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      if (row0 + row + i < product.m && column0 + column + j < product.n) store_global(product.c + (row0 + row + i) * product.n + column0 + column + j, sums[i][j]);
    }
  }
}

// ---- the order in which the threads of a block come to a counter, as one number a block ------------------------------------------------------------------------

struct OrderShared {
  SharedArray<uint64_t, 1024> terms;
};

PK_KERNEL void hash_schedule(uint32_t* counters, uint64_t* hashes) {
  PK_SHARED(OrderShared, shared);
  uint64_t term = 0;
  for (int i = 0; i < 4; ++i) {
    barrier();
    term = term * 0x9e3779b97f4a7c15u + atomic_add(counters + block_index().x, 1) * (thread_index().x + 1);
  }
  shared.terms.store(thread_index().x, term);
  barrier();
  if (thread_index().x != 0) return;
  uint64_t hash = block_index().x;
  for (uint32_t i = 0; i < block_extent().x; ++i) hash = hash * 0x9e3779b97f4a7c15u + shared.terms.load(i);
  store_global(hashes + block_index().x, hash);
}

// Every block notes that it ran; blocks from `first_faulty` on do it out of bounds.
PK_KERNEL void mark_blocks(uint8_t* marks, uint64_t first_faulty) {
  const Extent3 block = block_index(), grid = grid_extent();
  const uint64_t number = (static_cast<uint64_t>(block.z) * grid.y + block.y) * grid.x + block.x;
  if (thread_index().x == 0) store_global(number < first_faulty ? marks + number : marks - 1 - number, static_cast<uint8_t>(1));
}

PK_KERNEL void switch_threads(uint32_t rounds) {
  for (uint32_t i = 0; i < rounds; ++i) barrier();
}

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

int32_t emulator_test_multiply(const pk_queue* queue, const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k) {
  Operands operands;
  operands.read("a", {const_cast<float*>(a), m, k, k, 1, 0, PK_F32, 0}, 1);
  operands.read("b", {const_cast<float*>(b), k, n, n, 1, 0, PK_F32, 0}, 1);
  operands.write("c", {c, m, n, n, 1, 0, PK_F32, 0}, 1);
  const Extent3 grid{static_cast<uint32_t>((n + kTile - 1) / kTile), static_cast<uint32_t>((m + kTile - 1) / kTile), 1};
  const LaunchShape shape{"multiply", grid, kSide * kSide, shared_bytes<ProductShared>()};
  return launch(*queue, shape, operands, multiply, Product{a, b, c, m, n, k});
}

int32_t emulator_test_hash_schedule(const pk_queue* queue, uint32_t blocks, uint32_t threads, uint32_t* counters, uint64_t* hashes) {
  Operands operands;
  operands.read_write_bytes("counters", counters, blocks * sizeof(uint32_t));
  operands.write_bytes("hashes", hashes, blocks * sizeof(uint64_t));
  return launch(*queue, {"hash_schedule", {blocks, 1, 1}, threads, shared_bytes<OrderShared>()}, operands, hash_schedule, counters, hashes);
}

int32_t emulator_test_mark_blocks(const pk_queue* queue, uint32_t x, uint32_t y, uint32_t z, uint32_t threads, uint64_t shared, uint8_t* marks, uint64_t mark_count, uint64_t first_faulty) {
  Operands operands;
  operands.write_bytes("marks", marks, mark_count);
  return launch(*queue, {"mark_blocks", {x, y, z}, threads, shared}, operands, mark_blocks, marks, first_faulty);
}

int32_t emulator_test_switch_threads(const pk_queue* queue, uint32_t threads, uint32_t rounds) {
  return launch(*queue, {"switch_threads", {1, 1, 1}, threads, 0}, Operands(), switch_threads, rounds);
}

}  // extern "C"
