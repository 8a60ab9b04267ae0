// The kernels of the LoRA family by number, and the longest chain of float roundings of each.
#pragma once

#include <cstdint>

enum : int32_t { PK_LORA_FORWARD_SIMT = 1 };
enum : int32_t { PK_LORA_MERGE_SIMT = 1 };

// The base sums k products. The branch sums ceil(k / 32) products in a lane and 32 lanes in 5 steps, then `rank` products, and is scaled. Two sums join base, branch and bias.
constexpr int64_t pk_lora_forward_simt_rounding_steps(int64_t k, int64_t rank) {
  const int64_t branch = (k + 31) / 32 + 5 + rank + 1;
  return (k > branch ? k : branch) + 2;
}

// `rank` products of one adapter, its scale, the sum over adapters, and the sum with W.
constexpr int64_t pk_lora_merge_simt_rounding_steps(int64_t rank, int64_t adapters) { return rank + 1 + adapters + 1; }
