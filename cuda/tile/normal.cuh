// Numbers of the standard normal distribution from random words (Box and Muller), by arithmetic that gives the same bits in every build and on every chip.
#pragma once

#include "../ptx/ptx.cuh"

namespace PK_BUILD {

// ln(u) of a normal number in (0, 1]: 2^exponent * (1 + f) with f between sqrt(1/2) - 1 and sqrt(2) - 1, and Cephes' polynomial (logf). Within 2^-23 of the value, also next to 1.
PK_DEVICE float natural_logarithm(float u) {
  constexpr uint32_t kRootOfHalf = 0x3f3504f3u;
  const uint32_t bits = bits_of_float(u), shifted = bits - kRootOfHalf;
  const int exponent = static_cast<int32_t>(shifted) >> 23;
  const float f = float_of_bits((shifted & 0x7fffffu) + kRootOfHalf) - 1.0f, e = static_cast<float>(exponent), square = f * f;
  float p = 7.0376836292e-2f;
  p = fma(p, f, -1.1514610310e-1f);
  p = fma(p, f, 1.1676998740e-1f);
  p = fma(p, f, -1.2420140846e-1f);
  p = fma(p, f, 1.4249322787e-1f);
  p = fma(p, f, -1.6668057665e-1f);
  p = fma(p, f, 2.0000714765e-1f);
  p = fma(p, f, -2.4999993993e-1f);
  p = fma(p, f, 3.3333331174e-1f);
  float rest = p * (f * square);
  rest = fma(e, -2.12194440e-4f, rest);
  rest = fma(square, -0.5f, rest);
  return fma(e, 0.693359375f, f + rest);
}

struct CosineSine {
  float cosine, sine;
};

// Of 2 * pi * word / 2^32: a quarter turn by the word's upper bits, what is left, at most an eighth of a turn either way, by Cephes' polynomials (sinf, cosf). Within 2^-22 of each value.
PK_DEVICE CosineSine of_turn(uint32_t word) {
  const uint32_t quarter = (word + 0x20000000u) >> 30;
  const float angle = static_cast<float>(static_cast<int32_t>(word - (quarter << 30))) * 1.4629180792671596e-9f;  // 2 * pi / 2^32
  const float square = angle * angle;
  float s = fma(-1.9515295891e-4f, square, 8.3321608736e-3f);
  s = fma(s, square, -1.6666654611e-1f);
  s = fma(s * square, angle, angle);
  float c = fma(2.443315711809948e-5f, square, -1.388731625493765e-3f);
  c = fma(c, square, 4.166664568298827e-2f);
  c = fma(c * square, square, fma(-0.5f, square, 1.0f));
  const bool odd = quarter % 2 == 1;
  const float cosine = odd ? s : c, sine = odd ? c : s;
  return {quarter == 1 || quarter == 2 ? -cosine : cosine, quarter >= 2 ? -sine : sine};
}

// Two independent ones from two words: the first says how far from 0, the second in which direction.
PK_DEVICE Vector<float, 2> normal_pair(uint32_t distance, uint32_t direction) {
  const float u = fma(static_cast<float>(distance), 0x1p-32f, 0x1p-33f);
  const float radius = square_root(-2.0f * natural_logarithm(u));
  const CosineSine turn = of_turn(direction);
  return {{radius * turn.cosine, radius * turn.sine}};
}

}  // namespace PK_BUILD
