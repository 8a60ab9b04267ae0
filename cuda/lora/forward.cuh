// y = x * W^T + scale * (x * A^T) * B^T + bias: the problem as the kernels see it.
#pragma once

#include "adapter.cuh"

namespace PK_BUILD {

// One linear layer of those that share x.
template <class T, class P>
struct ForwardTarget {
  int32_t base;  // PK_LORA_BASE_*
  Batched<const T> w, bias;
  Batched<T> y;
  int64_t n;
  AdapterSet<P> adapters;
  Matrix<float> h;  // x * A^T of every row of every batch, [batches * m, max_rank], in the workspace
};

template <class T, class P>
struct ForwardProblem {
  static constexpr int kMaxTargets = 8;  // what fits a kernel's parameters; more are launched eight at a time

  Batched<const T> x;
  int64_t batches, m, k;
  RowAdapters rows;
  pk_status_record* status;
  int32_t target_count;
  ForwardTarget<T, P> targets[kMaxTargets];
};

}  // namespace PK_BUILD
