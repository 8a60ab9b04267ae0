// A tensor in global memory, and the box of it that one copy moves.
#pragma once

#include "swizzle.cuh"

namespace PK_BUILD {

// Of 1 to 4 axes. Axis 0 is contiguous.
struct TensorBox {
  const void* data;          // aligned to 16 bytes
  uint32_t axes;
  uint64_t extents[4];       // elements, up to 2^32
  uint64_t stride_bytes[3];  // of axes 1, 2, 3: multiples of 16, less than 2^40
  uint32_t box[4];           // elements, up to 256; along axis 0 a multiple of 16 bytes, and with a swizzle as many as its line has
  Swizzle swizzle;
};

}  // namespace PK_BUILD
