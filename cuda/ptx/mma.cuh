// Products of small matrices by a whole warp: sums += a * b. Lane i, with g = i / 4 and t = i % 4, holds of each matrix what the comments say.
#pragma once

#include "site.cuh"
#include "types.cuh"
#if PK_EMULATED
#include "../emulator/ampere.h"
#endif

namespace PK_BUILD {

// mma.m16n8k16 of f16 or bf16, summed in f32. a: rows g, g + 8, g, g + 8 at columns 2 t and 2 t + 1, the last two 8 columns further on; b: rows 2 t and 2 t + 1, and these + 8, of column g;
// sums: row g, then row g + 8, at columns 2 t and 2 t + 1. The first of two elements is in the lower half of a register.
template <class T>
PK_DEVICE void mma_m16n8k16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 PK_COMMA_SITE) {
  static_assert(std::is_same<T, f16>::value || std::is_same<T, bf16>::value, "of two bytes");
#if PK_EMULATED
  const uint32_t b[2] = {b0, b1};
  multiply_matrices(matrix_type<T>(), sums, a, b, pk_site);
#else
#define PK_MMA(kind)                                                                                                            \
  asm volatile("mma.sync.aligned." kind " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                      \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
  if constexpr (std::is_same<T, bf16>::value) PK_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  else PK_MMA("m16n8k16.row.col.f32.f16.f16.f32");
#endif
}

// cvt.rna.tf32.f32: to the nearest number of 10 bits after the point, ties away from zero, as the bits of a float.
PK_DEVICE uint32_t tf32_of(float value) {
#if PK_EMULATED
  const uint32_t bits = bits_of_float(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? ((bits & 0x7fffffu) != 0 ? 0x7fffffffu : bits) : (bits + 0x1000u) & ~0x1fffu;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#endif
}

// mma.m16n8k8 of tf32, the bits of floats of which the last 13 are not looked at, summed in f32. a: rows g, g + 8, g, g + 8 at column t, the last two at t + 4; b: rows t and t + 4 of
// column g; sums as above.
PK_DEVICE void mma_m16n8k8_tf32(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 PK_COMMA_SITE) {
#if PK_EMULATED
  const uint32_t b[2] = {b0, b1};
  multiply_matrices(MatrixType::tf32, sums, a, b, pk_site);
#else
  PK_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
#undef PK_MMA
#endif
}

// mma.m8n8k4 of f64. a: row g, column t; b: row t, column g; sums: row g, columns 2 t and 2 t + 1.
PK_DEVICE void mma_m8n8k4_f64(double (&sums)[2], double a, double b PK_COMMA_SITE) {
#if PK_EMULATED
  multiply_matrices(MatrixType::f64, sums, &a, &b, pk_site);
#else
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};" : "+d"(sums[0]), "+d"(sums[1]) : "d"(a), "d"(b));
#endif
}

}  // namespace PK_BUILD
