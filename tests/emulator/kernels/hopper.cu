// One kernel for each primitive of 9.0.
#include "ptx/bulk_copy.cuh"
#include "ptx/fence.cuh"
#include "ptx/named_barrier.cuh"
#include "ptx/ptx.cuh"
#include "ptx/wgmma.cuh"
#include "staged.cuh"

namespace PK_BUILD {
namespace {

// ---- wgmma: an image of shared memory with both operands, two steps of k -------------------------------------------------------------------------------------

constexpr uint32_t kImageWords = 24 * 1024;

struct WgmmaShared {
  SharedArray<uint32_t, kImageWords, 1024> image;
};

// Of an operand: where it is in the image, and the other arguments of its descriptor; `step` is the distance of the second step.
struct OperandPlace {
  uint32_t at, swizzle, leading, stride, step;
};

struct WgmmaProblem {
  const uint32_t *image, *registers;  // registers [2, 128, 4]: A
  const float* c;                     // [128, n / 2], as the threads hold it
  float* d;
  OperandPlace a, b;
};

PK_DEVICE MatrixDescriptor describe(const WgmmaShared& shared, const OperandPlace& place) {
  return matrix_descriptor(shared.image.address() + place.at, static_cast<Swizzle>(place.swizzle), place.leading, place.stride);
}

template <class T, int N, Major A, Major B, bool FROM_REGISTERS>
PK_KERNEL void PK_LAUNCH_BOUNDS(128) multiply_image(WgmmaProblem problem) {
  PK_SHARED(WgmmaShared, shared);
  const uint32_t thread = thread_index().x;
  for (uint32_t i = thread; i < kImageWords; i += 128) shared.image.store(i, load_global(problem.image + i));
  fence_proxy_async();
  barrier();
  Accumulator<N> sums;
#pragma unroll
  for (int i = 0; i < sums.count; ++i) sums.set(i, load_global(problem.c + static_cast<int>(thread) * sums.count + i));
  const MatrixDescriptor a = describe(shared, problem.a), b = describe(shared, problem.b);
  if constexpr (FROM_REGISTERS) {
    uint32_t first[4], second[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      first[i] = load_global(problem.registers + thread * 4 + i);
      second[i] = load_global(problem.registers + 512 + thread * 4 + i);
    }
    wgmma_fence();
    wgmma<T, B>(sums, first, b);
    wgmma<T, B>(sums, second, b.advanced(problem.b.step));
  } else {
    wgmma_fence();
    wgmma<T, A, B>(sums, a, b);
    wgmma<T, A, B>(sums, a.advanced(problem.a.step), b.advanced(problem.b.step));
  }
  wgmma_commit();
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < sums.count; ++i) store_global(problem.d + static_cast<int>(thread) * sums.count + i, sums.value(i));
}

// Every n for those operands that are everywhere, some for all others.
template <class T, Major A, Major B, bool FROM_REGISTERS>
void (*multiply_of(int n))(WgmmaProblem) {
#define PK_CASE(N, ...) \
  case N: return multiply_image<T, N, A, B, FROM_REGISTERS>;
  if constexpr (std::is_same<T, bf16>::value && A == Major::k && B == Major::k) {
    switch (n) { PK_WGMMA_EACH_N(PK_CASE) }
  } else {
    switch (n) { PK_CASE(8) PK_CASE(24) PK_CASE(64) PK_CASE(136) PK_CASE(256) }
  }
#undef PK_CASE
  return nullptr;
}

template <class T>
void (*multiply_of_16_bits(int n, bool a_is_mn_major, bool b_is_mn_major, bool from_registers))(WgmmaProblem) {
  if (from_registers) return b_is_mn_major ? multiply_of<T, Major::k, Major::mn, true>(n) : multiply_of<T, Major::k, Major::k, true>(n);
  if (a_is_mn_major) return b_is_mn_major ? multiply_of<T, Major::mn, Major::mn, false>(n) : multiply_of<T, Major::mn, Major::k, false>(n);
  return b_is_mn_major ? multiply_of<T, Major::k, Major::mn, false>(n) : multiply_of<T, Major::k, Major::k, false>(n);
}

// ---- a box into shared memory, from there as it is to `image`, and out of it elsewhere ------------------------------------------------------------------------

struct BoxShared {
  SharedArray<uint32_t, 8192, 1024> box;
  SharedBarrier full;
};

template <int AXES>
PK_KERNEL void move_box(PK_GRID_CONSTANT const TensorMap from, PK_GRID_CONSTANT const TensorMap to, Coordinates<AXES> at, Coordinates<AXES> to_at, uint32_t* image, uint32_t bytes) {
  PK_SHARED(BoxShared, shared);
  const uint32_t thread = thread_index().x;
  if (thread == 0) {
    shared.full.initialize(1);
    fence_barrier_initialization();
  }
  barrier();
  if (thread == 0) {
    shared.full.arrive_expect(bytes);
    load_tensor<AXES>(shared.box.address(), &from, at, shared.full);
  }
  shared.full.wait(0);
  for (uint32_t i = thread; i < bytes / 4; i += block_extent().x) store_global(image + i, shared.box.load(i));
  if (thread == 0) {
    store_tensor<AXES>(&to, to_at, shared.box.address());
    commit_bulk_stores();
    wait_for_bulk_stores<0>();
  }
}

template <class T, int AXES>
int32_t move_box_of(const pk_queue& queue, TensorBox from, TensorBox to, const int32_t* at, uint32_t* image, Staged& operands) {
  TensorMap from_map, to_map;
  PK_TRY(make_tensor_map<T>("move_box", from, &from_map));
  PK_TRY(make_tensor_map<T>("move_box", to, &to_map));
  Coordinates<AXES> from_at, to_at;
  uint32_t bytes = sizeof(T);
  for (int i = 0; i < AXES; ++i) {
    from_at.of[i] = at[i];
    to_at.of[i] = at[4 + i];
    bytes *= from.box[i];
  }
  return launch_staged(queue, {"move_box", {1, 1, 1}, 64, shared_bytes<BoxShared>()}, operands, move_box<AXES>, from_map, to_map, from_at, to_at, image, bytes);
}

template <class T>
int32_t move_box_of(const pk_queue& queue, const TensorBox& from, const TensorBox& to, const int32_t* at, uint32_t* image, Staged& operands) {
  switch (from.axes) {
    case 1: return move_box_of<T, 1>(queue, from, to, at, image, operands);
    case 2: return move_box_of<T, 2>(queue, from, to, at, image, operands);
    case 3: return move_box_of<T, 3>(queue, from, to, at, image, operands);
    default: return move_box_of<T, 4>(queue, from, to, at, image, operands);
  }
}

// ---- lines, in pieces that complete one barrier; each thread adds to what has come, and it goes back -----------------------------------------------------------

constexpr uint32_t kLineWords = 1024, kPieces = 4;

struct LineShared {
  SharedArray<uint32_t, kLineWords, 128> line;
  SharedBarrier full;
};

PK_KERNEL void add_to_line(const uint32_t* from, uint32_t* to, uint32_t rounds) {
  PK_SHARED(LineShared, shared);
  const uint32_t thread = thread_index().x;
  if (thread == 40) {
    shared.full.initialize(32);
    fence_barrier_initialization();
  }
  barrier();
  for (uint32_t round = 0; round < rounds; ++round) {
    if (thread < 32) {
      const uint32_t first = thread * kLineWords / kPieces, words = kLineWords / kPieces;
      if (thread < kPieces) {
        shared.full.expect(words * 4);
        load_bulk(shared.line.address(first), from + round * kLineWords + first, words * 4, shared.full);
      }
      shared.full.arrive();
    }
    shared.full.wait(round % 2);
    for (uint32_t i = thread; i < kLineWords; i += 64) shared.line.store(i, shared.line.load(i) + i);
    fence_proxy_async();
    named_barrier<3, 64>();
    if (thread == 63) {
      store_bulk(to + round * kLineWords, shared.line.address(), kLineWords * 4);
      commit_bulk_stores();
      wait_for_bulk_reads<0>();
    }
    named_barrier<3, 64>();
  }
  if (thread == 63) wait_for_bulk_stores<0>();
}

// ---- a ring of stages between one warp that fills them and two that empty them, with mbarriers or with named barriers -------------------------------------------

constexpr uint32_t kStages = 2;

struct RingShared {
  SharedArray<uint32_t, kStages * 32> values;
  SharedBarrier full[kStages], empty[kStages];
};

// results [64]: the sum of rounds' values of lane 31 - lane, by each thread of warps 1 and 2
template <bool NAMED>
PK_KERNEL void pass_through_ring(const uint32_t* values, uint32_t* results, uint32_t rounds) {
  PK_SHARED(RingShared, shared);
  if (thread_index().x == 95) {
    for (uint32_t i = 0; i < kStages; ++i) {
      shared.full[i].initialize(32);
      shared.empty[i].initialize(64);
    }
  }
  barrier();
  uint32_t sum = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    const uint32_t stage = round % kStages, parity = round / kStages % 2;
    if (warp() == 0) {
      if (!NAMED) shared.empty[stage].wait(parity ^ 1);
      else if (round >= kStages && stage == 0) named_barrier<1, 96>();
      else if (round >= kStages) named_barrier<2, 96>();
      shared.values.store(stage * 32 + lane(), load_global(values + round * 32 + lane()));
      if (!NAMED) shared.full[stage].arrive();
      else if (stage == 0) named_barrier_arrive<3, 96>();
      else named_barrier_arrive<4, 96>();
    } else {
      if (!NAMED) shared.full[stage].wait(parity);
      else if (stage == 0) named_barrier<3, 96>();
      else named_barrier<4, 96>();
      sum += shared.values.load(stage * 32 + 31 - lane());
      if (!NAMED) shared.empty[stage].arrive();
      else if (round + kStages >= rounds) continue;
      else if (stage == 0) named_barrier_arrive<1, 96>();
      else named_barrier_arrive<2, 96>();
    }
  }
  if (warp() > 0) store_global(results + thread_index().x - 32, sum);
}

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

