// How copies of tensors and wgmma spread lines of shared memory over its banks.
#pragma once

#include "types.cuh"

namespace PK_BUILD {

// A swizzle of S bytes: 16-byte chunk c of the line of S bytes that begins at address a is found at chunk c xor (a / 128 mod (S / 16)).
enum class Swizzle : uint32_t { none = 0, bytes32 = 1, bytes64 = 2, bytes128 = 3 };

// Of a line: 16 << swizzle, also without one.
PK_HOST_DEVICE constexpr uint32_t swizzle_bytes(Swizzle swizzle) { return 16u << static_cast<uint32_t>(swizzle); }

// Where the byte that would be at this address is, in an array aligned to 8 lines.
PK_HOST_DEVICE uint32_t swizzled(uint32_t address, Swizzle swizzle) { return address ^ (address >> 3 & ((1u << static_cast<uint32_t>(swizzle)) - 1) << 4); }

}  // namespace PK_BUILD
