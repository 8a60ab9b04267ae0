// How a backward call becomes launches, for activations of type T: H where it was not saved; for each target one pass over dY, for dH, dB and the bias' gradient; dX; one pass over x for all dA.
#pragma once

#include "add_parts.cuh"
#include "backward_launch.h"
#include "forward_launch.h"
#include "input_gradient_mma.cuh"
#include "input_gradient_simt.cuh"
#include "outer_mma.cuh"
#include "outer_simt.cuh"
#include "sample_weights.h"
#include "shrink_problem.cuh"
#include "weigh_rows.cuh"

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

// A call, and where its intermediates are in the workspace.
template <class T>
class Backward {
 public:
  Backward(const pk_queue& queue, const pk_lora_backward_descriptor& descriptor, const LoraBackwardPlan& plan)
      : queue_(queue), descriptor_(descriptor), plan_(plan), batches_(descriptor.batch_count), m_(descriptor.x.rows), k_(descriptor.x.columns), simt_(plan.algorithm == PK_LORA_BACKWARD_SIMT) {
    const LoraBackwardLayout layout = lora_backward_layout(descriptor, plan.h_planes);
    total_rank_ = layout.total_rank;
    dh_ = static_cast<float*>(descriptor.workspace) + static_cast<int64_t>(layout.h);
    sums_ = dh_ + static_cast<int64_t>(layout.dh);
    if (lora_weighs_rows(descriptor)) row_weights_ = sums_ + static_cast<int64_t>(layout.sums);
    dropout_ = dropout_of(descriptor.dropout);
    name_operands();
  }

  int32_t run() const {
    auto* h = static_cast<float*>(descriptor_.workspace);
    int64_t column = 0;  // of dH
    if (row_weights_ != nullptr) PK_TRY(row_weights(queue_, descriptor_.samples, descriptor_.sample_weights, batches_ * m_, row_weights_));
    for (int64_t i = 0; i < descriptor_.target_count; ++i) {
      const pk_lora_gradient_target& target = descriptor_.targets[i];
      if (lora_makes_h(target)) PK_TRY(make_h(target, h));
      if (row_weights_ != nullptr && lora_makes_db(target)) PK_TRY(weigh(given_or_made(target, h), target.a.rows, h));
      PK_TRY(pass_over_dy(target, h, column));
      h += lora_h_planes(descriptor_, target, plan_.h_planes) * batches_ * m_ * target.a.rows;
      if (makes_dh(target)) column += target.a.rows;
    }
    if (descriptor_.x_gradient != PK_GRADIENT_NONE) PK_TRY(make_dx());
    if (row_weights_ != nullptr) PK_TRY(weigh({dh_, m_ * total_rank_, total_rank_, 1, 1, 1, 0}, total_rank_, dh_));
    return pass_over_x();
  }

 private:
  bool makes_dh(const pk_lora_gradient_target& target) const { return lora_makes_dh(target, descriptor_.x_gradient != PK_GRADIENT_NONE); }

  // All that the launches of the call may touch.
  void name_operands() {
    const auto gradient = [&](const char* name, const pk_matrix& matrix, int32_t mode) {
      if (mode == PK_GRADIENT_OVERWRITE) operands_.write(name, matrix, batches_of(matrix, batches_));
      if (mode == PK_GRADIENT_ACCUMULATE) operands_.read_write(name, matrix, batches_of(matrix, batches_));
    };
    operands_.read("x", descriptor_.x, batches_);
    operands_.read_write_bytes("workspace", descriptor_.workspace, descriptor_.workspace_bytes);
    if (descriptor_.x_gradient == PK_GRADIENT_OVERWRITE) operands_.write("dx", descriptor_.dx, batches_);
    if (descriptor_.x_gradient == PK_GRADIENT_ACCUMULATE) operands_.read_write("dx", descriptor_.dx, batches_);
    for (int64_t i = 0; i < descriptor_.target_count; ++i) {
      const pk_lora_gradient_target& target = descriptor_.targets[i];
      operands_.read("dy", target.dy, batches_);
      if (target.base == PK_LORA_BASE_DENSE) operands_.read("w", target.w, batches_);
      operands_.read("a", target.a, batches_);
      operands_.read("b", target.b, batches_);
      if (lora_has_row_scale(target)) operands_.read("row_scale", target.row_scale, batches_);
      if (target.h_saved != 0) operands_.read("saved h", target.h, batches_);
      gradient("da", target.da, target.a_gradient);
      gradient("db", target.db, target.b_gradient);
      gradient("dbias", target.dbias, target.bias_gradient);
    }
  }

