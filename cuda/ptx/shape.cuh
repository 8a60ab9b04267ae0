// The extents of a launch, and what is the same on every chip.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/build.h"

namespace PK_BUILD {

constexpr uint32_t all_lanes = 0xffffffffu;  // of a warp, as a mask

struct Extent3 {
  uint32_t x, y, z;
};

// Which blocks of a launch may wait for which. None: blocks run in any order, each to its end. For started: at least one is resident, and the next starts when one ends; so a block may wait
// for those that started before it, which it knows by a counter that each block raises when it starts. For all: a cooperative launch, refused where the chip cannot hold all blocks at once.
enum class BlocksWait { none, for_started, for_all };

struct LaunchShape {
  const char* kernel;
  Extent3 grid;
  uint32_t block_threads;
  size_t shared_bytes;
  BlocksWait blocks_wait = BlocksWait::none;
  Extent3 cluster = {1, 1, 1};  // blocks that run together (cluster.cuh): at most 8, and on chips before 9.0 one
};

}  // namespace PK_BUILD
