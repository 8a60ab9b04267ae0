// The launches that gradients are made of, for activations of type T: sums over rows and what adds up their parts, and gradients of the size of x.
#pragma once

#include "add_parts.cuh"
#include "forward_launch.h"
#include "input_gradient_mma.cuh"
#include "input_gradient_simt.cuh"
#include "outer_mma.cuh"
#include "outer_simt.cuh"

namespace PK_BUILD {
namespace {

template <class Math, bool LARGE, bool SCALED>
struct InputGradientMmaOf {
  static constexpr int32_t kForward = LARGE ? PK_LORA_FORWARD_MMA_LARGE : PK_LORA_FORWARD_MMA_SMALL;
  static constexpr LoraTile tile = lora_forward_tile(kForward, sizeof(typename Math::Element) == 4);
  static constexpr int kBlocksTogether = LARGE ? 1 : std::is_same<Math, ThreeTf32>::value ? 2 : 3;
  using Product = ProductConfig<Math, tile.rows, tile.columns, 2, LARGE ? 4 : 2, 1, 4>;
  using Config = InputGradientMmaConfig<Product, kBlocksTogether, std::conditional_t<SCALED, DepthScales<Product>, Unscaled>>;
};

// A gradient whose batch stride is 0 is the sum over batches.
int64_t batches_of(const pk_matrix& gradient, int64_t batches) { return gradient.batch_stride == 0 ? 1 : batches; }

// Sums over rows, in the parts of the problem's plan.
template <class T>
int32_t launch_outer(const pk_queue& queue, const Operands& operands, const OuterProblem<T>& problem, bool simt) {
  const int64_t parts = problem.plan.groups * problem.plan.parts;
  if (problem.columns == 0 || parts == 0) return PK_OK;
  if (simt) {
    const int64_t ranks = (problem.makes_sums != 0 ? problem.rank : 0) + (problem.bias_sums != nullptr ? 1 : 0);
    const int64_t warps = parts * tiles_of(problem.columns, 32) * tiles_of(ranks, OuterSimtConfig::kRanks);
    if (warps == 0) return PK_OK;
    return launch(queue, {"lora_outer_simt", grid_of(tiles_of(warps, OuterSimtConfig::kWarps)), OuterSimtConfig::kThreads, 0}, operands, lora_outer_simt<T>, problem);
  }
  const auto run = [&](auto config) {
    using Config = decltype(config);
    const int64_t blocks = parts * problem.plan.column_groups * (problem.rank > 0 ? tiles_of(problem.rank, Config::kRanks) : 1);
    return launch(queue, {"lora_outer_mma", grid_of(blocks), Config::kThreads, shared_bytes<typename Config::Shared>()}, operands, lora_outer_mma<Config, T>, problem);
  };
  return lora_outer_ranks(problem.rank) == 16 ? run(OuterMmaConfig<16>()) : run(OuterMmaConfig<64>());
}

template <class G>
int32_t launch_add_parts(const pk_queue& queue, const Operands& operands, const AddedParts<G>& parts) {
  const int64_t elements = parts.batches * parts.rows * parts.columns;
  if (elements == 0) return PK_OK;
  return launch(queue, {"lora_add_parts", grid_of(tiles_of(elements, AddPartsConfig::kThreads)), AddPartsConfig::kThreads, 0}, operands, lora_add_parts<G>, parts);
}

// From planes of a pass to a gradient: those of a batch, or all.
template <class G>
AddedParts<G> added_parts(const float* data, const LoraOuterPlan& plan, int64_t batches, int64_t plane, int64_t row_stride, int64_t rows, int64_t columns, float scale, int32_t mode,
                          const pk_matrix& to, bool transposes) {
  const int64_t of_gradient = batches_of(to, batches), planes = of_gradient > 0 ? plan.groups * plan.parts / of_gradient : 0;
  const Batched<G> given = batched<G>(to);
  const Batched<G> out = transposes ? Batched<G>{{given.first.data, given.first.column_stride, given.first.row_stride}, given.batch_stride} : given;
  return {data, plane, row_stride, planes, of_gradient, rows, columns, scale, mode == PK_GRADIENT_ACCUMULATE, out, nullptr, {}, plan.parts};
}

template <class Config, class T>
int32_t launch_input_gradient_mma(const pk_queue& queue, const Operands& operands, const InputGradientProblem<T>& problem, const char* name) {
  using Product = typename Config::Product;
  const int64_t tiles = problem.of.batches * tiles_of(problem.of.m, Product::kTileRows) * tiles_of(problem.of.targets[0].count, Product::kTileColumns);
  if (tiles == 0) return PK_OK;
  return launch(queue, {name, grid_of(tiles), Product::kThreads, shared_bytes<typename Config::Shared>()}, operands, lora_input_gradient_mma<Config, T>, problem);
}

// The columns that the problem's first target says, by the kernel of a PK_LORA_BACKWARD_* number; `scaled`: whether a target with a base has a row scale.
template <class T>
int32_t launch_input_gradient(const pk_queue& queue, const Operands& operands, const InputGradientProblem<T>& problem, int32_t algorithm, bool tf32, bool scaled) {
  if (algorithm == PK_LORA_BACKWARD_SIMT) {
    const int64_t tiles = problem.of.batches * tiles_of(problem.of.m, ForwardSimtConfig::kTile) * tiles_of(problem.of.targets[0].count, ForwardSimtConfig::kTile);
    if (tiles == 0) return PK_OK;
    const LaunchShape shape{"lora_input_gradient_simt", grid_of(tiles), ForwardSimtConfig::kThreads, shared_bytes<ForwardSimtConfig::Shared>()};
    return launch(queue, shape, operands, lora_input_gradient_simt<T>, problem, tiles);
  }
  const auto with_tiles = [&](auto math, auto large, const char* name) {
    using Math = decltype(math);
    if (scaled) return launch_input_gradient_mma<typename InputGradientMmaOf<Math, decltype(large)::value, true>::Config>(queue, operands, problem, name);
    return launch_input_gradient_mma<typename InputGradientMmaOf<Math, decltype(large)::value, false>::Config>(queue, operands, problem, name);
  };
  const auto run = [&](auto math) {
    if (algorithm == PK_LORA_BACKWARD_MMA_LARGE) return with_tiles(math, std::true_type(), "lora_input_gradient_mma_large");
    return with_tiles(math, std::false_type(), "lora_input_gradient_mma_small");
  };
  if constexpr (sizeof(T) == 4) return tf32 ? run(Tf32()) : run(ThreeTf32());
  else return run(Exact16<T>());
}

}  // namespace
}  // namespace PK_BUILD
