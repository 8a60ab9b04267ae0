// squares[i] = |scale * left^T * h over the rows of sample i|^2, and that of left's column sums: with left = dY and h = H of B's gradient and the bias', with left = x and h = dH of A's.
//
// left [m, columns], h [m, rank]. A block has one sample and 256 columns: a thread makes 8 elements of the gradient at a time, over all of the sample's rows, squares them and goes on to the next
// 8 ranks, so that no gradient is ever in memory; column sums are one more rank, of ones. The block adds its threads up and leaves one number; a second kernel adds up a sample's numbers of all
// targets. (The Gram form, the sum over pairs of rows of (dY dY^T) .* (H H^T), is less work where the rank is well above the rows of a sample.)
// Loads, in elements: left m * columns * ceil((rank + 1) / 8) with the bias, m * columns * ceil(rank / 8) without; h m * rank * ceil(columns / 32), the same for a warp, from cache. Stores: samples *
// ceil(columns / 256) of f32. 2 * m * columns * rank flops.
// Roundings: the rows of a sample and the scale in an element; of squares, those of a thread, 5 in a warp, 8 warps; the sum over blocks in f64, one to f32. Squares are f32: beyond 2^64 the norm
// becomes infinite, and an element below 2^-75 counts as nothing. Any rank, stride and order.
#pragma once

#include "outer.cuh"
#include "samples.cuh"

namespace PK_BUILD {

struct SampleNormsConfig {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRanks = 8;  // accumulators a thread
  static_assert(kThreads == kLoraSampleNormColumns, "a thread a column");

  struct Shared {
    SharedArray<float, kWarps> of_warps;
  };
};

template <class T>
struct SampleNormsProblem {
  Batched<const T> left;  // [m, columns]
  int64_t batches, m, columns;
  Dropout dropout;  // of left
  int64_t rank;     // columns of h
  Intermediate h;
  pk_samples samples;
  float scale;    // of left^T * h
  int32_t sums;   // 1: left's column sums too
  float* blocks;  // [ceil(columns / 256), samples]
};

// Of an h that is not in parts.
template <class T>
PK_DEVICE float load_one_plane(const Intermediate& h, int64_t batch, int64_t row, int64_t rank) {
  if (std::is_same<T, float>::value || h.in_f32 != 0) return load_global(h.matrix<float>(batch, 0).at(row, rank));
  return to_float(load_global(h.matrix<T>(batch, 0).at(row, rank)));
}

// The squares of a column: all elements of the gradient that its thread makes.
template <class T>
PK_DEVICE float squares_of_column(const SampleNormsProblem<T>& problem, const SampleRows& rows, int64_t column) {
  using Config = SampleNormsConfig;
  const int64_t ranks = problem.rank + problem.sums;
  float squares = 0.0f;
  for (int64_t rank0 = 0; rank0 < ranks; rank0 += Config::kRanks) {
    float sums[Config::kRanks] = {};
    int64_t batch = rows.begin / problem.m, row = rows.begin - batch * problem.m;
#pragma unroll 1
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const float value = problem.dropout.keeps(i, column) ? to_float(load_global(problem.left.batch(batch).at(row, column))) : 0.0f;
#pragma unroll
      for (int j = 0; j < Config::kRanks; ++j) {
        if (rank0 + j < problem.rank) sums[j] = fma(value, load_one_plane<T>(problem.h, batch, row, rank0 + j), sums[j]);
        else if (rank0 + j < ranks) sums[j] += value;
      }
      if (++row == problem.m) {
        row = 0;
        ++batch;
      }
    }
#pragma unroll
    for (int j = 0; j < Config::kRanks; ++j) {
      const float element = rank0 + j < problem.rank ? problem.scale * sums[j] : sums[j];  // 0 beyond the ranks
      squares = fma(element, element, squares);
    }
  }
  return squares;
}

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(SampleNormsConfig::kThreads, 3) lora_sample_norms_simt(SampleNormsProblem<T> problem) {
  using Config = SampleNormsConfig;
  PK_SHARED(Config::Shared, shared);
  const int64_t chunks = (problem.columns + Config::kThreads - 1) / Config::kThreads, sample = block_index().x / chunks, chunk = block_index().x - sample * chunks;
  const int64_t column = chunk * Config::kThreads + thread_index().x;
  const SampleRows rows = sample_rows(problem.samples, sample, problem.batches * problem.m);
  float squares = 0.0f;
  if (rows.begin < rows.end && column < problem.columns) squares = squares_of_column(problem, rows, column);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) squares += shuffle_xor(squares, distance);
  if (lane() == 0) shared.of_warps.store(warp(), squares);
  barrier();  // every warp's sum is there
  if (thread_index().x != 0) return;
  float sum = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < Config::kWarps; ++i) sum += shared.of_warps.load(i);
  store_global(problem.blocks + chunk * problem.samples.count + sample, sum);
}

constexpr int kAddSquaresThreads = 256;

// squares[i] = the sum of sample i's numbers, [count, samples], in their order, and with `accumulate` of what it held. Reports a sample whose offsets are not sound.
PK_KERNEL void PK_LAUNCH_BOUNDS(kAddSquaresThreads) lora_add_squares(const float* blocks, int64_t count, pk_samples samples, int64_t rows, int32_t accumulate, float* squares, pk_status_record* status) {
  const int64_t sample = int64_t{block_index().x} * kAddSquaresThreads + thread_index().x;
  if (sample >= samples.count) return;
  if (!sample_rows(samples, sample, rows).sound) report(status, PK_FAILURE_SAMPLE, sample);
  double sum = accumulate != 0 ? static_cast<double>(load_global(squares + sample)) : 0.0;
#pragma unroll 4  // loads that wait together
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(load_global(blocks + i * samples.count + sample));
  store_global(squares + sample, static_cast<float>(sum));
}

}  // namespace PK_BUILD