  int32_t make_h(const pk_lora_gradient_target& target, float* h) const {
    if (batches_ * m_ == 0) return PK_OK;
    const int64_t rank = target.a.rows;
    const int64_t a_batch_bytes = target.a.batch_stride * bytes_of(target.adapter_element_type);
    ForwardProblem<T> problem = shrink_problem<T>(descriptor_.x, batches_, factor_of(target.a), a_batch_bytes, rank, rank, target.adapter_element_type, h);
    problem.dropout = dropout_;
    problem.h_planes = plan_.h_planes;
    return shrink(queue_, operands_, problem, simt_, plan_.tf32 != 0);
  }

  // h, each row times its weight, in f32.
  int32_t weigh(const Intermediate& h, int64_t rank, float* out) const {
    const int64_t rows = batches_ * m_;
    if (rows * rank == 0) return PK_OK;
    const LaunchShape shape{"lora_weigh_rows", grid_of(tiles_of(rows * rank, WeighRowsConfig::kThreads)), WeighRowsConfig::kThreads, 0};
    return launch(queue_, shape, operands_, lora_weigh_rows<T>, h, static_cast<const float*>(row_weights_), rows, m_, rank, out);
  }

  // H of a target as it was saved, or was made; where rows are weighed, that is what was made of it.
  Intermediate intermediate(const pk_lora_gradient_target& target, const float* h) const {
    if (row_weights_ != nullptr) return {h, m_ * target.a.rows, target.a.rows, 1, 1, 1, 0};
    return given_or_made(target, h);
  }

  Intermediate given_or_made(const pk_lora_gradient_target& target, const float* h) const {
    const int64_t rank = target.a.rows;
    if (target.h_saved == 0) return {h, m_ * rank, rank, 1, 1, plan_.h_planes, batches_ * m_ * rank};
    return {target.h.data, target.h.batch_stride, target.h.row_stride, target.h.column_stride, in_f32(target.h.element_type, descriptor_.x.element_type), 1, 0};
  }

  int32_t pass(const OuterProblem<T>& problem) const {
    const int64_t parts = problem.plan.groups * problem.plan.parts;
    if (problem.columns == 0 || parts == 0) return PK_OK;
    if (simt_) {
      const int64_t ranks = (problem.makes_sums != 0 ? problem.rank : 0) + (problem.bias_sums != nullptr ? 1 : 0);
      const int64_t warps = parts * tiles_of(problem.columns, 32) * tiles_of(ranks, OuterSimtConfig::kRanks);
      if (warps == 0) return PK_OK;
      return launch(queue_, {"lora_outer_simt", grid_of(tiles_of(warps, OuterSimtConfig::kWarps)), OuterSimtConfig::kThreads, 0}, operands_, lora_outer_simt<T>, problem);
    }
    const auto run = [&](auto config) {
      using Config = decltype(config);
      const int64_t blocks = parts * problem.plan.column_groups * (problem.rank > 0 ? tiles_of(problem.rank, Config::kRanks) : 1);
      return launch(queue_, {"lora_outer_mma", grid_of(blocks), Config::kThreads, shared_bytes<typename Config::Shared>()}, operands_, lora_outer_mma<Config, T>, problem);
    };
    return lora_outer_ranks(problem.rank) == 16 ? run(OuterMmaConfig<16>()) : run(OuterMmaConfig<64>());
  }

  template <class G>
  int32_t add_parts(const AddedParts<G>& parts) const {
    const int64_t elements = parts.batches * parts.rows * parts.columns;
    if (elements == 0) return PK_OK;
    return launch(queue_, {"lora_add_parts", grid_of(tiles_of(elements, AddPartsConfig::kThreads)), AddPartsConfig::kThreads, 0}, operands_, lora_add_parts<G>, parts);
  }

