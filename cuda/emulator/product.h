// How the registers of a warp hold matrices for mma.sync and wgmma, and their products. These are exact; sums are rounded to f32 one by one, in the order of k.
#pragma once

#include <cstdint>
#include <cstring>

#include "ampere.h"

namespace PK_BUILD {

// "mma.m16n8", "k16.bf16"
void count_product(const char* shape, MatrixType type);

constexpr uint32_t bytes_of(MatrixType type) { return type == MatrixType::f64 ? 8 : type == MatrixType::tf32 ? 4 : 2; }

// As a float: of tf32, the last 13 bits are not looked at.
template <MatrixType TYPE>
float element_at(const void* word) {
  uint32_t bits = 0;
  std::memcpy(&bits, word, bytes_of(TYPE));
  const auto half = static_cast<uint16_t>(bits);
  return TYPE == MatrixType::tf32 ? float_of_bits(bits & ~0x1fffu) : TYPE == MatrixType::bf16 ? to_float(bf16{half}) : to_float(f16{half});
}

// Fills row [16] x k [16], of tf32 k [8], with what one lane holds in four registers.
template <MatrixType TYPE>
void unpack_a(const uint32_t* registers, uint32_t lane, float* a) {
  constexpr uint32_t width = bytes_of(TYPE), count = 4 / width;  // elements of a register
  for (uint32_t i = 0; i < 4; ++i) {
    float* at = a + (lane / 4 + i % 2 * 8) * 16 + i / 2 * 4 * count + lane % 4 * count;
    for (uint32_t j = 0; j < count; ++j) at[j] = element_at<TYPE>(reinterpret_cast<const char*>(registers + i) + j * width);
  }
}

// Where value i of a lane is among 16 rows of sums.
inline uint32_t place_of_sum(uint32_t lane, uint32_t i, uint32_t columns) { return (lane / 4 + i / 2 % 2 * 8) * columns + i / 4 * 8 + lane % 4 * 2 + i % 2; }

// c [16][columns] += a [16][16] * b [16][b_stride], of which the first `depth` k count
inline void multiply(float* c, const float* a, const float* b, uint32_t b_stride, uint32_t columns, uint32_t depth, bool accumulate) {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  for (uint32_t row = 0; row < 16; row += 4) {
    for (uint32_t column = 0; column < columns; column += 8) {
      Four sums[4][2] = {};
      const auto place = [&](uint32_t i, uint32_t j) { return reinterpret_cast<Four*>(c + (row + i) * columns + column + 4 * j); };
      for (uint32_t i = 0; accumulate && i < 8; ++i) sums[i / 2][i % 2] = *place(i / 2, i % 2);
      for (uint32_t k = 0; k < depth; ++k) {
        const auto* of_b = reinterpret_cast<const Four*>(b + k * b_stride + column);
        for (uint32_t i = 0; i < 4; ++i) {
          const float factor = a[(row + i) * 16 + k];
          sums[i][0] += factor * of_b[0];
          sums[i][1] += factor * of_b[1];
        }
      }
      for (uint32_t i = 0; i < 8; ++i) *place(i / 2, i % 2) = sums[i / 2][i % 2];
    }
  }
}

}  // namespace PK_BUILD
