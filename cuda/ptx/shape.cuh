// The extents of a launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/build.h"

namespace PK_BUILD {

struct Extent3 {
  uint32_t x, y, z;
};

struct LaunchShape {
  const char* kernel;
  Extent3 grid;
  uint32_t block_threads;
  size_t shared_bytes;
};

}  // namespace PK_BUILD
