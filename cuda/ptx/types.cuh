// Element types of our own, the same in every build, and their conversions.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../core/build.h"
#include "shape.cuh"

namespace PK_BUILD {

struct f16 {
  uint16_t bits;
};

struct bf16 {
  uint16_t bits;
};

// Neighbouring elements that one instruction moves.
template <class T, int COUNT>
struct alignas(sizeof(T) * COUNT) Vector {
  static_assert(sizeof(T) * COUNT <= 16 && (COUNT & (COUNT - 1)) == 0, "the widest access is 16 bytes");
  T values[COUNT];
};

PK_DEVICE uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

PK_DEVICE float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

PK_DEVICE float to_float(float value) { return value; }

// cvt.f32.f16: exact; a NaN becomes the canonical one.
PK_DEVICE float to_float(f16 value) {
#if PK_EMULATED
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
  if (magnitude > 0x7c00u) return float_of_bits(0x7fffffffu);
  if (magnitude == 0x7c00u) return float_of_bits(sign | 0x7f800000u);
  // Halves of which the exponent is read as one of float's, and so are too small by 2^112; subnormals come out right as well.
  return float_of_bits(sign | bits_of_float(float_of_bits(magnitude << 13) * 0x1p112f));
#else
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#endif
}

PK_DEVICE float to_float(bf16 value) { return float_of_bits(static_cast<uint32_t>(value.bits) << 16); }

// To nearest, ties to even. A NaN becomes 0x7fff, as on a device, whatever its sign and payload.
template <class T>
PK_DEVICE T from_float(float value);

template <>
PK_DEVICE float from_float<float>(float value) {
  return value;
}

// cvt.rn.f16.f32
template <>
PK_DEVICE f16 from_float<f16>(float value) {
#if PK_EMULATED
  const uint32_t bits = bits_of_float(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) return {0x7fff};
  if (magnitude >= 0x477ff000u) {  // 65520, the middle between the largest half and the next
    result = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal halves: round at bit 13, then move the exponent
    result = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  } else {  // subnormal halves: adding 0.5, whose unit in the last place is theirs, rounds
    result = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  }
  return {static_cast<uint16_t>(sign | result)};
#else
  f16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#endif
}

// cvt.rn.bf16.f32
template <>
PK_DEVICE bf16 from_float<bf16>(float value) {
#if PK_EMULATED
  const uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
#else
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#endif
}

// Two neighbouring elements of two bytes in a word, each as from_float rounds it: one instruction on a device.
template <class T>
PK_DEVICE uint32_t pair_from_floats(float low, float high) {
  static_assert(sizeof(T) == 2, "two elements in a word");
#if PK_EMULATED
  return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
#else
  uint32_t word;
  if constexpr (std::is_same<T, f16>::value) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#endif
}

}  // namespace PK_BUILD
