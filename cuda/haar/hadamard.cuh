// y = scale * after * H * (before * x) along rows of n = 2^k elements, H the Walsh-Hadamard matrix in Sylvester's order: H[i][j] is -1 to the number of bits that i and j share.
//
// A warp holds 1024 neighbouring elements (of the longest rows 2048), 32 a lane: pieces of 16 bytes, so that the bits of an element's number are those of its place in a piece, of the lane, and of the piece. It adds and
// subtracts along these bits in registers and between lanes; rows of fewer elements share a warp. Rows of up to 16 warps then change places once through shared memory, after which a thread
// has all warps' values of its columns and finishes in registers.
// Loads: x once, `before` and `after` once a row. Stores: y once. k * n additions a row. Shared memory: 4 bytes an element of the block's rows, which are 8192 elements or one row.
// Roundings of an element: the product with `before`, k sums, the factor, the product with it and the one with `after`, then the one to y's type.
#pragma once

#include "../tile/matrix.cuh"
#include "algorithms.h"

namespace PK_BUILD {

template <class T>
struct HadamardProblem {
  Batched<const T> source;
  Batched<T> destination;
  Matrix<const T> before, after;  // [1, n], or data = null
  int64_t batch_rows, rows;       // of a batch, and of all
  int32_t bits;                   // n is 2^bits
  int32_t vectors;                // 16 bytes of a row, of `before` and of `after` are contiguous and aligned
  float scale;
};

// GROUP warps, of 32 * LANE elements each, have a row; with one, a warp has as many rows as fit.
template <class T, int GROUP, int LANE>
struct HadamardConfig {
  static constexpr int kPiece = 16 / sizeof(T), kPieces = LANE / kPiece;  // elements of a piece, and pieces of a lane
  static constexpr int kPieceBits = sizeof(T) == 4 ? 2 : 3;
  static constexpr int kWarpElements = 32 * LANE, kWarpBits = LANE == 64 ? 11 : 10, kWarps = GROUP < 8 ? 8 : GROUP, kThreads = 32 * kWarps, kElements = kWarps * kWarpElements;
  static constexpr int kPair = 2;  // neighbours that a thread has after the exchange
  static_assert(1 << kWarpBits == kWarpElements && LANE % (GROUP * kPair) == 0, "a thread has whole columns");

  struct Shared {
    SharedArray<float, kElements> values;
  };

  // Where an element is. A piece of 16 bits is two vectors of floats: every other four lanes exchange theirs, and 8 lanes are in different banks.
  PK_DEVICE static uint32_t at(int element) {
    const int vector = element / 4;
    return static_cast<uint32_t>(4 * (sizeof(T) == 4 ? vector : vector ^ (vector >> 3 & 1)) + element % 4);
  }
};

// Where an element of all rows, counted through, is. NARROW: rows are fewer than 2^32, and no function for the quotient of 64 bits takes registers.
template <bool NARROW>
struct HadamardPlace {
  int64_t batch, row, column;
  bool inside;

