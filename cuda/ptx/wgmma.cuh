// wgmma: a warpgroup of 128 threads multiplies matrices, from shared memory or registers into registers, while its threads go on.
#pragma once

#include <type_traits>

#include "architecture.cuh"
#include "site.cuh"
#include "swizzle.cuh"
#include "types.cuh"
#include "wgmma_operands.cuh"

#if PK_EMULATED
#include "../emulator/wgmma.h"
#endif

namespace PK_BUILD {

// As an operand's type: 32-bit floats of which the upper 19 bits count.
struct tf32 {
  float value;
};

// Which index of an operand runs along memory: k, or the row of A and the column of B (16-bit types only).
enum class Major : uint32_t { k = 0, mn = 1 };

// This thread's part of the product, 64 rows x N columns of a warpgroup: its warp w has rows 16 w and on, lane l of it row l / 4 + 8 (i / 2 % 2) and column 8 (i / 4) + 2 (l % 4) + i % 2 as
// value i. Between a wgmma and the wgmma_wait for it, the values belong to the tensor core. An i must be known when the kernel is compiled: loops over it are unrolled.
template <int N>
class Accumulator {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "wgmma has 8, 16, ... 256 columns");

 public:
  static constexpr int count = N / 2;

  Accumulator(const Accumulator&) = delete;
  Accumulator& operator=(const Accumulator&) = delete;
#if PK_EMULATED
  explicit Accumulator(PK_SITE) : registers_(values_, count, pk_site) {}
#else
  PK_DEVICE Accumulator() {}
#endif

  PK_DEVICE float value(int i PK_COMMA_SITE) const {
#if PK_EMULATED
    registers_.touch(i, pk_site);
#endif
    return values_[i];
  }

  PK_DEVICE void set(int i, float value PK_COMMA_SITE) {
#if PK_EMULATED
    registers_.touch(i, pk_site);
#endif
    values_[i] = value;
  }

  PK_DEVICE void clear(PK_SITE) {
#pragma unroll
    for (int i = 0; i < count; ++i) set(i, 0.0f PK_COMMA_FROM);
  }

#if PK_EMULATED
  AccumulatorModel& registers() { return registers_; }
#else
  PK_DEVICE float (&registers())[N / 2] { return values_; }
#endif

 private:
  float values_[N / 2];
#if PK_EMULATED
  mutable AccumulatorModel registers_;
#endif
};

// Where an operand lies in shared memory. With a swizzle of S bytes, it consists of pieces of 8 lines of S bytes, as load_tensor() writes them, each at a multiple of 8 S bytes:
//   k-major: a line is a row of A (a column of B); the next 8 are stride_bytes further. leading_bytes is not used. The step to the next 16 (tf32: 8) k is advanced(32).
//   mn-major: a line is one k of S / 2 rows; the next S / 2 rows are leading_bytes further, the next 8 k stride_bytes.
// Without a swizzle it consists of pieces of 8 lines of 16 bytes:
//   k-major: the next 16 bytes of k are leading_bytes further, the next 8 rows stride_bytes.
//   mn-major: a line is one k of 8 rows; the next 8 rows are stride_bytes further, the next 8 k leading_bytes.
struct MatrixDescriptor {
  uint64_t bits;
  PK_DEVICE MatrixDescriptor advanced(uint32_t bytes) const { return {bits + (bytes >> 4)}; }
};

PK_DEVICE MatrixDescriptor matrix_descriptor(uint32_t address, Swizzle swizzle, uint32_t leading_bytes, uint32_t stride_bytes) {
  const uint64_t mode = swizzle == Swizzle::none ? 0 : 4 - static_cast<uint32_t>(swizzle);
  return {(address & 0x3ffff) >> 4 | static_cast<uint64_t>(leading_bytes >> 4 & 0x3fff) << 16 | static_cast<uint64_t>(stride_bytes >> 4 & 0x3fff) << 32 | mode << 62};
}

