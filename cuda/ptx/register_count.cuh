// How many registers the threads of a warpgroup have. A kernel that calls these has PK_LAUNCH_BOUNDS.
#pragma once

#include "architecture.cuh"
#include "thread.cuh"

#if PK_EMULATED
#include "../emulator/hopper.h"
#endif

namespace PK_BUILD {

#define PK_REQUIRE_REGISTER_COUNT static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256, "a multiple of 8 from 24 to 256")

// setmaxnreg.dec: gives registers back; by all warps of a warpgroup.
template <uint32_t COUNT>
PK_DEVICE void decrease_register_count(PK_SITE) {
  PK_REQUIRE_REGISTER_COUNT;
#if PK_EMULATED
  set_register_count(COUNT, pk_site);
#else
  PK_ASM_90A("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}

// setmaxnreg.inc: waits until so many are free; by all warps of a warpgroup.
template <uint32_t COUNT>
PK_DEVICE void increase_register_count(PK_SITE) {
  PK_REQUIRE_REGISTER_COUNT;
#if PK_EMULATED
  set_register_count(COUNT, pk_site);
#else
  PK_ASM_90A("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}

#undef PK_REQUIRE_REGISTER_COUNT

}  // namespace PK_BUILD
