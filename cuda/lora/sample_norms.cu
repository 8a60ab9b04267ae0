// The launcher of the samples' squared norms: for each target dH and H where they are needed, a pass over x and one over dY; then each sample's sum.
#include "../core/dispatch.h"
#include "../core/operations.h"
#include "backward_plan.h"
#include "sample_norms.cuh"
#include "shrink_problem.cuh"

namespace PK_BUILD {
namespace {

Operands operands_of(const pk_lora_sample_norms_descriptor& descriptor) {
  const int64_t batches = descriptor.batch_count;
  Operands operands;
  operands.read("x", descriptor.x, batches);
  operands.read_bytes("sample offsets", descriptor.samples.offsets, descriptor.samples.offsets != nullptr ? (descriptor.samples.count + 1) * sizeof(int32_t) : 0);
  operands.read_write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const pk_lora_sample_norm_target& target = descriptor.targets[i];
    operands.read("dy", target.dy, batches);
    operands.read("a", target.a, 1);
    operands.read("b", target.b, 1);
    if (target.h_saved != 0) operands.read("saved h", target.h, batches);
  }
  return operands;
}

template <class T>
int32_t pass(const pk_queue& queue, const Operands& operands, const SampleNormsProblem<T>& problem) {
  const int64_t blocks = problem.samples.count * tiles_of(problem.columns, kLoraSampleNormColumns);
  if (blocks == 0) return PK_OK;
  const LaunchShape shape{"lora_sample_norms_simt", grid_of(blocks), SampleNormsConfig::kThreads, shared_bytes<SampleNormsConfig::Shared>()};
  return launch(queue, shape, operands, lora_sample_norms_simt<T>, problem);
}

// The passes of a target, whose numbers go to `blocks`.
template <class T>
int32_t passes(const pk_queue& queue, const pk_lora_sample_norms_descriptor& descriptor, const Operands& operands, const pk_lora_sample_norm_target& target, float* h, float* dh, float* blocks) {
  const int64_t batches = descriptor.batch_count, m = descriptor.x.rows, rank = target.a.rows;
  const bool rows = batches * m > 0;
  const auto problem_of = [&](const pk_matrix& left) {
    SampleNormsProblem<T> problem{};
    problem.left = batched<const T>(left);
    problem.batches = batches;
    problem.m = m;
    problem.columns = left.columns;
    problem.samples = descriptor.samples;
    problem.scale = scale_with_dropout(target.scale, descriptor.dropout);
    problem.blocks = blocks;
    return problem;
  };
  const Intermediate made{nullptr, m * rank, rank, 1, 1, 1, 0};
  if (lora_norm_of_a(target)) {
    if (rows) {
      const Factor b = transposed(factor_of(target.b));
      PK_TRY(shrink(queue, operands, shrink_problem<T>(target.dy, batches, b, 0, rank, rank, target.adapter_element_type, dh), true, false));
    }
    SampleNormsProblem<T> problem = problem_of(descriptor.x);
    problem.dropout = dropout_of(descriptor.dropout);
    problem.rank = rank;
    problem.h = made;
    problem.h.data = dh;
    PK_TRY(pass(queue, operands, problem));
    blocks += tiles_of(descriptor.x.columns, kLoraSampleNormColumns) * descriptor.samples.count;
  }
  if (!lora_norm_of_b(target) && target.bias_counts == 0) return PK_OK;
  SampleNormsProblem<T> problem = problem_of(target.dy);
  problem.sums = target.bias_counts;
  problem.blocks = blocks;
  if (lora_norm_of_b(target)) {
    problem.rank = rank;
    problem.h = made;
    problem.h.data = h;
    if (target.h_saved != 0) {
      problem.h = {target.h.data, target.h.batch_stride, target.h.row_stride, target.h.column_stride, in_f32(target.h.element_type, descriptor.x.element_type), 1, 0};
    } else if (rows) {
      ForwardProblem<T> shrinks = shrink_problem<T>(descriptor.x, batches, factor_of(target.a), 0, rank, rank, target.adapter_element_type, h);
      shrinks.dropout = dropout_of(descriptor.dropout);
      PK_TRY(shrink(queue, operands, shrinks, true, false));
    }
  }
  return pass(queue, operands, problem);
}

template <class T>
int32_t sample_norms(const pk_queue& queue, const pk_lora_sample_norms_descriptor& descriptor) {
  const pk_samples& samples = descriptor.samples;
  if (samples.count == 0) return PK_OK;
  const LoraSampleNormsLayout layout = lora_sample_norms_layout(descriptor);
  const Operands operands = operands_of(descriptor);
  auto* h = static_cast<float*>(descriptor.workspace);
  float *dh = h + static_cast<int64_t>(layout.h), *blocks = dh + static_cast<int64_t>(layout.dh), *next = blocks;
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const pk_lora_sample_norm_target& target = descriptor.targets[i];
    PK_TRY(passes<T>(queue, descriptor, operands, target, h, dh, next));
    next += lora_norm_blocks(descriptor, target) * samples.count;
  }
  Operands of_sum;
  of_sum.read_bytes("sample offsets", samples.offsets, samples.offsets != nullptr ? (samples.count + 1) * sizeof(int32_t) : 0);
  of_sum.read_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  const auto bytes = static_cast<uint64_t>(samples.count) * sizeof(float);
  if (descriptor.mode == PK_GRADIENT_ACCUMULATE) of_sum.read_write_bytes("squares", descriptor.squares, bytes);
  else of_sum.write_bytes("squares", descriptor.squares, bytes);
  of_sum.read_write_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  const LaunchShape shape{"lora_add_squares", grid_of(tiles_of(samples.count, kAddSquaresThreads)), kAddSquaresThreads, 0};
  return launch(queue, shape, of_sum, lora_add_squares, static_cast<const float*>(blocks), (next - blocks) / samples.count, samples, descriptor.batch_count * descriptor.x.rows,
                descriptor.mode == PK_GRADIENT_ACCUMULATE, descriptor.squares, descriptor.status);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_sample_norms)(const pk_queue* queue, const pk_lora_sample_norms_descriptor* descriptor) {
  return PK_BUILD::dispatch_type(descriptor->x.element_type, [&](auto t) { return PK_BUILD::sample_norms<typename decltype(t)::type>(*queue, *descriptor); });
}

int32_t PK_OPERATION(lora_sample_norms_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_add_squares));
  PK_TRY(prepare(lora_sample_norms_simt<float>));
  PK_TRY(prepare(lora_sample_norms_simt<f16>));
  return prepare(lora_sample_norms_simt<bf16>);
}

}  // extern "C"