  template <class T>
  PK_DEVICE HadamardPlace(const HadamardProblem<T>& problem, int64_t element) {
    const int64_t of_all = element >> problem.bits;
    inside = of_all < problem.rows;
    batch = NARROW ? static_cast<uint32_t>(of_all) / static_cast<uint32_t>(problem.batch_rows) : of_all / problem.batch_rows;
    row = of_all - batch * problem.batch_rows;
    column = element & ((int64_t{1} << problem.bits) - 1);
  }
};

template <class T, int GROUP, int LANE>
PK_KERNEL void PK_LAUNCH_BOUNDS(HadamardConfig<T, GROUP, LANE>::kThreads, 1) haar_hadamard_tile(HadamardProblem<T> problem) {
  using Config = HadamardConfig<T, GROUP, LANE>;
  using Shared = typename Config::Shared;
  constexpr int P = Config::kPiece, N = Config::kPieces, kPieceBits = Config::kPieceBits;
  PK_SHARED(Shared, shared);
  const int64_t block = int64_t{block_index().x} * Config::kElements;
  const int in_warp = static_cast<int>(lane()), first = static_cast<int>(warp()) * Config::kWarpElements + in_warp * P;
  // Warps that share a row divide once to find it; a block that has one row counts at most 2^31.
  const int row_begin = static_cast<int>(warp()) / GROUP * GROUP * Config::kWarpElements;
  using Place = HadamardPlace<GROUP >= 8>;
  const Place of_row(problem, block + row_begin);
  const auto place_of = [&](int element) {
    if constexpr (GROUP == 1) return Place(problem, block + element);
    Place place = of_row;
    place.column = element - row_begin;
    return place;
  };

  float v[N][P];
  if (problem.vectors == 0) {
    // One by one, through the warp's part of shared memory.
#pragma unroll 1
    for (int i = in_warp; i < Config::kWarpElements; i += 32) {
      const int element = static_cast<int>(warp()) * Config::kWarpElements + i;
      const Place at = place_of(element);
      float x = at.inside ? to_float(load_global(problem.source.batch(at.batch).at(at.row, at.column))) : 0.0f;
      if (at.inside && problem.before.data != nullptr) x *= to_float(load_global(problem.before.at(0, at.column)));
      shared.values.store(Config::at(element), x);
    }
    warp_barrier();
  }
  if (LANE == 64 && problem.vectors != 0) {
    // A few pieces at a time, since registers do not hold all of them beside their floats.
#pragma unroll 4
    for (int i = 0; i < N; ++i) {
      const int element = first + i * 32 * P;
      const Place place = place_of(element);
      Vector<T, P> x{}, before{};
      if (place.inside) x = load_global(reinterpret_cast<const Vector<T, P>*>(problem.source.batch(place.batch).at(place.row, place.column)));
      if (problem.before.data != nullptr) before = load_global(reinterpret_cast<const Vector<T, P>*>(problem.before.at(0, place.column)));
#pragma unroll
      for (int c = 0; c < P; c += 4) {
        Vector<float, 4> values;
#pragma unroll
        for (int e = 0; e < 4; ++e) values.values[e] = problem.before.data != nullptr ? to_float(x.values[c + e]) * to_float(before.values[c + e]) : to_float(x.values[c + e]);
        shared.values.template store_vector<4>(Config::at(element + c), values);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int element = first + i * 32 * P;
    const Place place = place_of(element);
    if (LANE != 64 && problem.vectors != 0) {
      Vector<T, P> x{};
      if (place.inside) x = load_global(reinterpret_cast<const Vector<T, P>*>(problem.source.batch(place.batch).at(place.row, place.column)));
#pragma unroll
      for (int c = 0; c < P; ++c) v[i][c] = to_float(x.values[c]);
    } else {
#pragma unroll
      for (int c = 0; c < P; c += 4) {
        const auto vector = shared.values.template load_vector<4>(Config::at(element + c));
#pragma unroll
        for (int e = 0; e < 4; ++e) v[i][c + e] = vector.values[e];
      }
    }
  }

  if (LANE != 64 && problem.vectors != 0 && problem.before.data != nullptr) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const auto before = load_global(reinterpret_cast<const Vector<T, P>*>(problem.before.at(0, place_of(first + i * 32 * P).column)));
#pragma unroll
      for (int c = 0; c < P; ++c) v[i][c] *= to_float(before.values[c]);
    }
  }

  const auto pair = [](float& a, float& b) {
    const float sum = a + b, difference = a - b;
    a = sum;
    b = difference;
  };
#pragma unroll
  for (int bit = 0; bit < kPieceBits; ++bit) {
    if (bit >= problem.bits) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int c = 0; c < P; ++c) {
        if ((c >> bit & 1) == 0) pair(v[i][c], v[i][c + (1 << bit)]);
      }
    }
  }
#pragma unroll 1
  for (int bit = 0; bit < 5 && kPieceBits + bit < problem.bits; ++bit) {
    const bool upper = (in_warp >> bit & 1) != 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int c = 0; c < P; ++c) {
        const float other = shuffle_xor(v[i][c], 1u << bit);
        v[i][c] = upper ? other - v[i][c] : v[i][c] + other;
      }
    }
  }
