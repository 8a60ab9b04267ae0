// Dropout of what the adapters read: a pure function of seed, offset, row of all batches and column, made where it is needed and never stored. pk_dropout of the C interface says which.
#pragma once

#include "../tile/philox.cuh"
#include "../tile/product.cuh"

namespace PK_BUILD {

struct Dropout {
  uint64_t seed, offset;
  uint32_t threshold;  // random words below it drop; 0: no dropout

  // Of the four columns from a multiple of four on.
  PK_DEVICE Vector<uint32_t, 4> words(int64_t row, int64_t column) const {
    return philox({{static_cast<uint32_t>(column / 4), static_cast<uint32_t>(row), static_cast<uint32_t>(offset), static_cast<uint32_t>(offset >> 32)}},
                  {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  }

  PK_DEVICE bool keeps(int64_t row, int64_t column) const {
    if (threshold == 0) return true;
    const Vector<uint32_t, 4> four = words(row, column);
    const uint32_t low = column % 2 == 0 ? four.values[0] : four.values[1], high = column % 2 == 0 ? four.values[2] : four.values[3];
    return (column % 4 < 2 ? low : high) >= threshold;
  }

  // Neighbours from a column that is a multiple of their number.
  template <class T, int COUNT>
  PK_DEVICE void drop(Vector<T, COUNT>& values, int64_t row, int64_t column) const {
    static_assert(COUNT % 4 == 0, "whole words of the generator");
    if (threshold == 0) return;
#pragma unroll
    for (int first = 0; first < COUNT; first += 4) {
      const Vector<uint32_t, 4> four = words(row, column + first);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (four.values[i] < threshold) values.values[first + i] = from_float<T>(0.0f);
      }
    }
  }
};

static inline Dropout dropout_of(const pk_dropout& given) { return {given.seed, given.offset, static_cast<uint32_t>(static_cast<double>(given.probability) * 4294967296.0)}; }

// What the branch is multiplied by where `scale` is the adapter's.
static inline float scale_with_dropout(float scale, const pk_dropout& given) { return static_cast<float>(static_cast<double>(scale) / (1.0 - static_cast<double>(given.probability))); }

// sums += dropped left * right^T, as accumulate_gathered of any operands; `row_of_all`: of left's row 0.
template <class Config, class L, class R>
PK_DEVICE void accumulate_dropped(typename Config::Sums& sums, typename Config::Shared& shared, const ProductOperand<L>& left, const ProductOperand<R>& right, const Dropout& dropout,
                                  int64_t row_of_all, int64_t row0, int64_t column0, int64_t depth_begin, int64_t depth_end) {
  using Element = typename Config::Element;
  using Left = typename Config::template Left<false>;
  using Right = typename Config::template Right<false>;
  accumulate_stages<Config, Left, Right>(sums, shared, depth_end - depth_begin, [&](int stage, int64_t depth) {
    const int64_t depth0 = depth_end - depth;
    gather_operand<Left, Config::kDepthWarps, Config::kThreads, Element>(left, row0, depth0, depth_end, [&](int tile, int row, int chunk, auto values) {
      dropout.drop(values, row_of_all + row0 + row, depth0 + tile * Left::kDepth + chunk * Left::kChunk);
      shared.left[stage][tile].template store_vector<4>(Left::at(row, chunk), words_of(values));
    });
    gather_operand<Right, Config::kDepthWarps, Config::kThreads, Element>(right, column0, depth0, depth_end, [&](int tile, int row, int chunk, const auto& values) {
      shared.right[stage][tile].template store_vector<4>(Right::at(row, chunk), words_of(values));
    });
  });
}

}  // namespace PK_BUILD
