// Arithmetic that must give the same bits in every build. Products and sums written with * and + are never contracted (-ffp-contract=off, -fmad=false): what is to be fused says so.
#pragma once

#include <cmath>

#include "types.cuh"

namespace PK_BUILD {

// fma.rn.f32: a * b + c, rounded once.
PK_DEVICE float fma(float a, float b, float c) {
#if !PK_EMULATED
  return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  // The product is exact in double. The sum is rounded to double and then to float, which goes wrong only where the first rounding falls on the middle between two floats; the middle is
  // elsewhere below float's normal numbers, so these are left to the library as well. Several times faster than a call.
  const double sum = static_cast<double>(a) * b + c;
  uint64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  const bool middle = (bits & 0x1fffffffu) == 0x10000000u, tiny = (bits & 0x7fffffffffffffffu) - 1 < 0x380fffffffffffffu;
  return __builtin_expect(middle || tiny, 0) ? std::fmaf(a, b, c) : static_cast<float>(sum);
#endif
}

// sqrt.rn.f32
PK_DEVICE float square_root(float value) {
#if PK_EMULATED
  return std::sqrt(value);
#else
  return __fsqrt_rn(value);
#endif
}

// The number of the lowest bit that is set, of at least one.
PK_DEVICE int lowest_bit(uint64_t bits) {
#if PK_EMULATED
  return __builtin_ctzll(bits);
#else
  return __ffsll(static_cast<long long>(bits)) - 1;
#endif
}

// popc.b32
PK_DEVICE int set_bits(uint32_t bits) {
#if PK_EMULATED
  return __builtin_popcount(bits);
#else
  return __popc(bits);
#endif
}

// The int that is nearest: for what counts no more than a tile has.
PK_HOST_DEVICE int nearest_int(int64_t value) { return static_cast<int>(value < INT32_MIN ? INT32_MIN : value > INT32_MAX ? INT32_MAX : value); }

template <class T>
PK_HOST_DEVICE T minimum(T a, T b) {
  return b < a ? b : a;
}

template <class T>
PK_HOST_DEVICE T maximum(T a, T b) {
  return a < b ? b : a;
}

}  // namespace PK_BUILD
