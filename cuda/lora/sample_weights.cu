// Weights of samples: from their norms, and to their rows. A thread an element; 8 bytes of each, and with offsets log2(samples) reads of them, from cache, a row.
#include "sample_weights.h"

#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "forward_launch.h"
#include "samples.cuh"

namespace PK_BUILD {

constexpr int kWeightThreads = 256;

PK_KERNEL void PK_LAUNCH_BOUNDS(kWeightThreads) lora_row_weights(pk_samples samples, const float* weights, int64_t rows, float* row_weights) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * kWeightThreads;
  for (int64_t row = static_cast<int64_t>(block_index().x) * kWeightThreads + thread_index().x; row < rows; row += threads) {
    const int64_t sample = sample_of(samples, row, rows);
    store_global(row_weights + row, sample >= 0 ? load_global(weights + sample) : 0.0f);
  }
}

// Roundings: the root, the quotient.
PK_KERNEL void PK_LAUNCH_BOUNDS(kWeightThreads) lora_clip_weights(const float* squares, int64_t count, float max_norm, float* weights) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * kWeightThreads;
  for (int64_t i = static_cast<int64_t>(block_index().x) * kWeightThreads + thread_index().x; i < count; i += threads) {
    const float ratio = max_norm / square_root(load_global(squares + i));
    store_global(weights + i, ratio >= 1.0f ? 1.0f : ratio);  // NaN stays
  }
}

int32_t row_weights(const pk_queue& queue, const pk_samples& samples, const float* weights, int64_t rows, float* row_weights) {
  if (rows == 0) return PK_OK;
  Operands operands;
  operands.read_bytes("sample offsets", samples.offsets, samples.offsets != nullptr ? (samples.count + 1) * sizeof(int32_t) : 0);
  operands.read_bytes("sample weights", weights, samples.count * sizeof(float));
  operands.write_bytes("workspace", row_weights, rows * sizeof(float));
  return launch(queue, {"lora_row_weights", grid_of(tiles_of(rows, kWeightThreads)), kWeightThreads, 0}, operands, lora_row_weights, samples, weights, rows, row_weights);
}

}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_clip_weights)(const pk_queue* queue, const pk_lora_clip_weights_descriptor* descriptor) {
  using namespace PK_BUILD;
  const int64_t count = descriptor->count;
  if (count == 0) return PK_OK;
  Operands operands;
  operands.read_bytes("squares", descriptor->squares, count * sizeof(float));
  operands.write_bytes("weights", descriptor->weights, count * sizeof(float));
  return launch(*queue, {"lora_clip_weights", grid_of(tiles_of(count, kWeightThreads)), kWeightThreads, 0}, operands, lora_clip_weights, descriptor->squares, count, descriptor->max_norm,
                descriptor->weights);
}

int32_t PK_OPERATION(lora_sample_weights_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_row_weights));
  return prepare(lora_clip_weights);
}

}  // extern "C"