#pragma unroll
  for (int bit = 0; kPieceBits + 5 + bit < Config::kWarpBits; ++bit) {
    if (kPieceBits + 5 + bit >= problem.bits) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if ((i >> bit & 1) != 0) continue;
#pragma unroll
      for (int c = 0; c < P; ++c) pair(v[i][c], v[i + (1 << bit)][c]);
    }
  }

  if constexpr (GROUP == 1) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int element = first + i * 32 * P;
      const Place place = place_of(element);
      if (problem.vectors != 0) {
        if (!place.inside) continue;
        Vector<T, P> after{}, y;
        if (problem.after.data != nullptr) after = load_global(reinterpret_cast<const Vector<T, P>*>(problem.after.at(0, place.column)));
#pragma unroll
        for (int c = 0; c < P; ++c) {
          const float scaled = v[i][c] * problem.scale;
          y.values[c] = from_float<T>(problem.after.data != nullptr ? scaled * to_float(after.values[c]) : scaled);
        }
        store_global(reinterpret_cast<Vector<T, P>*>(problem.destination.batch(place.batch).at(place.row, place.column)), y);
      } else {
#pragma unroll
        for (int c = 0; c < P; c += 4) shared.values.template store_vector<4>(Config::at(element + c), {{v[i][c], v[i][c + 1], v[i][c + 2], v[i][c + 3]}});
      }
    }
    if (problem.vectors == 0) {
      // One by one, as they came.
      warp_barrier();
#pragma unroll 1
      for (int i = in_warp; i < Config::kWarpElements; i += 32) {
        const int element = static_cast<int>(warp()) * Config::kWarpElements + i;
        const Place at = place_of(element);
        if (!at.inside) continue;
        float scaled = shared.values.load(Config::at(element)) * problem.scale;
        if (problem.after.data != nullptr) scaled *= to_float(load_global(problem.after.at(0, at.column)));
        store_global(problem.destination.batch(at.batch).at(at.row, at.column), from_float<T>(scaled));
      }
    }
  } else {
    constexpr int kPair = Config::kPair, kColumns = LANE / GROUP / kPair;  // pairs of columns that a thread has
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int c = 0; c < P; c += 4) shared.values.template store_vector<4>(Config::at(first + i * 32 * P + c), {{v[i][c], v[i][c + 1], v[i][c + 2], v[i][c + 3]}});
    }
    barrier();
    const int thread = static_cast<int>(thread_index().x) % (32 * GROUP);
#pragma unroll 1
    for (int i = 0; i < kColumns; ++i) {
      const int column = (i * 32 * GROUP + thread) * kPair, begin = row_begin + column;
      float u[GROUP][kPair];
#pragma unroll
      for (int w = 0; w < GROUP; ++w) {
        const auto vector = shared.values.template load_vector<kPair>(Config::at(begin + w * Config::kWarpElements));
#pragma unroll
        for (int e = 0; e < kPair; ++e) u[w][e] = vector.values[e];
      }
#pragma unroll
      for (int step = 1; step < GROUP; step *= 2) {
#pragma unroll
        for (int w = 0; w < GROUP; ++w) {
          if ((w & step) != 0) continue;
#pragma unroll
          for (int e = 0; e < kPair; ++e) pair(u[w][e], u[w + step][e]);
        }
      }
#pragma unroll
      for (int w = 0; w < GROUP; ++w) {
        const Place place = place_of(begin + w * Config::kWarpElements);
        if (!place.inside) continue;
        const Matrix<T> destination = problem.destination.batch(place.batch);
        Vector<T, kPair> y;
#pragma unroll
        for (int e = 0; e < kPair; ++e) {
          float scaled = u[w][e] * problem.scale;
          if (problem.after.data != nullptr) scaled *= to_float(load_global(problem.after.at(0, place.column + e)));
          y.values[e] = from_float<T>(scaled);
        }
        if (problem.vectors != 0) {
          store_global(reinterpret_cast<Vector<T, kPair>*>(destination.at(place.row, place.column)), y);
        } else {
#pragma unroll
          for (int e = 0; e < kPair; ++e) store_global(destination.at(place.row, place.column + e), y.values[e]);
        }
      }
    }
  }
}

// By the definition, in f64: a thread makes an element of n products. For rows that the shared memory of a chip does not hold, and to compare with.
// Loads: x, `before` once for every element of a row, `after` once. Roundings: of the sum to f32, the factor, the products with it and with `after`.
constexpr int kHadamardSimtThreads = 256;

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(kHadamardSimtThreads) haar_hadamard_simt(HadamardProblem<T> problem) {
  const int64_t n = int64_t{1} << problem.bits, step = int64_t{grid_extent().x} * kHadamardSimtThreads;
  for (int64_t i = int64_t{block_index().x} * kHadamardSimtThreads + thread_index().x; i < problem.rows * n; i += step) {
    const HadamardPlace<false> place(problem, i);
    const Matrix<const T> source = problem.source.batch(place.batch);
    double sum = 0.0;
    for (int64_t j = 0; j < n; ++j) {
      double term = static_cast<double>(to_float(load_global(source.at(place.row, j))));
      if (problem.before.data != nullptr) term *= static_cast<double>(to_float(load_global(problem.before.at(0, j))));
      uint32_t shared = static_cast<uint32_t>(place.column & j);
      for (int fold = 16; fold > 0; fold /= 2) shared ^= shared >> fold;
      sum += (shared & 1) != 0 ? -term : term;
    }
    float scaled = static_cast<float>(sum) * problem.scale;
    if (problem.after.data != nullptr) scaled *= to_float(load_global(problem.after.at(0, place.column)));
    store_global(problem.destination.batch(place.batch).at(place.row, place.column), from_float<T>(scaled));
  }
}

}  // namespace PK_BUILD
