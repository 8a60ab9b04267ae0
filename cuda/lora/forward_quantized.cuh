// y = row scale .* (x * W^T + scale * H * B^T) + bias of a W as lora_quantize left it, which is made in shared memory, and nowhere else.
//
// For few rows: the tiles, splits and branch of lora_forward_mma, and of W the elements that lora_dequantize would have written, so that the bits of y are those of a call with that W.
// Loads, in elements: as lora_forward_mma, but of W the codes, n * k * bits / 8 bytes for each tile of rows, and the absmax of 4 bytes (nested: 1 and 4) for each 16 bytes of W, from L1 but for
// the first of a block. Stores and flops: as there.
#pragma once

#include "forward_mma.cuh"
#include "forward_simt.cuh"
#include "quantized.cuh"

namespace PK_BUILD {

// The quantised W of each target of a launch. With the problem beyond the 4 KiB of parameters that kernels had before CUDA 12.1.
struct QuantizedBases {
  QuantizedBooks books;
  QuantizedMatrix of[ForwardProblem<float>::kMaxTargets];
};

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_forward_quantized(ForwardProblem<T> problem, QuantizedBases bases) {
  using Product = typename Config::Product;
  PK_SHARED(typename Config::Shared, shared);
  share_books(shared.books, bases.books);
  barrier();
  make_tile<Config>(shared, problem, [&](typename Product::Sums& sums, const ForwardTile& tile, int64_t depth_begin, int64_t depth_end) {
    const auto x = product_operand<typename Product::Element>(problem.x.batch(tile.batch), problem.m);
    const QuantizedReader w(bases.of[tile.target], shared.books, bases.books.bits);
    accumulate_quantized<Product>(sums, shared.product, x, w, problem.targets[tile.target].n, tile.row0, tile.column0, depth_begin, depth_end);
  });
}

// The same in plain f32, for every chip and any number of rows: the tiles of lora_forward_simt, of W one element at a time.
struct ForwardQuantizedSimtConfig {
  struct Shared {
    ForwardSimtConfig::Shared tiles;
    QuantizedBooks::Shared books;
  };
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(ForwardSimtConfig::kThreads, 2) lora_forward_quantized_simt(ForwardProblem<T> problem, QuantizedBases bases, int64_t tiles) {
  using Config = ForwardSimtConfig;
  PK_SHARED(ForwardQuantizedSimtConfig::Shared, shared);
  share_books(shared.books, bases.books);
  barrier();
  make_simt_tiles(shared.tiles, problem, tiles, [&](const ForwardTile& tile, int64_t k0) {
    const QuantizedReader w(bases.of[tile.target], shared.books, bases.books.bits);
    const int64_t n = problem.targets[tile.target].n;
    for (int i = static_cast<int>(thread_index().x); i < Config::kTile * Config::kDepth; i += Config::kThreads) {
      const int row = i / Config::kDepth, column = i % Config::kDepth;
      const bool inside = tile.column0 + row < n && k0 + column < problem.k;
      const auto element = w.load<1>((tile.column0 + row) * problem.k + k0 + column, inside ? 1 : 0);
      shared.tiles.w.store(static_cast<uint32_t>(column * Config::kPitch + row), inside ? to_float(w.decode<T>(element).values[0]) : 0.0f);
    }
  });
}

}  // namespace PK_BUILD
