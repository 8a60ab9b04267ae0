// Barriers of a part of the block's warps, with a number.
#pragma once

#include "architecture.cuh"
#include "site.cuh"

#if PK_EMULATED
#include "../emulator/hopper.h"
#endif

namespace PK_BUILD {

// bar.sync, bar.arrive: `threads`, a multiple of 32, take part, whole warps at a time, of which those in named_barrier_arrive do not wait. Number 0 is barrier()'s.
template <uint32_t NUMBER, uint32_t THREADS>
PK_DEVICE void named_barrier(PK_SITE) {
  static_assert(NUMBER >= 1 && NUMBER < 16 && THREADS % 32 == 0 && THREADS >= 32 && THREADS <= 1024, "barriers 1 to 15, of whole warps");
#if PK_EMULATED
  meet_at_named_barrier(NUMBER, THREADS, true, pk_site);
#else
  asm volatile("bar.sync %0, %1;" ::"n"(NUMBER), "n"(THREADS) : "memory");
#endif
}

template <uint32_t NUMBER, uint32_t THREADS>
PK_DEVICE void named_barrier_arrive(PK_SITE) {
  static_assert(NUMBER >= 1 && NUMBER < 16 && THREADS % 32 == 0 && THREADS >= 64 && THREADS <= 1024, "barriers 1 to 15, of whole warps");
#if PK_EMULATED
  meet_at_named_barrier(NUMBER, THREADS, false, pk_site);
#else
  asm volatile("bar.arrive %0, %1;" ::"n"(NUMBER), "n"(THREADS) : "memory");
#endif
}

}  // namespace PK_BUILD