  // Planes of a pass to a gradient: those of a batch, or all.
  template <class G>
  int32_t add_sums(const float* data, const LoraOuterPlan& plan, int64_t plane, int64_t row_stride, int64_t rows, int64_t columns, float scale, int32_t mode, const pk_matrix& to, bool transposes,
                   const Batched<const float>& row_scale = {}) const {
    const int64_t batches = batches_of(to, batches_);
    const Batched<G> given = batched<G>(to);
    const Batched<G> out = transposes ? Batched<G>{{given.first.data, given.first.column_stride, given.first.row_stride}, given.batch_stride} : given;
    return add_parts<G>({data, plane, row_stride, batches > 0 ? plan.groups * plan.parts / batches : 0, batches, rows, columns, scale, mode == PK_GRADIENT_ACCUMULATE, out, row_scale, plan.parts});
  }

  template <class... A>
  int32_t add_sums_of(int32_t element_type, const A&... arguments) const {
    return element_type == PK_F32 ? add_sums<float>(arguments...) : add_sums<T>(arguments...);
  }

  // dH's columns from `column` on, dB and the bias' gradient.
  int32_t pass_over_dy(const pk_lora_gradient_target& target, const float* h, int64_t column) const {
    const bool dh = makes_dh(target), db = lora_makes_db(target), bias = target.bias_gradient != PK_GRADIENT_NONE && row_weights_ == nullptr;
    if (target.bias_gradient != PK_GRADIENT_NONE && !bias) PK_TRY(pass_over_dy_for_bias(target));
    if (!dh && !db && !bias) return PK_OK;
    const int64_t n = target.dy.columns, rank = dh || db ? target.a.rows : 0;
    OuterProblem<T> problem{};
    problem.left = batched<const T>(target.dy);
    problem.batches = batches_;
    problem.m = m_;
    problem.columns = n;
    problem.plan = lora_dy_plan(descriptor_, target);
    problem.rank = rank;
    const int64_t parts = problem.plan.groups * problem.plan.parts;
    problem.sums = sums_;
    problem.makes_sums = db;
    if (db) problem.h = intermediate(target, h);
    float* bias_sums = problem.sums + (db ? parts * n * rank : 0);
    float* dh_sums = bias_sums + (bias ? parts * n : 0);
    if (bias) problem.bias_sums = bias_sums;
    const int64_t b_batch_bytes = target.b.batch_stride * bytes_of(target.adapter_element_type);
    if (dh && simt_ && batches_ * m_ > 0) {
      ForwardProblem<T> shrinks = shrink_problem<T>(target.dy, batches_, transposed(factor_of(target.b)), b_batch_bytes, rank, total_rank_, target.adapter_element_type, dh_ + column);
      shrinks.x_scale = batched<const float>(target.row_scale);
      PK_TRY(shrink(queue_, operands_, shrinks, true, false));
    }
    if (dh && !simt_) {
      problem.b = factor_of(target.b);
      problem.b_batch_bytes = b_batch_bytes;
      problem.b_scale = batched<const float>(target.row_scale);
      problem.b_in_f32 = in_f32(target.adapter_element_type, descriptor_.x.element_type);
      problem.dh = dh_sums;
    }
    PK_TRY(pass(problem));
    if (dh && !simt_) {
      const int64_t rows = batches_ * m_;
      PK_TRY((add_parts<float>({dh_sums, rows * rank, rank, problem.plan.column_groups, 1, rows, rank, 1.0f, 0, {{dh_ + column, total_rank_, 1}, 0}, {}, 0})));
    }
    if (db) {
      const float scale = scale_with_dropout(target.scale, descriptor_.dropout);
      PK_TRY(add_sums_of(target.adapter_element_type, problem.sums, problem.plan, n * rank, rank, n, rank, scale, target.b_gradient, target.db, false, batched<const float>(target.row_scale)));
    }
    return bias ? add_sums<T>(bias_sums, problem.plan, n, 1, n, 1, 1.0f, target.bias_gradient, target.dbias, true) : PK_OK;
  }

