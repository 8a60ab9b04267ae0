// How a backward call becomes launches, for activations of type T: H where it was not saved; for each target one pass over dY, for dH, dB and the bias' gradient; dX; one pass over x for all dA.
// With tables of adapters the passes are over the rows of each adapter (backward_tables_launch.cuh).
#pragma once

#include <vector>

#include "backward_input_launch.cuh"
#include "backward_launch.h"
#include "backward_tables_launch.cuh"
#include "gradient_launch.cuh"
#include "middle_gradient.cuh"
#include "middle_launch.cuh"
#include "quantized_launch.h"
#include "ranks.h"
#include "sample_weights.h"
#include "shrink_problem.cuh"
#include "weigh_rows.cuh"

namespace PK_BUILD {
namespace {

// A call, and where its intermediates are in the workspace.
template <class T>
class Backward {
 public:
  Backward(const pk_queue& queue, const pk_lora_backward_descriptor& descriptor, const LoraBackwardPlan& plan)
      : queue_(queue), descriptor_(descriptor), plan_(plan), batches_(descriptor.batch_count), m_(descriptor.x.rows), k_(descriptor.x.columns), simt_(plan.algorithm == PK_LORA_BACKWARD_SIMT),
        layout_(lora_backward_layout(descriptor, plan.h_planes)), ranks_(static_cast<char*>(descriptor.workspace) + static_cast<int64_t>(layout_.bytes_before_ranks())),
        targets_(descriptor.targets, descriptor.targets + descriptor.target_count), tables_(queue, descriptor, plan, operands_, ranks_ + static_cast<int64_t>(layout_.ranks)) {
    const LoraBackwardLayout& layout = layout_;
    total_rank_ = layout.total_rank;
    dh_ = static_cast<float*>(descriptor.workspace) + static_cast<int64_t>(layout.h);
    h_after_ = dh_ + static_cast<int64_t>(layout.dh);
    dh_after_ = h_after_ + static_cast<int64_t>(layout.after / 2);
    sums_ = h_after_ + static_cast<int64_t>(layout.after);
    slab_ = ranks_ + static_cast<int64_t>(layout.ranks + layout.tables);
    if (lora_weighs_rows(descriptor)) row_weights_ = sums_ + static_cast<int64_t>(layout.sums);
    dropout_ = dropout_of(descriptor.dropout);
    name_operands();
  }

  int32_t run() {
    PK_TRY(gather());
    PK_TRY(tables_.find_rows());
    auto* h = static_cast<float*>(descriptor_.workspace);
    int64_t column = 0;  // of dH
    if (row_weights_ != nullptr) PK_TRY(row_weights(queue_, descriptor_.samples, descriptor_.sample_weights, batches_ * m_, row_weights_));
    for (size_t i = 0; i < targets_.size(); ++i) {
      const pk_lora_gradient_target& target = targets_[i];
      if (lora_makes_h(target)) PK_TRY(make_h(target, h));
      if (lora_has_middle(target.middle)) {
        if (lora_makes_db(target)) PK_TRY(make_h_after(target, h));
        PK_TRY(pass_over_dy(target, {h_after_, m_ * lora_rank_after(target), lora_rank_after(target), 1, 1, 1, 0}, dh_after_, lora_rank_after(target)));
        PK_TRY(middle_gradients(target, h, dh_ + column));
      } else {
        if (row_weights_ != nullptr && lora_makes_db(target)) PK_TRY(weigh(given_or_made(target, h), lora_rank(target), h));
        if (lora_has_table(target)) PK_TRY(tables_.pass_over_dy(static_cast<int64_t>(i), intermediate(target, h), table_dh(column)));
        PK_TRY(pass_over_dy(target, intermediate(target, h), dh_ + column, total_rank_));
      }
      h += lora_h_planes(descriptor_, target, plan_.h_planes) * batches_ * m_ * lora_rank(target);
      if (makes_dh(target)) column += lora_rank(target);
    }
    if (descriptor_.x_gradient != PK_GRADIENT_NONE) PK_TRY((BackwardInput<T>(queue_, descriptor_, plan_, operands_, targets_, tables_).make(dh_, total_rank_, slab_)));
    if (row_weights_ != nullptr) PK_TRY(weigh_dh());
    return tables_.any() ? tables_.pass_over_x(dh_) : pass_over_x();
  }

 private:
  // Of a table, which comes after targets of so many ranks.
  float* table_dh(int64_t column) const { return dh_ + batches_ * m_ * column; }

  int32_t weigh_dh() const {
    if (!tables_.any()) return weigh({dh_, m_ * total_rank_, total_rank_, 1, 1, 1, 0}, total_rank_, dh_);
    int64_t column = 0;
    for (const pk_lora_gradient_target& target : targets_) {
      if (!makes_dh(target)) continue;
      const int64_t rank = lora_rank(target);
      PK_TRY(weigh({table_dh(column), m_ * rank, rank, 1, 1, 1, 0}, rank, table_dh(column)));
      column += rank;
    }
    return PK_OK;
  }

