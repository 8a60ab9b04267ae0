// The gradient of x of a backward call: a launch for all targets, or one for each slab of columns of quantised W.
#pragma once

#include <algorithm>
#include <vector>

#include "backward_tables_launch.cuh"
#include "gradient_launch.cuh"
#include "quantized_launch.h"

namespace PK_BUILD {
namespace {

template <class T>
class BackwardInput {
 public:
  // `targets`: the call's, with the listed ranks of their adapters alone.
  BackwardInput(const pk_queue& queue, const pk_lora_backward_descriptor& descriptor, const LoraBackwardPlan& plan, const Operands& operands, const std::vector<pk_lora_gradient_target>& targets,
                const BackwardTables<T>& tables)
      : queue_(queue), descriptor_(descriptor), plan_(plan), operands_(operands), targets_(targets), tables_(tables), batches_(descriptor.batch_count), m_(descriptor.x.rows), k_(descriptor.x.columns) {}

  // Of every target's dH: columns of matrices of `total_rank` columns at `dh`, or of tables one after the other. `slab`: what lora_input_slab_bytes asks for.
  int32_t make(float* dh, int64_t total_rank, void* slab) const {
    InputGradientProblem<T> problem{};
    ForwardProblem<T>& of = problem.of;
    of.batches = batches_;
    of.m = m_;
    of.dropout = dropout_of(descriptor_.dropout);
    of.h_planes = 1;
    of.splits = 1;
    of.target_count = static_cast<int32_t>(descriptor_.target_count);
    problem.dx.y = batched<T>(descriptor_.dx);
    problem.dx.n = k_;
    problem.dx.base = descriptor_.x_gradient == PK_GRADIENT_ACCUMULATE ? PK_LORA_BASE_IN_Y : PK_LORA_BASE_NONE;
    of.targets[0].count = k_;  // of which tiles are counted, be there a target or not
    int64_t column = 0;
    bool scaled = false;
    for (int32_t i = 0; i < of.target_count; ++i) {
      const pk_lora_gradient_target& given = targets_[static_cast<size_t>(i)];
      ForwardTarget<T>& target = of.targets[i];
      const Batched<const T> w = batched<const T>(given.w);
      target.base = given.base;
      target.w = {{w.first.data, w.first.column_stride, w.first.row_stride}, w.batch_stride};
      target.row_scale = batched<const float>(given.row_scale);
      scaled = scaled || (lora_has_w(given.base) && lora_has_row_scale(given));
      target.n = k_;
      const int64_t rank = lora_rank(given);
      const Factor b = transposed(factor_of(given.a));
      target.adapters = {{b, b, rank, scale_with_dropout(given.scale, descriptor_.dropout)}, 0, given.a.batch_stride * bytes_of(given.adapter_element_type), nullptr, 1, rank > 0 ? total_rank : 0,
                         in_f32(given.adapter_element_type, descriptor_.x.element_type), 1.0f, 0};
      target.h = dh + column;
      if (lora_has_table(given)) {
        target.adapters = table_of(descriptor_, given, true);
        target.h = dh + batches_ * m_ * column;
        problem.indices[i] = tables_.indices_of(i);
      }
      column += rank;
      problem.dy[i] = batched<const T>(given.dy);
      problem.depth[i] = given.dy.columns;
    }
    const bool quantized = std::any_of(targets_.begin(), targets_.end(), [](const pk_lora_gradient_target& target) { return target.base == PK_LORA_BASE_QUANTIZED; });
    if (batches_ * m_ == 0 || k_ == 0) return PK_OK;
    if (!quantized) return write(problem, scaled);
    // Of all quantised W so many columns at a time as the slab holds.
    const int64_t columns = lora_input_slab_columns(descriptor_);
    for (int64_t first = 0; first < k_; first += columns) {
      of.targets[0].first = first;
      of.targets[0].count = std::min(columns, k_ - first);
      PK_TRY(fill_slab(of, first, of.targets[0].count, slab));
      PK_TRY(write(problem, scaled));
    }
    return PK_OK;
  }

 private:
  int32_t write(const InputGradientProblem<T>& problem, bool scaled) const { return launch_input_gradient(queue_, operands_, problem, plan_.algorithm, plan_.tf32 != 0, scaled); }

  // Columns of every quantised W, one W after the other, and where the targets find them.
  int32_t fill_slab(ForwardProblem<T>& of, int64_t first, int64_t count, void* slab) const {
    const int64_t pitch = lora_slab_pitch(count, sizeof(T));
    auto* place = static_cast<T*>(slab);
    for (int32_t i = 0; i < of.target_count; ++i) {
      const pk_lora_gradient_target& given = targets_[static_cast<size_t>(i)];
      if (given.base != PK_LORA_BASE_QUANTIZED) continue;
      PK_TRY(dequantize_slab<T>(queue_, given.quantized, k_, {0, given.dy.columns, first, count, pitch}, place));
      of.targets[i].base = PK_LORA_BASE_DENSE;
      of.targets[i].w = {{place - first, 1, pitch}, 0};
      place += given.dy.columns * pitch;
    }
    return PK_OK;
  }

  const pk_queue& queue_;
  const pk_lora_backward_descriptor& descriptor_;
  const LoraBackwardPlan& plan_;
  const Operands& operands_;
  const std::vector<pk_lora_gradient_target>& targets_;
  const BackwardTables<T>& tables_;
  const int64_t batches_, m_, k_;
};

}  // namespace
}  // namespace PK_BUILD
