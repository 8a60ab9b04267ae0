// out = scale * (the sum of planes, in their order, of one pass or of two) + what out is to be added to; where rows have scales, too, of the planes of each the sum times it.
//
// A thread an element, neighbours along the planes' columns; with a list of ranks these are some of out's, and the others stay as they are. Loads: planes of all passes * rows * columns of f32, a
// row's scale (from cache), and out where it is added to; of a list 4 bytes an element (from cache). Stores: out. Roundings: planes, the row's scale, the one scaled sum with out, then the one to
// out's type.
#pragma once

#include "../tile/matrix.cuh"

namespace PK_BUILD {

struct AddPartsConfig {
  static constexpr int kThreads = 256;
};

// `batches` times `planes` planes, [rows, columns] of each.
template <class G>
struct AddedParts {
  const float* data;
  int64_t plane_stride, row_stride;  // columns lie side by side
  int64_t planes, batches, rows, columns;
  float scale;
  int32_t accumulate;
  Batched<G> out;
  const int32_t* ranks;            // out's columns that the planes' are, -1: none; or null, all in their order
  Batched<const float> row_scale;  // [1, rows], data = null: none ...
  int64_t planes_of_scale;         // ... else one for each so many planes, which are some of a batch's or all
  const float* more = nullptr;     // without row scales: the planes of a second pass, as many and as far apart
};

template <class G>
PK_KERNEL void PK_LAUNCH_BOUNDS(AddPartsConfig::kThreads) lora_add_parts(AddedParts<G> parts) {
  const int64_t of_batch = parts.rows * parts.columns, elements = parts.batches * of_batch, threads = static_cast<int64_t>(grid_extent().x) * AddPartsConfig::kThreads;
  for (int64_t i = static_cast<int64_t>(block_index().x) * AddPartsConfig::kThreads + thread_index().x; i < elements; i += threads) {
    const int64_t batch = i / of_batch, row = (i - batch * of_batch) / parts.columns, column = i - batch * of_batch - row * parts.columns;
    const int64_t to = parts.ranks != nullptr ? load_global(parts.ranks + column) : column;
    if (to < 0) continue;
    const float* source = parts.data + batch * parts.planes * parts.plane_stride + row * parts.row_stride + column;
    float sum = 0.0f;
    if (parts.row_scale.first.data == nullptr) {
#pragma unroll 4  // loads that wait together
      for (int64_t plane = 0; plane < parts.planes; ++plane) sum += load_global(source + plane * parts.plane_stride);
      if (parts.more != nullptr) {
        const float* more = parts.more + (source - parts.data);
#pragma unroll 4
        for (int64_t plane = 0; plane < parts.planes; ++plane) sum += load_global(more + plane * parts.plane_stride);
      }
    } else {
      for (int64_t plane = 0; plane < parts.planes; plane += parts.planes_of_scale) {
        float of_scale = 0.0f;
#pragma unroll 4
        for (int64_t part = plane; part < plane + parts.planes_of_scale; ++part) of_scale += load_global(source + part * parts.plane_stride);
        sum = fma(load_global(parts.row_scale.batch((batch * parts.planes + plane) / parts.planes_of_scale).at(0, row)), of_scale, sum);
      }
    }
    G* out = parts.out.batch(batch).at(row, to);
    store_global(out, from_float<G>(fma(parts.scale, sum, parts.accumulate != 0 ? to_float(load_global(out)) : 0.0f)));
  }
}

}  // namespace PK_BUILD
