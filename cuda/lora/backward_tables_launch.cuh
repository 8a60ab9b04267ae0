// What a backward call makes otherwise of targets with tables of adapters: which rows each adapter has, dH and dB where dY is gone through, dA where x is.
#pragma once

#include "backward_plan.h"
#include "forward_launch.h"
#include "outer_list_mma.cuh"
#include "outer_list_simt.cuh"
#include "shrink_problem.cuh"

namespace PK_BUILD {

static inline RowAdapters row_choice(const pk_lora_backward_descriptor& descriptor) { return {descriptor.row_adapter, descriptor.segments, descriptor.segment_count}; }

// A target's table, its factors as they are or exchanged.
static inline AdapterSet table_of(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target, bool exchanged) {
  AdapterSet set{};
  set.table = target.adapters;
  set.count = target.adapter_count;
  set.max_rank = target.max_rank;
  set.in_f32 = in_f32(target.adapter_element_type, descriptor.x.element_type);
  set.factor = scale_with_dropout(1.0f, descriptor.dropout);
  set.exchanged = exchanged;
  return set;
}

// h [batches * m, max_rank] = x * A^T of each row's adapter, or dY * B.
template <class T>
ForwardProblem<T> table_problem(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target, const pk_matrix& x, bool exchanged, float* h) {
  ForwardProblem<T> problem{};
  problem.x = batched<const T>(x);
  problem.batches = descriptor.batch_count;
  problem.m = x.rows;
  problem.k = x.columns;
  problem.rows = row_choice(descriptor);
  problem.h_planes = 1;
  problem.splits = 1;
  problem.target_count = 1;
  problem.targets[0].adapters = table_of(descriptor, target, exchanged);
  problem.targets[0].h = h;
  return problem;
}

// What the launches of a target's gradients may write.
static inline void name_table_gradients(Operands& operands, const pk_lora_gradient_target& target, int64_t k) {
  if (target.a_gradient == PK_GRADIENT_NONE && target.b_gradient == PK_GRADIENT_NONE) return;
  operands.read_bytes("gradients", target.gradients, target.adapter_count * sizeof(pk_lora_adapter_gradient));
  const pk_lora_adapter_gradient* gradients = operands.visible(target.gradients);
  const pk_lora_adapter* adapters = operands.visible(target.adapters);
  const auto gradient = [&](const char* name, const pk_matrix& matrix, int32_t mode) {
    if (matrix.data == nullptr) return;
    if (mode == PK_GRADIENT_OVERWRITE) operands.write(name, matrix, 1);
    if (mode == PK_GRADIENT_ACCUMULATE) operands.read_write(name, matrix, 1);
  };
  for (int64_t i = 0; gradients != nullptr && adapters != nullptr && i < target.adapter_count; ++i) {
    const int64_t rank = adapters[i].rank;
    if (rank < 0 || rank > target.max_rank) continue;  // never written
    gradient("da", {gradients[i].da, rank, k, gradients[i].da_row_stride, gradients[i].da_column_stride, 0, target.adapter_element_type, 0}, target.a_gradient);
    gradient("db", {gradients[i].db, target.dy.columns, rank, gradients[i].db_row_stride, gradients[i].db_column_stride, 0, target.adapter_element_type, 0}, target.b_gradient);
  }
}

template <class T>
class BackwardTables {
 public:
  // `workspace`: what lora_table_layout asks for, of the targets one after the other.
  BackwardTables(const pk_queue& queue, const pk_lora_backward_descriptor& descriptor, const LoraBackwardPlan& plan, const Operands& operands, char* workspace)
      : queue_(queue), descriptor_(descriptor), plan_(plan), operands_(operands), workspace_(workspace), rows_(descriptor.batch_count * descriptor.x.rows) {}

  // Whose tables the call is over: then no target has an adapter of another kind.
  bool any() const {
    bool any = false;
    for (int64_t i = 0; i < descriptor_.target_count; ++i) any = any || lora_has_table(descriptor_.targets[i]);
    return any;
  }

  // The adapters of rows, of which a wrong one is reported, and for gradients of factors the rows of adapters.
  int32_t find_rows() const {
    for (int64_t i = 0; i < descriptor_.target_count; ++i) {
      const pk_lora_gradient_target& target = descriptor_.targets[i];
      if (!lora_has_table(target)) continue;
      PK_TRY(row_adapters(queue_, operands_, table_of(descriptor_, target, false), row_choice(descriptor_), rows_, descriptor_.status, indices_of(i)));
      if (lora_makes_da(target) || lora_makes_db(target)) PK_TRY(row_lists(queue_, operands_, indices_of(i), rows_, target.adapter_count, lists_of(i)));
    }
    return PK_OK;
  }

