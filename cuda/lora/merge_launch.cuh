// What launchers of kernels that multiply a list of adapters share: the problem of a merge, and the operands that are its adapters'.
#pragma once

#include "forward_launch.h"
#include "merge_mma.cuh"

namespace PK_BUILD {

inline void read_adapters(Operands& operands, const pk_lora_adapter* adapters, int64_t count, const pk_matrix& weights, int32_t element_type) {
  for (int64_t i = 0; i < count; ++i) {
    operands.read("a", lora_matrix_a(adapters[i], weights.columns, element_type), 1);
    operands.read("b", lora_matrix_b(adapters[i], weights.rows, adapters[i].rank, element_type), 1);
  }
}

// Without what is written.
template <class T>
MergeProblem<T> merge_problem(const pk_matrix& source, const pk_lora_adapter* adapters, int64_t count, int32_t adapter_element_type, int32_t direction) {
  MergeProblem<T> problem{};
  problem.n = source.rows;
  problem.k = source.columns;
  problem.direction = static_cast<float>(direction);
  problem.source = batched<const T>(source).first;
  problem.adapters_in_f32 = adapter_element_type == PK_F32 && source.element_type != PK_F32;
  problem.adapter_count = static_cast<int32_t>(count);
  for (int64_t i = 0; i < count; ++i) {
    const pk_lora_adapter& adapter = adapters[i];
    problem.adapters[i] = {{adapter.a, adapter.a_row_stride, adapter.a_column_stride}, {adapter.b, adapter.b_row_stride, adapter.b_column_stride}, adapter.rank, adapter.scale};
  }
  return problem;
}

// What multiplies factors of P.
template <class P>
using MergeConfigOf = MergeMmaConfig<std::conditional_t<sizeof(P) == 4, ThreeTf32, Exact16<P>>>;

}  // namespace PK_BUILD
