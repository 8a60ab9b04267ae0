// Kernels whose counts follow by hand from what they do, and with `planted` one thing that they do otherwise.
#include "ptx/bulk_copy.cuh"
#include "ptx/cluster.cuh"
#include "ptx/fence.cuh"
#include "ptx/launch.cuh"
#include "ptx/ptx.cuh"
#include "ptx/wgmma.cuh"

namespace PK_BUILD {
namespace {

struct Shared {
  SharedArray<float, 4096, 1024> values;
  SharedArray<bf16, 64 * 64, 1024> matrix;
  SharedBarrier full;
};

struct Problem {
  const float* input;  // [4096], aligned to 128 bytes
  float* output;       // [4096], the same
  bool planted;
};

// Two copies of 16 bytes a thread, of neighbouring pieces; planted: of every other piece. Then one of 12 valid bytes.
PK_KERNEL void copies_by_threads(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x;
  for (uint32_t i = 0; i < 2; ++i) copy_async<16>(shared.values, i * 512 + thread * 4, problem.input + i * 1024 + thread * (problem.planted ? 8 : 4));
  copy_async<16>(shared.values, 1024 + thread * 4, problem.input + thread * 4, 12);
  commit_group();
  wait_group<0>();
}

// Rows of 16 bytes that are 144 apart, of which no two begin in the same bank; planted: 128 apart. By one warp.
PK_KERNEL void matrices(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  if (warp() != 0) return;
  const uint32_t row = lane() * (problem.planted ? 64 : 72);
  uint32_t four[4] = {lane(), lane() + 1, lane() + 2, lane() + 3}, two[2], one[1];
  store_matrices(shared.matrix, row, four);
  warp_barrier();
  load_matrices(four, shared.matrix, row);
  load_matrices(two, shared.matrix, row);
  load_matrices<true>(one, shared.matrix, row);
}

// A column of a row-major array with rows of 33 words; planted: of 32. Then pairs and quadruples in a row.
PK_KERNEL void banks(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x, column = thread % 32 * (problem.planted ? 32 : 33) + thread / 32;
  shared.values.store(column, 1.0f);
  shared.values.store_vector<2>(2048 + thread * 2, {{1.0f, 2.0f}});
  shared.values.store_vector<4>(2560 + thread * 4, {{1.0f, 2.0f, 3.0f, 4.0f}});
  barrier();
  store_global(problem.output + thread, shared.values.load(2048));  // all the same word
  barrier();
}

// By two warps; planted: one bf16 product too many in the second.
PK_KERNEL void products(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  float sums[4] = {};
  double doubles[2] = {};
  const uint32_t a[4] = {};
  for (uint32_t i = 0; i < (problem.planted && warp() == 1 ? 4u : 3u); ++i) mma_m16n8k16<bf16>(sums, a, 0, 0);
  for (uint32_t i = 0; i < 2; ++i) mma_m16n8k16<f16>(sums, a, 0, 0);
  mma_m16n8k8_tf32(sums, a, 0, 0);
  mma_m8n8k4_f64(doubles, 1.0, 1.0);
}

// By a warpgroup: two products from shared memory, one with A in registers; planted: of half the columns.
template <int N>
PK_DEVICE void multiply_columns(Shared& shared) {
  const MatrixDescriptor rows = matrix_descriptor(shared.matrix.address(), Swizzle::bytes128, 16, 1024);
  const uint32_t registers[4] = {};
  Accumulator<N> sums;
  sums.clear();
  wgmma_fence();
  wgmma<bf16>(sums, rows, rows);
  wgmma<bf16>(sums, rows.advanced(32), rows.advanced(32));
  wgmma<bf16>(sums, registers, rows);
  wgmma_commit();
  wgmma_wait<0>();
}

PK_KERNEL void PK_LAUNCH_BOUNDS(128) warpgroup_products(Problem problem, PK_GRID_CONSTANT const TensorMap) {
  PK_SHARED(Shared, shared);
  if (problem.planted) multiply_columns<32>(shared);
  else multiply_columns<64>(shared);
}

// A box of 4 rows of 64 floats, one of which the last two rows lie outside of the tensor, a line of 512 bytes, and the box back; planted: the box out of the middle of a row.
PK_KERNEL void bulk_copies(Problem problem, PK_GRID_CONSTANT const TensorMap map) {
  PK_SHARED(Shared, shared);
  if (thread_index().x == 0) {
    shared.full.initialize(1);
    fence_barrier_initialization();
    shared.full.arrive_expect(1024 + 1024 + 512);
    load_tensor<2>(shared.values.address(), &map, {{problem.planted ? 32 : 0, 4}}, shared.full);
    load_tensor<2>(shared.values.address(256), &map, {{0, 62}}, shared.full);
    load_bulk(shared.values.address(512), problem.input, 512, shared.full);
  }
  barrier();
  shared.full.wait(0);
  if (thread_index().x == 0) {
    store_bulk(problem.output, shared.values.address(), 256);
    commit_bulk_stores();
    wait_for_bulk_stores<0>();
  }
}

// Each of two blocks loads a box for both; planted: for itself.
PK_KERNEL void multicasts(Problem problem, PK_GRID_CONSTANT const TensorMap map) {
  PK_SHARED(Shared, shared);
  const uint32_t rank = cluster_rank();
  if (thread_index().x == 0) {
    shared.full.initialize(1);
    fence_barrier_initialization();
  }
  cluster_barrier();
  if (thread_index().x == 0) {
    shared.full.arrive_expect(2048);
    load_tensor_multicast<2>(shared.values.address(rank * 256), &map, {{0, static_cast<int32_t>(rank) * 4}}, shared.full, static_cast<uint16_t>(problem.planted ? 1u << rank : 3u));
    if (problem.planted) load_tensor<2>(shared.values.address((rank ^ 1) * 256), &map, {{0, static_cast<int32_t>(rank ^ 1) * 4}}, shared.full);
  }
  shared.full.wait(0);
}

using Kernel = void (*)(Problem, TensorMap);
constexpr struct {
  const char* name;
  Kernel kernel;
  uint32_t threads, blocks;
} kernels[] = {{"copies_by_threads", copies_by_threads, 64, 1}, {"matrices", matrices, 64, 1},       {"banks", banks, 64, 1},          {"products", products, 64, 1},
               {"warpgroup_products", warpgroup_products, 128, 1}, {"bulk_copies", bulk_copies, 32, 1}, {"multicasts", multicasts, 32, 2}};

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

const char* emulator_test_counted_name(uint32_t kernel) { return kernel < sizeof kernels / sizeof kernels[0] ? kernels[kernel].name : nullptr; }

int32_t emulator_test_counted(const pk_queue* queue, uint32_t kernel, int32_t planted, const float* input, float* output) {
  const auto& of = kernels[kernel];
  LaunchShape shape{of.name, {of.blocks, 1, 1}, of.threads, shared_bytes<Shared>()};
  shape.cluster = {of.blocks, 1, 1};
  TensorMap map;
  PK_TRY(make_tensor_map<float>(of.name, {input, 2, {64, 64}, {256}, {64, 4}, Swizzle::none}, &map));
  Operands operands;
  operands.read_bytes("input", input, 4096 * 4);
  operands.write_bytes("output", output, 4096 * 4);
  return launch(*queue, shape, operands, of.kernel, Problem{input, output, planted != 0}, map);
}

}  // extern "C"
