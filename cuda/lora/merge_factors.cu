// The launches that make the factors of a merge whose adapters have middles: listed ranks are gathered, then the middle's kernel takes the columns of A for the rows of H and makes
// core * diag(scale) * A, transposed. Where that widens factors of 16 bits, the same kernel without a middle copies the others.
#include "merge_factors.h"

#include <algorithm>

#include "../core/dispatch.h"
#include "merge_plan.h"
#include "middle_launch.cuh"
#include "ranks.h"

namespace PK_BUILD {
namespace {

// An adapter's matrix as the middle's kernel reads H.
Intermediate intermediate_of(const pk_matrix& matrix, int32_t activations) {
  return {matrix.data, 0, matrix.row_stride, matrix.column_stride, in_f32(matrix.element_type, activations), 1, 0};
}

Intermediate transposed_intermediate_of(const pk_matrix& matrix, int32_t activations) {
  return {matrix.data, 0, matrix.column_stride, matrix.row_stride, in_f32(matrix.element_type, activations), 1, 0};
}

// All of so many rows.
template <class T>
int32_t make(const pk_queue& queue, const Operands& operands, int64_t rows, const std::vector<MiddleProblem::Target>& factors) {
  const auto count = static_cast<int64_t>(factors.size());
  for (int64_t first = 0; first < count; first += MiddleProblem::kMaxTargets) {
    MiddleProblem problem{};
    problem.batches = 1;
    problem.m = rows;
    problem.target_count = static_cast<int32_t>(std::min<int64_t>(count - first, MiddleProblem::kMaxTargets));
    std::copy_n(factors.begin() + first, problem.target_count, problem.targets);
    PK_TRY(launch_middles<T>(queue, operands, problem));
  }
  return PK_OK;
}

}  // namespace

int32_t merge_factors(const pk_queue& queue, const pk_lora_merge_descriptor& descriptor, std::vector<pk_lora_adapter>* adapters) {
  const int32_t type = descriptor.source.element_type;
  const int64_t n = descriptor.source.rows, k = descriptor.source.columns;
  const bool widens = lora_merge_widens(descriptor), reads = n > 0 && k > 0;
  auto* workspace = static_cast<char*>(descriptor.workspace);
  Operands operands;  // of all launches: each writes what no other touches
  operands.read_write_bytes("workspace", workspace, lora_merge_workspace_bytes(descriptor));
  std::vector<MiddleProblem::Target> of_a, of_b;
  for (int64_t i = 0; i < descriptor.adapter_count; ++i) {
    LoraListedAdapter adapter = lora_merge_adapter(descriptor, i);
    const LoraMergeLayout layout = lora_merge_layout(adapter, widens);
    auto *made_a = reinterpret_cast<float*>(workspace + layout.ranks), *made_b = reinterpret_cast<float*>(workspace + layout.ranks + layout.a);
    PK_TRY(gather_ranks(queue, 1, reads ? 1 : 0, descriptor.status, workspace, &adapter));
    const int64_t after = lora_merge_rank(adapter);
    if (layout.a > 0 || layout.b > 0) {
      if (!lora_lists_ranks(adapter.middle)) {  // of which copies are in the workspace
        operands.read("a", adapter.a, 1);
        operands.read("b", adapter.b, 1);
      }
      read_middle(operands, adapter.middle, 1);
    }
    if (layout.a > 0) {
      of_a.push_back({middle_of(adapter, type, transposed_intermediate_of(adapter.a, type)), made_a});
      adapter.a = {made_a, after, k, 1, after, 0, PK_F32, 0};
    }
    if (layout.b > 0) {
      const LoraListedAdapter nothing{{}, adapter.b, {}, adapter.adapter_element_type};
      of_b.push_back({middle_of(nothing, type, intermediate_of(adapter.b, type)), made_b});
      of_b.back().middle.rank = after;
      adapter.b = {made_b, n, after, after, 1, 0, PK_F32, 0};
    }
    const float scale = descriptor.adapters[i].scale;
    (*adapters)[i] = {adapter.a.data, adapter.b.data, adapter.a.row_stride, adapter.a.column_stride, adapter.b.row_stride, adapter.b.column_stride, static_cast<int32_t>(after), scale};
    workspace += layout.bytes();
  }
  if (!reads) return PK_OK;
  return dispatch_type(type, [&](auto t) {
    using T = typename decltype(t)::type;
    PK_TRY((make<T>(queue, operands, k, of_a)));
    return make<T>(queue, operands, n, of_b);
  });
}

}  // namespace PK_BUILD
