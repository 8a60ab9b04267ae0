// How a forward call becomes launches, for activations of type T.
#pragma once

#include <algorithm>

#include "forward_launch.h"
#include "forward_slabs_launch.cuh"
#include "middle_launch.cuh"
#include "save_h.cuh"
#include "shrink_mma.cuh"
#include "shrink_simt.cuh"

namespace PK_BUILD {
namespace {

template <int32_t ALGORITHM, class Math, int ROW_WARPS, int COLUMN_WARPS, int DEPTH_WARPS, int STAGES, int BLOCKS_TOGETHER, class BOOKS = NoBooks>
struct ForwardMmaOf {
  static constexpr LoraTile tile = lora_forward_tile(ALGORITHM, sizeof(typename Math::Element) == 4);
  using Config = ForwardMmaConfig<ProductConfig<Math, tile.rows, tile.columns, ROW_WARPS, COLUMN_WARPS, DEPTH_WARPS, STAGES>, BLOCKS_TOGETHER, BOOKS>;
  static_assert(Config::Product::kStageDepth * sizeof(typename Math::Element) == tile.stage_bytes, "as the plan counts stages");
};

template <class Math>
using ForwardMmaLarge = typename ForwardMmaOf<PK_LORA_FORWARD_MMA_LARGE, Math, 2, 4, 1, 4, 1>::Config;
template <class Math>
using ForwardMmaSmall = typename ForwardMmaOf<PK_LORA_FORWARD_MMA_SMALL, Math, 2, 2, 1, 4, std::is_same<Math, ThreeTf32>::value ? 3 : 4>::Config;
template <class Math>
using ForwardMmaDecode = typename ForwardMmaOf<PK_LORA_FORWARD_MMA_DECODE, Math, 1, 1, 8, 3, 1>::Config;

// Of the same sums; codes on their way need registers.
template <class Math>
using ForwardQuantizedSmall = typename ForwardMmaOf<PK_LORA_FORWARD_MMA_SMALL, Math, 2, 2, 1, 4, std::is_same<Math, ThreeTf32>::value ? 2 : 3, QuantizedBooks::Shared>::Config;
template <class Math>
using ForwardQuantizedDecode = typename ForwardMmaOf<PK_LORA_FORWARD_MMA_DECODE, Math, 1, 1, 8, 3, 1, QuantizedBooks::Shared>::Config;

// What multiplies activations of T with weights and factors of P.
template <class T, class P>
using MathOf = std::conditional_t<sizeof(P) == 4, ThreeTf32, Exact16<T>>;

// What the launches of a forward may touch.
Operands forward_operands(const ForwardLaunch& call) {
  const pk_lora_forward_descriptor& descriptor = call.descriptor;
  const int64_t batches = descriptor.batch_count, rows = batches * descriptor.x.rows;
  Operands operands;
  operands.read("x", descriptor.x, batches);
  operands.read_bytes("row_adapter", descriptor.row_adapter, descriptor.row_adapter ? rows * sizeof(int32_t) : 0);
  operands.read_bytes("segments", descriptor.segments, descriptor.segment_count * sizeof(pk_lora_segment));
  operands.read_write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  operands.read_write_bytes("status", descriptor.status, descriptor.status ? sizeof(pk_status_record) : 0);
  for (const pk_lora_target* target = call.targets; target != call.targets + call.count; ++target) {
    if (target->base == PK_LORA_BASE_IN_Y) {
      operands.read_write("y", target->y, batches);
    } else {
      operands.write("y", target->y, batches);
    }
    if (target->base == PK_LORA_BASE_DENSE) operands.read("w", target->w, batches);
    if (target->base == PK_LORA_BASE_QUANTIZED) read_quantized(operands, target->quantized);
    if (target->bias.data != nullptr) operands.read("bias", target->bias, batches);
    if (target->saved_h.data != nullptr) operands.write("saved h", target->saved_h, batches);
    if (target->row_scale.data != nullptr) operands.read("row_scale", target->row_scale, batches);
    read_middle(operands, target->middle, batches);
    if (target->adapters == nullptr) {
      if (!lora_lists_ranks(target->middle)) {  // of which copies are in the workspace
        operands.read("a", target->a, batches);
        operands.read("b", target->b, batches);
      }
    } else {
      read_table(operands, *target, target->y.columns, descriptor.x.columns);
    }
  }
  return operands;
}

AdapterSet adapter_set(const pk_lora_target& target, int32_t element_type, const pk_dropout& dropout) {
  const int64_t bytes = target.adapter_element_type == PK_F32 ? 4 : 2;
  const Factor a{target.a.data, target.a.row_stride, target.a.column_stride}, b{target.b.data, target.b.row_stride, target.b.column_stride};
  const bool in_f32 = target.adapter_element_type == PK_F32 && element_type != PK_F32;
  return {{a, b, target.max_rank, scale_with_dropout(target.scale, dropout)}, target.a.batch_stride * bytes, target.b.batch_stride * bytes, target.adapters, target.adapter_count,
          target.max_rank, in_f32, scale_with_dropout(1.0f, dropout), 0};
}

template <class T>
ForwardProblem<T> forward_problem(const ForwardLaunch& call) {
  const pk_lora_forward_descriptor& descriptor = call.descriptor;
  ForwardProblem<T> problem{};
  problem.x = batched<const T>(descriptor.x);
  problem.batches = descriptor.batch_count;
  problem.m = descriptor.x.rows;
  problem.k = descriptor.x.columns;
  problem.rows = {descriptor.row_adapter, descriptor.segments, descriptor.segment_count};
  problem.status = descriptor.status;
  problem.dropout = dropout_of(descriptor.dropout);
  problem.h_planes = call.plan.h_planes;
  problem.splits = call.plan.splits;
  problem.target_count = call.count;
  float* h = call.h;
  for (int32_t i = 0; i < call.count; ++i) {
    const pk_lora_target& target = call.targets[i];
    problem.targets[i] = {target.base, batched<const T>(target.w), batched<const T>(target.bias), batched<T>(target.y), target.y.columns, adapter_set(target, descriptor.x.element_type, descriptor.dropout),
                          batched<const float>(target.row_scale), h, 0, target.y.columns};
    h += call.plan.h_planes * problem.batches * problem.m * target.max_rank;
  }
  return problem;
}

template <class T>
int64_t largest_rank(const ForwardProblem<T>& problem) {
  int64_t rank = 0;
  for (int32_t i = 0; i < problem.target_count; ++i) rank = std::max(rank, problem.targets[i].adapters.max_rank);
  return rank;
}

// ---- middle --------------------------------------------------------------------------------------------------------------------------------------------------

// The problem as the product has it: with what the middles make of H in its place.
template <class T>
ForwardProblem<T> after_middles(const ForwardLaunch& call, ForwardProblem<T> problem) {
  problem.h_planes = 1;
  float* h = call.after;
  for (int32_t i = 0; i < call.count; ++i) {
    const int64_t rank = lora_rank_after(call.targets[i]);
    ForwardTarget<T>& target = problem.targets[i];
    target.adapters.one.rank = target.adapters.max_rank = rank;
    target.h = h;
    h += problem.batches * problem.m * rank;
  }
  return problem;
}

template <class T>
auto middles(const ForwardLaunch& call, const Operands& operands, const ForwardProblem<T>& problem, const ForwardProblem<T>& after) {
  MiddleProblem middles{};
  middles.batches = problem.batches;
  middles.m = problem.m;
  middles.target_count = call.count;
  const int64_t rows = problem.batches * problem.m;
  for (int32_t i = 0; i < call.count; ++i) {
    const int64_t rank = call.targets[i].max_rank;
    const Intermediate h{problem.targets[i].h, problem.m * rank, rank, 1, 1, problem.h_planes, rows * rank};
    middles.targets[i] = {middle_of(call.targets[i], call.descriptor.x.element_type, h), after.targets[i].h};
  }
  return middle<T>(operands, middles);
}

// ---- shrink --------------------------------------------------------------------------------------------------------------------------------------------------

template <class T>
auto shrink_simt(const Operands& operands, const ForwardProblem<T>& problem) {
  const int64_t rows = problem.batches * problem.m;
  const LaunchShape shape{"lora_shrink_simt", grid_of(tiles_of(rows * problem.target_count, ShrinkSimtConfig::kWarps)), ShrinkSimtConfig::kThreads, 0};
  return prepared(shape, operands, lora_shrink_simt<T>, problem);
}

template <class Math, class T, class P, int COLUMNS>
auto shrink_mma(const Operands& operands, const ForwardProblem<T>& problem) {
  using Config = ShrinkMmaConfig<Math, COLUMNS>;
  static_assert(Config::Product::kStageDepth * sizeof(typename Config::Product::Element) == kLoraShrinkStageBytes, "as the plan counts stages");
  const auto rank_tiles = static_cast<int32_t>(tiles_of(largest_rank(problem), COLUMNS));
  int32_t slots = 1;
  for (int32_t i = 0; i < problem.target_count; ++i) slots = std::max(slots, lora_shrink_slots(problem.targets[i].adapters.count));
  const int64_t blocks = problem.target_count * problem.batches * tiles_of(problem.m, kLoraShrinkRows) * rank_tiles * slots * problem.h_planes;
  const LaunchShape shape{"lora_shrink_mma", grid_of(blocks), Config::Product::kThreads, shared_bytes<typename Config::Shared>()};
  return prepared(shape, operands, lora_shrink_mma<Config, T, P>, problem, rank_tiles, slots);
}

// Calls run(Math, P, columns of a tile) for the shrink kernel of a call.
template <class T, class Run>
int32_t with_shrink_mma(bool factors_in_f32, bool tf32, int32_t columns, Run run) {
  const auto with_columns = [&](auto math, auto factor) {
    return columns == 16 ? run(math, factor, std::integral_constant<int, 16>()) : run(math, factor, std::integral_constant<int, 64>());
  };
  if constexpr (sizeof(T) == 4) return tf32 ? with_columns(Tf32(), T()) : with_columns(ThreeTf32(), T());
  else return factors_in_f32 ? with_columns(ThreeTf32(), float()) : with_columns(Exact16<T>(), T());
}

// What callers keep for backward, after the launches that made it.
template <class T>
int32_t save_h(const ForwardLaunch& call, const Operands& operands, const ForwardProblem<T>& problem) {
  SavedHs<T> saved{};
  int64_t elements = 0;
  for (int32_t i = 0; i < call.count; ++i) {
    const pk_matrix& to = call.targets[i].saved_h;
    if (to.data == nullptr) continue;
    if (to.element_type == PK_F32) saved.targets[i].in_f32 = batched<float>(to);
    else saved.targets[i].own = batched<T>(to);
    elements = std::max(elements, problem.batches * problem.m * problem.targets[i].adapters.max_rank);
  }
  if (elements == 0) return PK_OK;
  return launch(call.queue, {"lora_save_h", grid_of(tiles_of(elements, SaveHConfig::kThreads)), SaveHConfig::kThreads, 0}, operands, lora_save_h<T>, problem, saved);
}

// ---- forward -------------------------------------------------------------------------------------------------------------------------------------------------

template <class T>
int32_t forward_simt(const ForwardLaunch& call, const Operands& operands, const ForwardProblem<T>& problem) {
  const int64_t tiles = forward_tiles(problem, lora_forward_tile(PK_LORA_FORWARD_SIMT, sizeof(T) == 4));
  if (tiles == 0) return PK_OK;
  constexpr int kThreads = ForwardSimtConfig::kThreads;
  if (has_quantized(call)) {
    const LaunchShape shape{"lora_forward_simt", grid_of(tiles), kThreads, shared_bytes<ForwardQuantizedSimtConfig::Shared>()};
    return launch(call.queue, shape, operands, lora_forward_quantized_simt<T>, problem, quantized_bases(call), tiles);
  }
  return launch(call.queue, {"lora_forward_simt", grid_of(tiles), kThreads, shared_bytes<ForwardSimtConfig::Shared>()}, operands, lora_forward_simt<T>, problem, tiles);
}

// Calls run(name, Config) for the kernel of an algorithm.
template <class Math, class Run>
int32_t with_forward_mma(int32_t algorithm, Run run) {
  switch (lora_forward_of_dense(algorithm)) {
    case PK_LORA_FORWARD_MMA_LARGE: return run("lora_forward_mma_large", ForwardMmaLarge<Math>());
    case PK_LORA_FORWARD_MMA_SMALL: return run("lora_forward_mma_small", ForwardMmaSmall<Math>());
    default: return run("lora_forward_mma_decode", ForwardMmaDecode<Math>());
  }
}

template <class Math, class Run>
int32_t with_forward_quantized(int32_t algorithm, Run run) {
  if (algorithm == PK_LORA_FORWARD_QUANTIZED_SMALL) return run("lora_forward_quantized_small", ForwardQuantizedSmall<Math>());
  return run("lora_forward_quantized_decode", ForwardQuantizedDecode<Math>());
}

// After the launches that come before it, where there are such.
template <class Launch, class... Before>
int32_t launch_after(const ForwardLaunch& call, int64_t tiles, const Launch& forward, const Before&... before) {
  if (tiles > 0 && call.plan.overlaps != 0) return launch_overlapping(call.queue, before..., forward);
  int32_t status = PK_OK;
  ((status = status == PK_OK ? launch_overlapping(call.queue, before) : status), ...);
  return status == PK_OK && tiles > 0 ? launch_overlapping(call.queue, forward) : status;
}

// After the shrink kernel and the middles', where there are such.
template <class Math, class T, class... Before>
int32_t forward_mma(const ForwardLaunch& call, const Operands& operands, const ForwardProblem<T>& problem, const Before&... before) {
  const int32_t algorithm = call.plan.algorithm;
  const bool quantized = has_quantized(call);
  if (quantized && lora_forward_decodes(algorithm)) {
    return with_forward_quantized<Math>(algorithm, [&](const char* name, auto config) {
      using Config = decltype(config);
      const int64_t tiles = forward_tiles(problem, lora_forward_tile(algorithm, sizeof(T) == 4));
      const LaunchShape shape{name, grid_of(tiles * problem.splits), Config::Product::kThreads, shared_bytes<typename Config::Shared>()};
      return launch_after(call, tiles, prepared(shape, operands, lora_forward_quantized<Config, T>, problem, quantized_bases(call)), before...);
    });
  }
  return with_forward_mma<Math>(algorithm, [&](const char* name, auto config) {
    using Config = decltype(config);
    using Product = typename Config::Product;
    const LoraTile tile{Product::kTileRows, Product::kTileColumns, 0};
    const auto of = [&](const ForwardProblem<T>& part) {
      const LaunchShape shape{name, grid_of(forward_tiles(part, tile) * part.splits), Product::kThreads, shared_bytes<typename Config::Shared>()};
      return prepared(shape, operands, lora_forward_mma<Config, T>, part);
    };
    if (!quantized) return launch_after(call, forward_tiles(problem, tile), of(problem), before...);
    int32_t status = PK_OK;
    ((status = status == PK_OK ? launch_overlapping(call.queue, before) : status), ...);
    if (status != PK_OK) return status;
    return each_slab(call, problem, tile, [&](const ForwardProblem<T>& part) { return forward_tiles(part, tile) > 0 ? launch_overlapping(call.queue, of(part)) : PK_OK; });
  });
}

template <class Math, class T>
int32_t prepare_forward_mma() {
  for (const int32_t algorithm : {PK_LORA_FORWARD_MMA_LARGE, PK_LORA_FORWARD_MMA_SMALL, PK_LORA_FORWARD_MMA_DECODE}) {
    PK_TRY((with_forward_mma<Math>(algorithm, [](const char*, auto config) { return prepare(lora_forward_mma<decltype(config), T>); })));
  }
  for (const int32_t algorithm : {PK_LORA_FORWARD_QUANTIZED_SMALL, PK_LORA_FORWARD_QUANTIZED_DECODE}) {
    PK_TRY((with_forward_quantized<Math>(algorithm, [](const char*, auto config) { return prepare(lora_forward_quantized<decltype(config), T>); })));
  }
  return PK_OK;
}

}  // namespace

template <class T>
int32_t shrink(const pk_queue& queue, const Operands& operands, const ForwardProblem<T>& problem, bool simt, bool tf32) {
  if (simt) return launch_overlapping(queue, shrink_simt(operands, problem));
  const auto run = [&](auto math, auto factor, auto columns) { return launch_overlapping(queue, shrink_mma<decltype(math), T, decltype(factor), columns>(operands, problem)); };
  return with_shrink_mma<T>(problem.targets[0].adapters.in_f32 != 0, tf32, lora_shrink_columns(largest_rank(problem)), run);
}

template <class T>
int32_t launch_middles(const pk_queue& queue, const Operands& operands, const MiddleProblem& problem) {
  return launch_overlapping(queue, middle<T>(operands, problem));
}

namespace {

// All but what is saved.
template <class T>
int32_t forward_values(const ForwardLaunch& call, const Operands& operands, const ForwardProblem<T>& problem) {
  const bool simt = call.plan.algorithm == PK_LORA_FORWARD_SIMT, with_middles = call.after != nullptr;
  const ForwardProblem<T> product = with_middles ? after_middles(call, problem) : problem;
  bool branch = with_middles;  // or tables, of which the shrink kernel reports what is wrong
  for (int32_t i = 0; i < problem.target_count; ++i) branch = branch || problem.targets[i].adapters.max_rank > 0 || problem.targets[i].adapters.table != nullptr;
  if (simt) {
    if (branch) PK_TRY(launch_overlapping(call.queue, shrink_simt(operands, problem)));
    if (with_middles) PK_TRY(launch_overlapping(call.queue, middles(call, operands, problem, product)));
    return forward_simt(call, operands, product);
  }
  // With or without launches before it.
  const auto with_base = [&](const auto&... before) {
    if constexpr (sizeof(T) == 4) return call.plan.tf32 != 0 ? forward_mma<Tf32>(call, operands, product, before...) : forward_mma<ThreeTf32>(call, operands, product, before...);
    else return forward_mma<Exact16<T>>(call, operands, product, before...);
  };
  const auto after_shrink = [&](const auto& shrink) { return with_middles ? with_base(shrink, middles(call, operands, problem, product)) : with_base(shrink); };
  if (largest_rank(problem) > 0) {
    const auto run = [&](auto math, auto factor, auto columns) { return after_shrink(shrink_mma<decltype(math), T, decltype(factor), columns>(operands, problem)); };
    return with_shrink_mma<T>(problem.targets[0].adapters.in_f32 != 0, call.plan.tf32 != 0, lora_shrink_columns(largest_rank(problem)), run);
  }
  return branch || problem.arrival_count > 0 ? after_shrink(shrink_simt(operands, problem)) : with_base();
}

}  // namespace

template <class T>
int32_t forward(const ForwardLaunch& call) {
  ForwardProblem<T> problem = forward_problem<T>(call);
  if (problem.splits > 1) {
    const LoraTile tile = lora_forward_tile(call.plan.algorithm, sizeof(T) == 4);
    problem.arrival_count = forward_tiles(problem, tile);
    problem.partial_sums = static_cast<float*>(call.parts);
    problem.arrivals = reinterpret_cast<uint32_t*>(problem.partial_sums + problem.arrival_count * problem.splits * tile.rows * tile.columns);
  }
  if (problem.batches * problem.m == 0) return PK_OK;
  const Operands operands = forward_operands(call);
  PK_TRY(forward_values(call, operands, problem));
  return save_h(call, operands, problem);
}

template <class T>
int32_t prepare_forward() {
  PK_TRY((prepare(lora_shrink_simt<T>)));
  PK_TRY((prepare(lora_save_h<T>)));
  PK_TRY((prepare(lora_middle<T>)));
  PK_TRY((prepare(lora_forward_simt<T>)));
  PK_TRY((prepare(lora_forward_quantized_simt<T>)));
  for (const bool in_f32 : {false, true}) {
    for (const bool tf32 : {false, true}) {
      for (const int32_t columns : {16, 64}) {
        PK_TRY((with_shrink_mma<T>(in_f32, tf32, columns, [](auto math, auto factor, auto width) { return prepare(lora_shrink_mma<ShrinkMmaConfig<decltype(math), width>, T, decltype(factor)>); })));
      }
    }
  }
  if constexpr (sizeof(T) == 4) {
    PK_TRY((prepare_forward_mma<Tf32, T>()));
    return prepare_forward_mma<ThreeTf32, T>();
  } else {
    return prepare_forward_mma<Exact16<T>, T>();
  }
}

}  // namespace PK_BUILD
