// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3; 2011): 128 random bits that follow from a counter and a key alone, in any order and on any thread.
#pragma once

#include "../ptx/types.cuh"

namespace PK_BUILD {

struct PhiloxKey {
  uint32_t low, high;
};

PK_DEVICE Vector<uint32_t, 4> philox(Vector<uint32_t, 4> counter, PhiloxKey key) {
  constexpr int kRounds = 10;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t first = uint64_t{0xd2511f53u} * counter.values[0], second = uint64_t{0xcd9e8d57u} * counter.values[2];
    counter = {{static_cast<uint32_t>(second >> 32) ^ counter.values[1] ^ key.low, static_cast<uint32_t>(second), static_cast<uint32_t>(first >> 32) ^ counter.values[3] ^ key.high,
                static_cast<uint32_t>(first)}};
    key = {key.low + 0x9e3779b9u, key.high + 0xbb67ae85u};
  }
  return counter;
}

}  // namespace PK_BUILD