  // The bias' gradient where rows are weighed: dY^T * the weights, an h of one column.
  int32_t pass_over_dy_for_bias(const pk_lora_gradient_target& target) const {
    const int64_t n = target.dy.columns;
    OuterProblem<T> problem{};
    problem.left = batched<const T>(target.dy);
    problem.batches = batches_;
    problem.m = m_;
    problem.columns = n;
    problem.plan = lora_bias_plan(descriptor_, target);
    problem.rank = 1;
    problem.makes_sums = 1;
    problem.h = {row_weights_, m_, 1, 1, 1, 1, 0};
    problem.sums = sums_;
    PK_TRY(pass(problem));
    return add_sums<T>(sums_, problem.plan, n, 1, n, 1, 1.0f, target.bias_gradient, target.dbias, true);
  }

  int32_t make_dx() const {
    InputGradientProblem<T> problem{};
    ForwardProblem<T>& of = problem.of;
    of.batches = batches_;
    of.m = m_;
    of.dropout = dropout_;
    of.h_planes = 1;
    of.splits = 1;
    of.target_count = static_cast<int32_t>(descriptor_.target_count);
    problem.dx.y = batched<T>(descriptor_.dx);
    problem.dx.n = k_;
    problem.dx.base = descriptor_.x_gradient == PK_GRADIENT_ACCUMULATE ? PK_LORA_BASE_IN_Y : PK_LORA_BASE_NONE;
    of.targets[0].n = k_;  // of which tiles are counted, be there a target or not
    int64_t column = 0;
    bool scaled = false;
    for (int32_t i = 0; i < of.target_count; ++i) {
      const pk_lora_gradient_target& given = descriptor_.targets[i];
      ForwardTarget<T>& target = of.targets[i];
      const Batched<const T> w = batched<const T>(given.w);
      target.base = given.base;
      target.w = {{w.first.data, w.first.column_stride, w.first.row_stride}, w.batch_stride};
      target.row_scale = batched<const float>(given.row_scale);
      scaled = scaled || (given.base == PK_LORA_BASE_DENSE && lora_has_row_scale(given));
      target.n = k_;
      const int64_t rank = given.a.rows;
      const Factor b = transposed(factor_of(given.a));
      target.adapters = {{b, b, rank, scale_with_dropout(given.scale, descriptor_.dropout)}, 0, given.a.batch_stride * bytes_of(given.adapter_element_type), nullptr, 1, rank > 0 ? total_rank_ : 0,
                         in_f32(given.adapter_element_type, descriptor_.x.element_type), 1.0f};
      target.h = dh_ + column;
      column += rank;
      problem.dy[i] = batched<const T>(given.dy);
      problem.depth[i] = given.dy.columns;
    }
    if (simt_) {
      const int64_t tiles = batches_ * tiles_of(m_, ForwardSimtConfig::kTile) * tiles_of(k_, ForwardSimtConfig::kTile);
      if (tiles == 0) return PK_OK;
      const LaunchShape shape{"lora_input_gradient_simt", grid_of(tiles), ForwardSimtConfig::kThreads, shared_bytes<ForwardSimtConfig::Shared>()};
      return launch(queue_, shape, operands_, lora_input_gradient_simt<T>, problem, tiles);
    }
    const auto run = [&](auto math) {
      using Math = decltype(math);
      if (plan_.algorithm == PK_LORA_BACKWARD_MMA_LARGE) return scaled ? dx_mma<Math, true, true>(problem) : dx_mma<Math, true, false>(problem);
      return scaled ? dx_mma<Math, false, true>(problem) : dx_mma<Math, false, false>(problem);
    };
    if constexpr (sizeof(T) == 4) return plan_.tf32 != 0 ? run(Tf32()) : run(ThreeTf32());
    else return run(Exact16<T>());
  }

