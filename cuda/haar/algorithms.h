// The kernels of the Haar family by number, what a tile of them holds, and the longest chain of float roundings of each: what the C interface knows of them when it picks.
#pragma once

#include <cstdint>

#include "../core/build.h"
#include "../include/peft_kernels.h"

enum : int32_t { PK_HAAR_SIMT = 1, PK_HAAR_TILE = 2 };

// Beyond it 2^levels would be more than any extent.
constexpr int32_t kHaarLevels = 48;

// Of a tile: 64 rows of 32 lanes with 16 bytes of elements each.
constexpr int64_t kHaarTileRows = 64;
static constexpr int64_t haar_tile_columns(bool f32) { return f32 ? 128 : 256; }

// Levels that a tile holds, along memory's contiguous extent alone, along the other alone, and along both.
static constexpr int32_t haar_tile_levels(bool contiguous, bool other, bool f32) { return other ? 6 : contiguous ? (f32 ? 7 : 8) : 0; }

// ceil(extent / 2^level)
static PK_HOST_DEVICE constexpr int64_t haar_count(int64_t extent, int32_t level) { return (extent >> level) + ((extent & ((int64_t{1} << level) - 1)) != 0 ? 1 : 0); }

// Sums of two a level and axis, the factor and the product with it.
static constexpr int64_t haar_tile_rounding_steps(int64_t levels, int64_t axes) { return levels * axes + 2; }
// Sums are of f64: to f32 for the factor, the factor, the product.
constexpr int64_t kHaarSimtRoundingSteps = 3;

// Of a block of the Walsh-Hadamard transform of rows of 2^bits elements: one row, or 8192 elements of shorter ones.
static constexpr int64_t haar_hadamard_elements(int32_t bits) { return int64_t{1} << (bits < 13 ? 13 : bits); }