  bool makes_dh(const pk_lora_gradient_target& target) const { return lora_makes_dh(target, descriptor_.x_gradient != PK_GRADIENT_NONE); }

  // The targets, with the listed ranks of their adapters alone.
  int32_t gather() {
    char* place = ranks_;
    for (pk_lora_gradient_target& target : targets_) {
      const int64_t bytes = lora_ranks_layout(target, batches_).bytes();
      PK_TRY(gather_ranks(queue_, batches_, m_, descriptor_.status, place, &target));
      place += bytes;
    }
    return PK_OK;
  }

  // All that the launches of the call may touch.
  void name_operands() {
    const auto gradient = [&](const char* name, const pk_matrix& matrix, int32_t mode) {
      if (mode == PK_GRADIENT_OVERWRITE) operands_.write(name, matrix, batches_of(matrix, batches_));
      if (mode == PK_GRADIENT_ACCUMULATE) operands_.read_write(name, matrix, batches_of(matrix, batches_));
    };
    operands_.read("x", descriptor_.x, batches_);
    operands_.read_write_bytes("workspace", descriptor_.workspace, descriptor_.workspace_bytes);
    operands_.read_write_bytes("status", descriptor_.status, descriptor_.status != nullptr ? sizeof(pk_status_record) : 0);
    operands_.read_bytes("row_adapter", descriptor_.row_adapter, descriptor_.row_adapter != nullptr ? batches_ * m_ * sizeof(int32_t) : 0);
    operands_.read_bytes("segments", descriptor_.segments, descriptor_.segment_count * sizeof(pk_lora_segment));
    if (descriptor_.x_gradient == PK_GRADIENT_OVERWRITE) operands_.write("dx", descriptor_.dx, batches_);
    if (descriptor_.x_gradient == PK_GRADIENT_ACCUMULATE) operands_.read_write("dx", descriptor_.dx, batches_);
    for (int64_t i = 0; i < descriptor_.target_count; ++i) {
      const pk_lora_gradient_target& target = descriptor_.targets[i];
      operands_.read("dy", target.dy, batches_);
      if (target.base == PK_LORA_BASE_DENSE) operands_.read("w", target.w, batches_);
      if (target.base == PK_LORA_BASE_QUANTIZED) read_quantized(operands_, target.quantized);
      if (lora_has_table(target)) {
        read_table(operands_, target, target.dy.columns, k_);
        name_table_gradients(operands_, target, k_);
      } else if (!lora_lists_ranks(target.middle)) {  // of which copies are in the workspace
        operands_.read("a", target.a, batches_);
        operands_.read("b", target.b, batches_);
      }
      read_middle(operands_, target.middle, batches_);
      if (lora_has_row_scale(target)) operands_.read("row_scale", target.row_scale, batches_);
      if (target.h_saved != 0) operands_.read("saved h", target.h, batches_);
      if (!lora_has_table(target)) {
        gradient("da", target.da, target.a_gradient);
        gradient("db", target.db, target.b_gradient);
      }
      gradient("dbias", target.dbias, target.bias_gradient);
      gradient("dscale", target.dscale, target.scale_gradient);
      gradient("dgate", target.dgate, target.gate_gradient);
      gradient("dcore", target.dcore, target.core_gradient);
    }
  }

  int32_t make_h(const pk_lora_gradient_target& target, float* h) const {
    if (batches_ * m_ == 0) return PK_OK;
    const int64_t rank = lora_rank(target);
    const int64_t a_batch_bytes = target.a.batch_stride * bytes_of(target.adapter_element_type);
    ForwardProblem<T> problem = lora_has_table(target) ? table_problem<T>(descriptor_, target, descriptor_.x, false, h)
                                                       : shrink_problem<T>(descriptor_.x, batches_, factor_of(target.a), a_batch_bytes, rank, rank, target.adapter_element_type, h);
    problem.dropout = dropout_;
    problem.h_planes = plan_.h_planes;
    return shrink(queue_, operands_, problem, simt_, plan_.tf32 != 0);
  }

  // H' of a target with a middle, each row times its weight where they have weights.
  int32_t make_h_after(const pk_lora_gradient_target& target, const float* h) const {
    if (batches_ * m_ == 0) return PK_OK;
    const int64_t rank = lora_rank_after(target);
    MiddleProblem problem{};
    problem.batches = batches_;
    problem.m = m_;
    problem.target_count = 1;
    problem.targets[0] = {middle_of(target, descriptor_.x.element_type, given_or_made(target, h)), h_after_};
    PK_TRY(launch_overlapping(queue_, middle<T>(operands_, problem)));
    return row_weights_ != nullptr ? weigh({h_after_, m_ * rank, rank, 1, 1, 1, 0}, rank, h_after_) : PK_OK;
  }