  template <class Math, bool LARGE, bool SCALED>
  int32_t dx_mma(const InputGradientProblem<T>& problem) const {
    using Config = typename InputGradientMmaOf<Math, LARGE, SCALED>::Config;
    using Product = typename Config::Product;
    const int64_t tiles = batches_ * tiles_of(m_, Product::kTileRows) * tiles_of(k_, Product::kTileColumns);
    if (tiles == 0) return PK_OK;
    const LaunchShape shape{LARGE ? "lora_input_gradient_mma_large" : "lora_input_gradient_mma_small", grid_of(tiles), Product::kThreads, shared_bytes<typename Config::Shared>()};
    return launch(queue_, shape, operands_, lora_input_gradient_mma<Config, T>, problem);
  }

  // The sums over x's rows of every target's dH, whose columns lie side by side; then each target's own.
  int32_t pass_over_x() const {
    bool any = false;
    for (int64_t i = 0; i < descriptor_.target_count; ++i) any = any || lora_makes_da(descriptor_.targets[i]);
    if (!any) return PK_OK;
    OuterProblem<T> problem{};
    problem.left = batched<const T>(descriptor_.x);
    problem.batches = batches_;
    problem.m = m_;
    problem.columns = k_;
    problem.dropout = dropout_;
    problem.plan = lora_x_plan(descriptor_, total_rank_);
    problem.rank = total_rank_;
    problem.makes_sums = 1;
    problem.h = {dh_, m_ * total_rank_, total_rank_, 1, 1, 1, 0};
    problem.sums = sums_;
    PK_TRY(pass(problem));
    int64_t column = 0;
    for (int64_t i = 0; i < descriptor_.target_count; ++i) {
      const pk_lora_gradient_target& target = descriptor_.targets[i];
      if (lora_makes_da(target)) {
        const float scale = scale_with_dropout(target.scale, descriptor_.dropout);
        PK_TRY(add_sums_of(target.adapter_element_type, sums_ + column, problem.plan, k_ * total_rank_, total_rank_, k_, target.a.rows, scale, target.a_gradient, target.da, true));
      }
      if (makes_dh(target)) column += target.a.rows;
    }
    return PK_OK;
  }

  const pk_queue& queue_;
  const pk_lora_backward_descriptor& descriptor_;
  const LoraBackwardPlan& plan_;
  const int64_t batches_, m_, k_;
  const bool simt_;
  int64_t total_rank_ = 0;
  float *dh_ = nullptr, *sums_ = nullptr, *row_weights_ = nullptr;
  Dropout dropout_{};
  Operands operands_;
};

}  // namespace

template <class T>
int32_t backward(const pk_queue& queue, const pk_lora_backward_descriptor& descriptor, const LoraBackwardPlan& plan) {
  return Backward<T>(queue, descriptor, plan).run();
}

template <class T>
int32_t prepare_backward() {
  PK_TRY((prepare(lora_outer_simt<T>)));
  PK_TRY((prepare(lora_input_gradient_simt<T>)));
  PK_TRY((prepare(lora_add_parts<T>)));
  PK_TRY((prepare(lora_weigh_rows<T>)));
  if constexpr (sizeof(T) != 4) PK_TRY((prepare(lora_add_parts<float>)));
  PK_TRY((prepare(lora_outer_mma<OuterMmaConfig<16>, T>)));
  PK_TRY((prepare(lora_outer_mma<OuterMmaConfig<64>, T>)));
  const auto of = [](auto math) {
    using Math = decltype(math);
    PK_TRY((prepare(lora_input_gradient_mma<typename InputGradientMmaOf<Math, true, false>::Config, T>)));
    PK_TRY((prepare(lora_input_gradient_mma<typename InputGradientMmaOf<Math, true, true>::Config, T>)));
    PK_TRY((prepare(lora_input_gradient_mma<typename InputGradientMmaOf<Math, false, false>::Config, T>)));
    return prepare(lora_input_gradient_mma<typename InputGradientMmaOf<Math, false, true>::Config, T>);
  };
  if constexpr (sizeof(T) == 4) {
    PK_TRY(of(Tf32()));
    return of(ThreeTf32());
  } else {
    return of(Exact16<T>());
  }
}

}  // namespace PK_BUILD
