// Fragments of operands from their tiles, and products of them with tensor cores.
//
// A step is 32 bytes of depth: 16 elements of two bytes, 8 of four. A warp multiplies ROWS fragments of 16 rows with COLUMNS fragments of 8 columns.
#pragma once

#include "operand.cuh"

namespace PK_BUILD {

// How elements are multiplied. Products are summed in f32.
template <class T>
struct Exact16 {  // f16 or bf16: products are exact
  using Element = T;
};
struct Tf32 {  // f32 of which only 11 bits count
  using Element = float;
};
struct ThreeTf32 {  // f32 in two parts of 11 bits, of which the product of the lower ones is left out: all but 2^-19 of each product
  using Element = float;
};

// f32 as a sum of two numbers of tf32. The upper part is not rounded, so that it cannot overflow.
struct Tf32Parts {
  uint32_t upper;
  uint32_t lower;  // 0 where the number is infinite or no number
  uint32_t finite; // `upper`, or 0 where it is infinite or no number: what lower parts are multiplied with, since 0 * infinity is no number

  PK_DEVICE explicit Tf32Parts(float value) {
    const uint32_t bits = bits_of_float(value);
    const bool is_finite = (bits & 0x7f800000u) != 0x7f800000u;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    upper = is_nan ? 0x7fffffffu : bits & ~0x1fffu;
    finite = is_finite ? upper : 0;
    lower = is_finite ? tf32_of(value - float_of_bits(upper)) : 0;
  }
  Tf32Parts() = default;
};

template <int COUNT>
PK_DEVICE void split(Tf32Parts (&parts)[COUNT], const uint32_t (&fragment)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) parts[i] = Tf32Parts(float_of_bits(fragment[i]));
}

// sums += a * b, in the order small to large.
PK_DEVICE void multiply_parts(float (&sums)[4], const Tf32Parts (&a)[4], const Tf32Parts (&b)[2]) {
  const uint32_t a_lower[4] = {a[0].lower, a[1].lower, a[2].lower, a[3].lower};
  const uint32_t a_finite[4] = {a[0].finite, a[1].finite, a[2].finite, a[3].finite};
  const uint32_t a_upper[4] = {a[0].upper, a[1].upper, a[2].upper, a[3].upper};
  mma_m16n8k8_tf32(sums, a_lower, b[0].finite, b[1].finite);
  mma_m16n8k8_tf32(sums, a_finite, b[0].lower, b[1].lower);
  mma_m16n8k8_tf32(sums, a_upper, b[0].upper, b[1].upper);
}

template <class Math, int ROWS, int COLUMNS>
PK_DEVICE void multiply(float (&sums)[ROWS][COLUMNS][4], const uint32_t (&a)[ROWS][4], const uint32_t (&b)[COLUMNS][2]) {
  if constexpr (std::is_same<Math, ThreeTf32>::value && 2 * ROWS <= COLUMNS) {  // of the operand with fewer registers, all parts are kept
    Tf32Parts left[ROWS][4];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) split(left[i], a[i]);
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      Tf32Parts right[2];
      split(right, b[j]);
#pragma unroll
      for (int i = 0; i < ROWS; ++i) multiply_parts(sums[i][j], left[i], right);
    }
  } else if constexpr (std::is_same<Math, ThreeTf32>::value) {
    Tf32Parts right[COLUMNS][2];
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) split(right[j], b[j]);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      Tf32Parts left[4];
      split(left, a[i]);
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) multiply_parts(sums[i][j], left, right[j]);
    }
  } else if constexpr (std::is_same<Math, Tf32>::value) {
    uint32_t rounded[ROWS][4];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) rounded[i][e] = tf32_of(float_of_bits(a[i][e]));
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
#pragma unroll
      for (int i = 0; i < ROWS; ++i) mma_m16n8k8_tf32(sums[i][j], rounded[i], tf32_of(float_of_bits(b[j][0])), tf32_of(float_of_bits(b[j][1])));
    }
  } else {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) mma_m16n8k16<typename Math::Element>(sums[i][j], a[i], b[j][0], b[j][1]);
    }
  }
}

// 16 rows from `row` on as the left operand.
template <class Layout, class Tile>
PK_DEVICE void load_left(uint32_t (&a)[4], const Tile& tile, int row, int step) {
  const int in_warp = static_cast<int>(lane());
  if constexpr (!Layout::kTransposed) {
    load_matrices(a, tile, Layout::at(row + in_warp % 16, 2 * step + in_warp / 16));
  } else if constexpr (Layout::kChunk == 8) {
    load_matrices<true>(a, tile, Layout::at(16 * step + in_warp / 16 * 8 + in_warp % 8, row / 8 + in_warp / 8 % 2));
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) a[e] = tile.load(Layout::element(8 * step + in_warp % 4 + e / 2 * 4, row + in_warp / 4 + e % 2 * 8));
  }
}

// 16 rows from `row` on as the right operand: two fragments of 8 columns of the product.
template <class Layout, class Tile>
PK_DEVICE void load_right(uint32_t (&b)[2][2], const Tile& tile, int row, int step) {
  const int in_warp = static_cast<int>(lane());
  uint32_t both[4];
  if constexpr (!Layout::kTransposed) {
    load_matrices(both, tile, Layout::at(row + in_warp / 16 * 8 + in_warp % 8, 2 * step + in_warp / 8 % 2));
  } else if constexpr (Layout::kChunk == 8) {
    load_matrices<true>(both, tile, Layout::at(16 * step + in_warp % 16, row / 8 + in_warp / 16));
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) both[e] = tile.load(Layout::element(8 * step + in_warp % 4 + e % 2 * 4, row + in_warp / 4 + e / 2 * 8));
  }
  b[0][0] = both[0], b[0][1] = both[1], b[1][0] = both[2], b[1][1] = both[3];
}

}  // namespace PK_BUILD
