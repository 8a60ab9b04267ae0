// Which thread this is, and how threads of a block and lanes of a warp meet. Blocks are of one axis.
#pragma once

#include <type_traits>

#include "site.cuh"
#include "types.cuh"

// Attributes of kernels: at most so many threads a block, at least so many blocks a multiprocessor.
#if PK_EMULATED
#define PK_LAUNCH_BOUNDS(...)
#else
#define PK_LAUNCH_BOUNDS(...) __launch_bounds__(__VA_ARGS__)
#endif

namespace PK_BUILD {

PK_DEVICE Extent3 thread_index() {
#if PK_EMULATED
  return {Block::current()->thread_index(), 0, 0};
#else
  return {threadIdx.x, threadIdx.y, threadIdx.z};
#endif
}

PK_DEVICE Extent3 block_index() {
#if PK_EMULATED
  return Block::current()->index;
#else
  return {blockIdx.x, blockIdx.y, blockIdx.z};
#endif
}

PK_DEVICE Extent3 block_extent() {
#if PK_EMULATED
  return Block::current()->extent;
#else
  return {blockDim.x, blockDim.y, blockDim.z};
#endif
}

PK_DEVICE Extent3 grid_extent() {
#if PK_EMULATED
  return Block::current()->grid.shape.grid;
#else
  return {gridDim.x, gridDim.y, gridDim.z};
#endif
}

PK_DEVICE uint32_t lane() { return thread_index().x % 32; }
PK_DEVICE uint32_t warp() { return thread_index().x / 32; }

// bar.sync 0: all threads of the block that have not exited.
PK_DEVICE void barrier(PK_SITE) {
#if PK_EMULATED
  Block::current()->barrier(pk_site);
#else
  __syncthreads();
#endif
}

// ---- collectives of a warp: every lane of the mask that has not exited calls the same one, from the same line -------------------------------------------------

// bar.warp.sync
PK_DEVICE void warp_barrier(uint32_t mask = all_lanes PK_COMMA_SITE) {
#if PK_EMULATED
  Block::current()->collective(mask, "warp_barrier", [](void* const*) {}, nullptr, pk_site, Meets::orders);
#else
  __syncwarp(mask);
#endif
}

#if PK_EMULATED
// Every lane brings a value and the lane that it reads.
template <class T>
T exchange(const char* name, T value, uint32_t source_lane, uint32_t mask, Site site) {
  struct Record {
    T in, out;
    uint32_t source;
    const char* name;
    Site site;
  } record{value, value, source_lane, name, site};
  Block::current()->collective(
      mask, name,
      [](void* const* records) {
        for (uint32_t i = 0; i < 32; ++i) {
          auto* self = static_cast<Record*>(records[i]);
          if (self == nullptr) continue;
          const auto* source = self->source < 32 ? static_cast<const Record*>(records[self->source]) : nullptr;
          if (source == nullptr) Block::current()->fault(self->site, "%s: lane %u reads lane %u, which takes no part", self->name, i, self->source);
          self->out = source->in;
        }
      },
      &record, site);
  return record.out;
}
#define PK_EXCHANGE(name, instruction, source) return exchange(name, value, source, mask, pk_site)
#else
// The intrinsics take integers: of the same size, so that any type of 4 or 8 bytes goes through them.
#define PK_EXCHANGE(name, instruction, source)                                                                   \
  std::conditional_t<sizeof(T) == 4, uint32_t, unsigned long long> bits;                                         \
  memcpy(&bits, &value, sizeof value);                                                                           \
  bits = instruction;                                                                                            \
  memcpy(&value, &bits, sizeof value);                                                                           \
  return value
#endif

#define PK_REQUIRE_EXCHANGEABLE(T) \
  static_assert(std::is_trivially_copyable<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "a shuffle moves 4 or 8 bytes")

// shfl.sync.idx: the value of lane `source`.
template <class T>
PK_DEVICE T shuffle(T value, uint32_t source, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_EXCHANGEABLE(T);
  PK_EXCHANGE("shuffle", __shfl_sync(mask, bits, static_cast<int>(source)), source);
}

// shfl.sync.bfly: the value of the lane whose number differs in the bits `difference`.
template <class T>
PK_DEVICE T shuffle_xor(T value, uint32_t difference, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_EXCHANGEABLE(T);
  PK_EXCHANGE("shuffle_xor", __shfl_xor_sync(mask, bits, static_cast<int>(difference)), lane() ^ difference);
}

// shfl.sync.up: the value of the lane `distance` lower; where there is none, its own.
template <class T>
PK_DEVICE T shuffle_up(T value, uint32_t distance, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_EXCHANGEABLE(T);
  PK_EXCHANGE("shuffle_up", __shfl_up_sync(mask, bits, distance), lane() >= distance ? lane() - distance : lane());
}

// shfl.sync.down: the value of the lane `distance` higher; where there is none, its own.
template <class T>
PK_DEVICE T shuffle_down(T value, uint32_t distance, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_EXCHANGEABLE(T);
  PK_EXCHANGE("shuffle_down", __shfl_down_sync(mask, bits, distance), distance < 32 - lane() ? lane() + distance : lane());
}

#undef PK_EXCHANGE
#undef PK_REQUIRE_EXCHANGEABLE

// vote.sync.ballot: bit i is the predicate of lane i, zero where it takes no part.
PK_DEVICE uint32_t ballot(bool predicate, uint32_t mask = all_lanes PK_COMMA_SITE) {
#if PK_EMULATED
  struct Record {
    bool in;
    uint32_t out;
  } record{predicate, 0};
  Block::current()->collective(
      mask, "ballot",
      [](void* const* records) {
        uint32_t votes = 0;
        for (uint32_t i = 0; i < 32; ++i) {
          if (records[i] != nullptr && static_cast<Record*>(records[i])->in) votes |= 1u << i;
        }
        for (uint32_t i = 0; i < 32; ++i) {
          if (records[i] != nullptr) static_cast<Record*>(records[i])->out = votes;
        }
      },
      &record, pk_site);
  return record.out;
#else
  return __ballot_sync(mask, predicate);
#endif
}

// vote.sync.any, vote.sync.all
PK_DEVICE bool any(bool predicate, uint32_t mask = all_lanes PK_COMMA_SITE) {
#if PK_EMULATED
  return ballot(predicate, mask, pk_site) != 0;
#else
  return __any_sync(mask, predicate) != 0;
#endif
}

PK_DEVICE bool all(bool predicate, uint32_t mask = all_lanes PK_COMMA_SITE) {
#if PK_EMULATED
  return ballot(!predicate, mask, pk_site) == 0;
#else
  return __all_sync(mask, predicate) != 0;
#endif
}

}  // namespace PK_BUILD