// type: 0 bf16, 1 f16, 2 tf32
int32_t CONFORMANCE(wgmma)(const pk_queue* queue, int32_t type, int32_t n, int32_t a_is_mn_major, int32_t b_is_mn_major, int32_t from_registers, const uint32_t* image,
                            const uint32_t* registers, const uint32_t* places, const float* c, float* d) {
  Staged operands(*queue);
  image = operands.read_bytes("image", image, kImageWords * 4);
  registers = operands.read_bytes("registers", registers, 2 * 128 * 4 * 4);
  c = operands.read_bytes("c", c, static_cast<uint64_t>(n) * 64 * 4);
  d = operands.write_bytes("d", d, static_cast<uint64_t>(n) * 64 * 4);
  const auto place = [&](const uint32_t* of) { return OperandPlace{of[0], of[1], of[2], of[3], of[4]}; };
  const WgmmaProblem problem{image, registers, c, d, place(places), place(places + 5)};
  const bool a = a_is_mn_major != 0, b = b_is_mn_major != 0, from = from_registers != 0;
  const auto kernel = type == 0   ? multiply_of_16_bits<bf16>(n, a, b, from)
                      : type == 1 ? multiply_of_16_bits<f16>(n, a, b, from)
                      : from      ? multiply_of<tf32, Major::k, Major::k, true>(n)
                                  : multiply_of<tf32, Major::k, Major::k, false>(n);
  return launch_staged(*queue, {"multiply_image", {1, 1, 1}, 128, shared_bytes<WgmmaShared>()}, operands, kernel, problem);
}

