// Launches that overlap (launch_overlapping), on chips from 9.0 on: a grid that begins before the one before it has ended, and waits for that where it needs its results. Elsewhere launches
// follow each other, and there is nothing to say or to wait for.
#pragma once

#include "site.cuh"

#if PK_EMULATED
#include "../emulator/cluster.h"
#endif

namespace PK_BUILD {

// griddepcontrol.launch_dependents: for this block, the next grid may start. It may when all blocks have called this or ended; nothing that they did is visible to it for that.
PK_DEVICE void let_next_launch_start() {
#if PK_EMULATED
  Block::current()->let_next_grid_start();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// griddepcontrol.wait: until the grid before has ended, and all that it wrote is visible. Returns at once where nothing overlaps.
PK_DEVICE void wait_for_previous_launch(PK_SITE) {
#if PK_EMULATED
  wait_for_previous_grid(pk_site);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace PK_BUILD