// wgmma.fence: before the first wgmma, and before each that follows an access of its accumulators or its A registers by other instructions.
PK_DEVICE void wgmma_fence(PK_SITE) {
#if PK_EMULATED
  fence_wgmma(pk_site);
#else
  PK_ASM_90A("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// wgmma.commit_group: those since the last one are a group.
PK_DEVICE void wgmma_commit(PK_SITE) {
#if PK_EMULATED
  commit_wgmma(pk_site);
#else
  PK_ASM_90A("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// wgmma.wait_group: until at most PENDING groups of this warp are under way.
template <int PENDING>
PK_DEVICE void wgmma_wait(PK_SITE) {
  static_assert(PENDING >= 0 && PENDING <= 7, "wgmma.wait_group takes 0 to 7");
#if PK_EMULATED
  wait_for_wgmma(PENDING, pk_site);
#else
  PK_ASM_90A("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
#endif
}

#if !PK_EMULATED
template <int N>
struct WgmmaInstruction;

#define PK_WGMMA_FROM_SHARED(N, SHAPE_AND_TYPES, TRANSPOSED, a_, b_, accumulate_)                                                                         \
  PK_ASM_90A("{ .reg .pred p; setp.ne.b32 p, %" #accumulate_ ", 0; wgmma.mma_async.sync.aligned.m64n" #N SHAPE_AND_TYPES " {" PK_WGMMA_TEXT_##N "}, %" #a_ \
             ", %" #b_ ", p, 1, 1" TRANSPOSED "; }"                                                                                                       \
             : PK_WGMMA_FLOATS_##N                                                                                                                        \
             : "l"(a), "l"(b), "r"(accumulate), "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))
#define PK_WGMMA_FROM_REGISTERS(N, SHAPE_AND_TYPES, TRANSPOSED, a0_, a1_, a2_, a3_, b_, accumulate_)                                                 \
  PK_ASM_90A("{ .reg .pred p; setp.ne.b32 p, %" #accumulate_ ", 0; wgmma.mma_async.sync.aligned.m64n" #N SHAPE_AND_TYPES " {" PK_WGMMA_TEXT_##N "}, " \
             "{%" #a0_ ",%" #a1_ ",%" #a2_ ",%" #a3_ "}, %" #b_ ", p, 1, 1" TRANSPOSED "; }"                                                          \
             : PK_WGMMA_FLOATS_##N                                                                                                                    \
             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSE_B))
// One struct for each number of columns: the names i0 to i6 are the numbers of the operands behind the accumulators.
#define PK_WGMMA_INSTRUCTION(N, i0, i1, i2, i3, i4, i5, i6)                                                                                   \
  template <>                                                                                                                                 \
  struct WgmmaInstruction<N> {                                                                                                                \
    template <class T, int TRANSPOSE_A, int TRANSPOSE_B>                                                                                      \
    static PK_DEVICE void from_shared(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate) {                                            \
      if constexpr (std::is_same<T, bf16>::value) PK_WGMMA_FROM_SHARED(N, "k16.f32.bf16.bf16", ", %" #i3 ", %" #i4, i0, i1, i2);              \
      else if constexpr (std::is_same<T, f16>::value) PK_WGMMA_FROM_SHARED(N, "k16.f32.f16.f16", ", %" #i3 ", %" #i4, i0, i1, i2);            \
      else PK_WGMMA_FROM_SHARED(N, "k8.f32.tf32.tf32", "", i0, i1, i2);                                                                       \
    }                                                                                                                                         \
    template <class T, int TRANSPOSE_B>                                                                                                       \
    static PK_DEVICE void from_registers(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int accumulate) {                             \
      if constexpr (std::is_same<T, bf16>::value) PK_WGMMA_FROM_REGISTERS(N, "k16.f32.bf16.bf16", ", %" #i6, i0, i1, i2, i3, i4, i5);         \
      else if constexpr (std::is_same<T, f16>::value) PK_WGMMA_FROM_REGISTERS(N, "k16.f32.f16.f16", ", %" #i6, i0, i1, i2, i3, i4, i5);       \
      else PK_WGMMA_FROM_REGISTERS(N, "k8.f32.tf32.tf32", "", i0, i1, i2, i3, i4, i5);                                                        \
    }                                                                                                                                         \
  };
PK_WGMMA_EACH_N(PK_WGMMA_INSTRUCTION)
#undef PK_WGMMA_FROM_SHARED
#undef PK_WGMMA_FROM_REGISTERS
#undef PK_WGMMA_INSTRUCTION
#endif

#define PK_REQUIRE_WGMMA_TYPE(T)                                                                                                                             \
  static_assert(std::is_same<T, bf16>::value || std::is_same<T, f16>::value || (std::is_same<T, tf32>::value && A_MAJOR == Major::k && B_MAJOR == Major::k), \
                "bf16 and f16 of any order, tf32 k-major")

// wgmma.mma_async.m64nNk16 (tf32: k8): d += A * B, or d = A * B. A is 64 x k, B k x N; both in shared memory.
template <class T, Major A_MAJOR = Major::k, Major B_MAJOR = Major::k, int N>
PK_DEVICE void wgmma(Accumulator<N>& d, MatrixDescriptor a, MatrixDescriptor b, bool accumulate = true PK_COMMA_SITE) {
  PK_REQUIRE_WGMMA_TYPE(T);
#if PK_EMULATED
  issue_wgmma({N, matrix_type<T>(), A_MAJOR == Major::mn, B_MAJOR == Major::mn, false, accumulate, a.bits, b.bits, pk_site, &d.registers(), nullptr});
#else
  WgmmaInstruction<N>::template from_shared<T, static_cast<int>(A_MAJOR), static_cast<int>(B_MAJOR)>(d.registers(), a.bits, b.bits, accumulate);
#endif
}

// The same with A in registers: of warp w rows 16 w and on, in lane l of it a[i] holds row l / 4 + 8 (i % 2) and the two columns 8 (i / 2) + 2 (l % 4) (tf32: the column 4 (i / 2) + l % 4).
template <class T, Major B_MAJOR = Major::k, int N>
PK_DEVICE void wgmma(Accumulator<N>& d, const uint32_t (&a)[4], MatrixDescriptor b, bool accumulate = true PK_COMMA_SITE) {
  constexpr Major A_MAJOR = Major::k;
  PK_REQUIRE_WGMMA_TYPE(T);
#if PK_EMULATED
  issue_wgmma({N, matrix_type<T>(), false, B_MAJOR == Major::mn, true, accumulate, 0, b.bits, pk_site, &d.registers(), a});
#else
  WgmmaInstruction<N>::template from_registers<T, static_cast<int>(B_MAJOR)>(d.registers(), a, b.bits, accumulate);
#endif
}

#undef PK_REQUIRE_WGMMA_TYPE

}  // namespace PK_BUILD