// shape: extents [4], box [4]; strides [3] in bytes, of both tensors; at: where from, where to
int32_t CONFORMANCE(move_box)(const pk_queue* queue, uint32_t element_bytes, uint32_t axes, const uint64_t* shape, const uint64_t* strides, uint32_t swizzle, const int32_t* at,
                               const void* from, void* to, uint64_t tensor_bytes, uint32_t* image, uint64_t image_bytes) {
  Staged operands(*queue);
  from = operands.read_bytes("from", from, tensor_bytes);
  to = operands.write_bytes("to", to, tensor_bytes);
  image = operands.write_bytes("image", image, image_bytes);
  TensorBox box{from, axes, {}, {}, {}, static_cast<Swizzle>(swizzle)};
  for (uint32_t i = 0; i < 4; ++i) {
    box.extents[i] = shape[i];
    box.box[i] = static_cast<uint32_t>(shape[4 + i]);
    if (i < 3) box.stride_bytes[i] = strides[i];
  }
  TensorBox other = box;
  other.data = to;
  switch (element_bytes) {
    case 1: return move_box_of<uint8_t>(*queue, box, other, at, image, operands);
    case 2: return move_box_of<bf16>(*queue, box, other, at, image, operands);
    default: return move_box_of<float>(*queue, box, other, at, image, operands);
  }
}

int32_t CONFORMANCE(add_to_line)(const pk_queue* queue, const uint32_t* from, uint32_t* to, uint32_t rounds) {
  Staged operands(*queue);
  from = operands.read_bytes("from", from, rounds * kLineWords * 4);
  to = operands.write_bytes("to", to, rounds * kLineWords * 4);
  return launch_staged(*queue, {"add_to_line", {1, 1, 1}, 64, shared_bytes<LineShared>()}, operands, add_to_line, from, to, rounds);
}

int32_t CONFORMANCE(pass_through_ring)(const pk_queue* queue, int32_t named, const uint32_t* values, uint32_t* results, uint32_t rounds) {
  Staged operands(*queue);
  values = operands.read_bytes("values", values, rounds * 32 * 4);
  results = operands.write_bytes("results", results, 64 * 4);
  const auto kernel = named != 0 ? pass_through_ring<true> : pass_through_ring<false>;
  return launch_staged(*queue, {"pass_through_ring", {1, 1, 1}, 96, shared_bytes<RingShared>()}, operands, kernel, values, results, rounds);
}

}  // extern "C"