  // The adapter of each row, of a target with a table.
  int32_t* indices_of(int64_t number) const { return reinterpret_cast<int32_t*>(place_of(number)); }

  // dB of a target, of its h; dH = dY * B of every row at `dh`, [batches * m, max_rank].
  int32_t pass_over_dy(int64_t number, const Intermediate& h, float* dh) const {
    const pk_lora_gradient_target& target = descriptor_.targets[number];
    if (lora_makes_db(target)) PK_TRY(gradient(number, target.dy, h, true));
    if (!lora_makes_dh(target, descriptor_.x_gradient != PK_GRADIENT_NONE) || rows_ == 0) return PK_OK;
    ForwardProblem<T> problem = table_problem<T>(descriptor_, target, target.dy, true, dh);
    problem.x_scale = batched<const float>(target.row_scale);
    return shrink(queue_, operands_, problem, simt() || lora_has_row_scale(target), false);
  }

  // Every target's dA, of its dH.
  int32_t pass_over_x(const float* dh) const {
    for (int64_t i = 0; i < descriptor_.target_count; ++i) {
      const pk_lora_gradient_target& target = descriptor_.targets[i];
      const int64_t rank = lora_rank(target);
      if (lora_makes_da(target)) PK_TRY(gradient(i, descriptor_.x, {dh, descriptor_.x.rows * rank, rank, 1, 1, 1, 0}, false));
      if (lora_makes_dh(target, descriptor_.x_gradient != PK_GRADIENT_NONE)) dh += rows_ * rank;
    }
    return PK_OK;
  }

 private:
  bool simt() const { return plan_.algorithm == PK_LORA_BACKWARD_SIMT; }

  char* place_of(int64_t number) const {
    char* place = workspace_;
    for (int64_t i = 0; i < number; ++i) place += lora_table_layout(descriptor_, descriptor_.targets[i]).bytes();
    return place;
  }

  RowLists lists_of(int64_t number) const {
    const LoraTableLayout layout = lora_table_layout(descriptor_, descriptor_.targets[number]);
    char* offsets = place_of(number) + layout.indices;
    return {reinterpret_cast<int64_t*>(offsets), reinterpret_cast<int64_t*>(offsets + layout.offsets)};
  }

  // dB of left = dY, or dA of left = x.
  int32_t gradient(int64_t number, const pk_matrix& left, const Intermediate& h, bool of_b) const {
    const pk_lora_gradient_target& target = descriptor_.targets[number];
    OuterListProblem<T> problem{};
    problem.left = batched<const T>(left);
    problem.m = left.rows;
    problem.columns = left.columns;
    if (of_b) problem.left_scale = batched<const float>(target.row_scale);
    else problem.dropout = dropout_of(descriptor_.dropout);
    problem.h = h;
    problem.lists = lists_of(number);
    problem.adapters = table_of(descriptor_, target, false);
    problem.gradients = target.gradients;
    problem.of_b = of_b;
    problem.accumulates = (of_b ? target.b_gradient : target.a_gradient) == PK_GRADIENT_ACCUMULATE;
    const int64_t columns = problem.columns, count = target.adapter_count, rank = target.max_rank;
    if (columns == 0 || count == 0) return PK_OK;
    if (simt()) {
      const int64_t warps = count * tiles_of(columns, 32) * tiles_of(rank, OuterListSimtConfig::kRanks);
      const LaunchShape shape{"lora_outer_list_simt", grid_of(tiles_of(warps, OuterListSimtConfig::kWarps)), OuterListSimtConfig::kThreads, 0};
      return launch(queue_, shape, operands_, lora_outer_list_simt<T>, problem);
    }
    const auto run = [&](auto config) {
      using Config = decltype(config);
      const int64_t blocks = count * tiles_of(columns, kLoraOuterColumns) * tiles_of(rank, Config::kRanks);
      return launch(queue_, {"lora_outer_list_mma", grid_of(blocks), Config::kThreads, shared_bytes<typename Config::Shared>()}, operands_, lora_outer_list_mma<Config, T>, problem);
    };
    return lora_outer_ranks(rank) == 16 ? run(OuterListMmaConfig<16>()) : run(OuterListMmaConfig<64>());
  }

  const pk_queue& queue_;
  const pk_lora_backward_descriptor& descriptor_;
  const LoraBackwardPlan& plan_;
  const Operands& operands_;
  char* workspace_;
  int64_t rows_;
};

template <class T>
int32_t prepare_backward_tables() {
  PK_TRY((prepare(lora_outer_list_simt<T>)));
  PK_TRY((prepare(lora_outer_list_mma<OuterListMmaConfig<16>, T>)));
  return prepare(lora_outer_list_mma<OuterListMmaConfig<64>, T>);
}

}  // namespace PK_BUILD
