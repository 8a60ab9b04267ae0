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

// ---- WaRA ---------------------------------------------------------------------------------------------------------------------------------------------------

constexpr int32_t kHaarWaraBands = 3 * PK_HAAR_WARA_LEVELS + 1;

// Of a merge by tiles: levels that 8 x 8 elements hold, rows and columns, shared memory.
constexpr int32_t kHaarWaraMergeLevels = 3;
constexpr int64_t kHaarWaraMergeTile = 128, kHaarWaraMergeShared = 76 * 1024;

// A group of ranks: those of one band's coefficients (weight mode), or those that some bands of the tokens share (activation mode; then `level` is 0 and the factors are plain).
// The group's B is B[i, c] = +-b[row_first + (i >> level), c], negative for the second half of every 2^level rows where row_detail; its A is that of columns. So
// delta W = scale * sum over groups of gain * B * A, and coefficients are nowhere.
struct HaarWaraGroup {
  const void *a, *b;
  int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride;
  int64_t row_first, row_count, column_first, column_count;  // of the factors, that the group has
  int32_t factor, rank, first;  // first: where the group's ranks begin among those of all groups
  int32_t level, row_detail, column_detail;
  float gain;
  int32_t reserved;
};

// What the kernels know of an adapter.
struct HaarWaraPlan {
  int32_t algorithm, group_count, ranks, levels, boundary, activation;
  float scale;
  int32_t per_band;  // activation mode: band i belongs to group i, else all to the one
  int64_t grid_rows, grid_columns;
  float gains[kHaarWaraBands];
  HaarWaraGroup groups[kHaarWaraBands];
};