  // dH of a target with a middle, and the gradients of the middle's parts.
  int32_t middle_gradients(const pk_lora_gradient_target& target, const float* h, float* dh) const {
    const int64_t rank = lora_rank(target), after = lora_rank_after(target);
    const bool of_scale = lora_makes_dscale(target), of_gate = lora_makes_dgate(target), of_core = lora_makes_dcore(target);
    const float scale = scale_with_dropout(target.scale, descriptor_.dropout);
    MiddleGradientProblem problem{};
    problem.middle = middle_of(target, descriptor_.x.element_type, of_scale || of_gate ? given_or_made(target, h) : Intermediate{});
    problem.batches = batches_;
    problem.m = m_;
    problem.after = dh_after_;
    problem.row_weights = row_weights_;
    if (rank > 0 && (of_scale || of_gate || makes_dh(target))) {
      problem.plan = lora_middle_plan(descriptor_, target);
      if (makes_dh(target)) problem.dh = dh, problem.dh_stride = total_rank_;
      if (of_gate) problem.dgate = batched<float>(target.dgate);
      problem.gate_accumulates = target.gate_gradient == PK_GRADIENT_ACCUMULATE;
      problem.scale = scale;
      if (of_scale) problem.scale_sums = sums_;
      const int64_t blocks = problem.plan.groups * problem.plan.parts * tiles_of(rank, MiddleConfig::kTile);
      const LaunchShape shape{"lora_middle_gradient", grid_of(blocks), MiddleConfig::kThreads, shared_bytes<MiddleGradientConfig::Shared>()};
      PK_TRY(launch(queue_, shape, operands_, lora_middle_gradient<T>, problem));
      if (of_scale) PK_TRY(add_sums_of(target.adapter_element_type, sums_, problem.plan, rank, rank, 1, rank, scale, target.scale_gradient, target.dscale, false, ranks_of(target)));
    }
    if (!of_core) return PK_OK;
    problem.middle.h = given_or_made(target, h);
    problem.plan = lora_core_plan(descriptor_, target);
    problem.core_sums = sums_;
    const int64_t blocks = problem.plan.groups * problem.plan.parts * tiles_of(rank, MiddleConfig::kTile) * tiles_of(after, MiddleConfig::kTile);
    const LaunchShape shape{"lora_core_gradient", grid_of(blocks), MiddleConfig::kThreads, shared_bytes<MiddleConfig::Shared>()};
    PK_TRY(launch(queue_, shape, operands_, lora_core_gradient<T>, problem));
    return add_sums_of(target.adapter_element_type, sums_, problem.plan, after * rank, rank, after, rank, scale, target.core_gradient, target.dcore, false, nullptr);
  }

  static const int32_t* ranks_of(const pk_lora_gradient_target& target) { return lora_lists_ranks(target.middle) ? target.middle.ranks : nullptr; }

  // h, each row times its weight, in f32.
  int32_t weigh(const Intermediate& h, int64_t rank, float* out) const {
    const int64_t rows = batches_ * m_;
    if (rows * rank == 0) return PK_OK;
    const LaunchShape shape{"lora_weigh_rows", grid_of(tiles_of(rows * rank, WeighRowsConfig::kThreads)), WeighRowsConfig::kThreads, 0};
    return launch(queue_, shape, operands_, lora_weigh_rows<T>, h, static_cast<const float*>(row_weights_), rows, m_, rank, out);
  }

  // H of a target as it was saved, or was made; where rows are weighed, that is what was made of it.
  Intermediate intermediate(const pk_lora_gradient_target& target, const float* h) const {
    if (row_weights_ != nullptr) return {h, m_ * lora_rank(target), lora_rank(target), 1, 1, 1, 0};
    return given_or_made(target, h);
  }

  Intermediate given_or_made(const pk_lora_gradient_target& target, const float* h) const {
    const int64_t rank = lora_rank(target);
    if (target.h_saved == 0) return {h, m_ * rank, rank, 1, 1, plan_.h_planes, batches_ * m_ * rank};
    return {target.h.data, target.h.batch_stride, target.h.row_stride, target.h.column_stride, in_f32(target.h.element_type, descriptor_.x.element_type), 1, 0};
  }

  int32_t pass(const OuterProblem<T>& problem) const { return launch_outer(queue_, operands_, problem, simt_); }

  template <class G>
  int32_t add_parts(const AddedParts<G>& parts) const {
    return launch_add_parts(queue_, operands_, parts);
  }

  // Planes of a pass to a gradient.
  template <class G>
  int32_t add_sums(const float* data, const LoraOuterPlan& plan, int64_t plane, int64_t row_stride, int64_t rows, int64_t columns, float scale, int32_t mode, const pk_matrix& to, bool transposes,
                   const int32_t* ranks, const Batched<const float>& row_scale = {}) const {
    AddedParts<G> parts = added_parts<G>(data, plan, batches_, plane, row_stride, rows, columns, scale, mode, to, transposes);
    parts.ranks = ranks;
    parts.row_scale = row_scale;
    if (row_scale.batch_stride == 0) parts.planes_of_scale = parts.planes;  // one for all that is added up
    return add_parts<G>(parts);
  }

  template <class... A>
  int32_t add_sums_of(int32_t element_type, const A&... arguments) const {
    return element_type == PK_F32 ? add_sums<float>(arguments...) : add_sums<T>(arguments...);
  }

  // dY * B at `to`, whose rows are `stride` apart, dB of h and the bias' gradient.
  int32_t pass_over_dy(const pk_lora_gradient_target& target, const Intermediate& h, float* to, int64_t stride) const {
    const bool dh = lora_pass_makes_after(target, descriptor_.x_gradient != PK_GRADIENT_NONE), db = lora_pass_makes_db(target);
    const bool bias = target.bias_gradient != PK_GRADIENT_NONE && row_weights_ == nullptr;
    if (target.bias_gradient != PK_GRADIENT_NONE && !bias) PK_TRY(pass_over_dy_for_bias(target));
    if (!dh && !db && !bias) return PK_OK;
    const int64_t n = target.dy.columns, rank = dh || db ? lora_rank_after(target) : 0;
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
    if (db) problem.h = h;
    float* bias_sums = problem.sums + (db ? parts * n * rank : 0);
    float* dh_sums = bias_sums + (bias ? parts * n : 0);
    if (bias) problem.bias_sums = bias_sums;
    const int64_t b_batch_bytes = target.b.batch_stride * bytes_of(target.adapter_element_type);
    if (dh && simt_ && batches_ * m_ > 0) {
      ForwardProblem<T> shrinks = shrink_problem<T>(target.dy, batches_, transposed(factor_of(target.b)), b_batch_bytes, rank, stride, target.adapter_element_type, to);
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
      PK_TRY((add_parts<float>({dh_sums, rows * rank, rank, problem.plan.column_groups, 1, rows, rank, 1.0f, 0, {{to, stride, 1}, 0}, nullptr, {}, 0})));
    }
    if (db) {
      const float scale = scale_with_dropout(target.scale, descriptor_.dropout);
      const Batched<const float> row_scale = batched<const float>(target.row_scale);
      PK_TRY(add_sums_of(target.adapter_element_type, problem.sums, problem.plan, n * rank, rank, n, rank, scale, target.b_gradient, target.db, false, ranks_of(target), row_scale));
    }
    return bias ? add_sums<T>(bias_sums, problem.plan, n, 1, n, 1, 1.0f, target.bias_gradient, target.dbias, true, nullptr) : PK_OK;
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
    return add_sums<T>(sums_, problem.plan, n, 1, n, 1, 1.0f, target.bias_gradient, target.dbias, true, nullptr);
  }

  // The sums over x's rows of every target's dH, whose columns lie side by side; then each target's own.
  int32_t pass_over_x() const {
    bool any = false;
    for (const pk_lora_gradient_target& target : targets_) any = any || lora_makes_da(target);
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
    for (const pk_lora_gradient_target& target : targets_) {
      if (lora_makes_da(target)) {
        const float scale = scale_with_dropout(target.scale, descriptor_.dropout);
        PK_TRY(add_sums_of(target.adapter_element_type, sums_ + column, problem.plan, k_ * total_rank_, total_rank_, k_, lora_rank(target), scale, target.a_gradient, target.da, true, ranks_of(target)));
      }
      if (makes_dh(target)) column += lora_rank(target);
    }
    return PK_OK;
  }

  const pk_queue& queue_;
  const pk_lora_backward_descriptor& descriptor_;
  const LoraBackwardPlan& plan_;
  const int64_t batches_, m_, k_;
  const bool simt_;
  int64_t total_rank_ = 0;
  float *dh_ = nullptr, *h_after_ = nullptr, *dh_after_ = nullptr, *sums_ = nullptr, *row_weights_ = nullptr;
  LoraBackwardLayout layout_;
  char *ranks_, *slab_ = nullptr;
  std::vector<pk_lora_gradient_target> targets_;
  Dropout dropout_{};
  Operands operands_;
  BackwardTables<T> tables_;
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
  PK_TRY((prepare_backward_tables<T>()));
  PK_TRY((prepare(lora_middle<T>)));
  PK_TRY((prepare(lora_middle_gradient<T>)));
  PK_TRY((prepare(lora_core_gradient<T>)));
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
