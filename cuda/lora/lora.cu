// The launchers of the LoRA family: a descriptor that the C interface has checked becomes launches.
#include <algorithm>

#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../core/status.h"
#include "../ptx/launch.cuh"
#include "forward_simt.cuh"
#include "merge_simt.cuh"
#include "shrink_simt.cuh"

namespace PK_BUILD {
namespace {

constexpr int64_t kMaxBlocks = INT32_MAX;  // of a grid's first axis; kernels loop over the rest

Extent3 grid_of(int64_t work) { return {static_cast<uint32_t>(std::min(work, kMaxBlocks)), 1, 1}; }

int64_t tiles_of(int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; }

pk_matrix matrix_a(const pk_lora_adapter& adapter, int64_t k, int32_t element_type) {
  return {const_cast<void*>(adapter.a), adapter.rank, k, adapter.a_row_stride, adapter.a_column_stride, 0, element_type, 0};
}

pk_matrix matrix_b(const pk_lora_adapter& adapter, int64_t n, int32_t element_type) {
  return {const_cast<void*>(adapter.b), n, adapter.rank, adapter.b_row_stride, adapter.b_column_stride, 0, element_type, 0};
}

// ---- forward ---------------------------------------------------------------------------------------------------------------------------------------------------

template <class P>
AdapterSet<P> adapter_set(const pk_lora_target& target) {
  return {batched<const P>(target.a), batched<const P>(target.b), target.scale, target.adapters, target.adapter_count, target.max_rank};
}

// What the launches of a forward may touch.
Operands forward_operands(const pk_lora_forward_descriptor& descriptor, const pk_lora_target* targets, int32_t count) {
  const int64_t batches = descriptor.batch_count, rows = batches * descriptor.x.rows;
  Operands operands;
  operands.read("x", descriptor.x, batches);
  operands.read_bytes("row_adapter", descriptor.row_adapter, descriptor.row_adapter ? rows * sizeof(int32_t) : 0);
  operands.read_bytes("segments", descriptor.segments, descriptor.segment_count * sizeof(pk_lora_segment));
  operands.read_write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  operands.read_write_bytes("status", descriptor.status, descriptor.status ? sizeof(pk_status_record) : 0);
  for (const pk_lora_target* target = targets; target != targets + count; ++target) {
    if (target->base == PK_LORA_BASE_IN_Y) {
      operands.read_write("y", target->y, batches);
    } else {
      operands.write("y", target->y, batches);
    }
    if (target->base == PK_LORA_BASE_DENSE) operands.read("w", target->w, batches);
    if (target->bias.data != nullptr) operands.read("bias", target->bias, batches);
    if (target->adapters == nullptr) {
      operands.read("a", target->a, batches);
      operands.read("b", target->b, batches);
    } else {
      operands.read_bytes("adapters", target->adapters, target->adapter_count * sizeof(pk_lora_adapter));
      const pk_lora_adapter* table = operands.visible(target->adapters);
      for (int64_t i = 0; table != nullptr && i < target->adapter_count; ++i) {
        if (table[i].rank < 0 || table[i].rank > target->max_rank) continue;  // never read
        operands.read("a", matrix_a(table[i], descriptor.x.columns, target->adapter_element_type), 1);
        operands.read("b", matrix_b(table[i], target->y.columns, target->adapter_element_type), 1);
      }
    }
  }
  return operands;
}

template <class T, class P>
int32_t forward_simt(const pk_queue& queue, const pk_lora_forward_descriptor& descriptor, const pk_lora_target* targets, int32_t count, float* h) {
  const pk_matrix& x = descriptor.x;
  ForwardProblem<T, P> problem{};
  problem.x = batched<const T>(x);
  problem.batches = descriptor.batch_count;
  problem.m = x.rows;
  problem.k = x.columns;
  problem.rows = {descriptor.row_adapter, descriptor.segments, descriptor.segment_count};
  problem.status = descriptor.status;
  problem.target_count = count;
  const int64_t rows = problem.batches * problem.m;
  int64_t tiles = 0;
  bool branch = false;
  for (int32_t i = 0; i < count; ++i) {
    const pk_lora_target& target = targets[i];
    problem.targets[i] = {target.base,
                          batched<const T>(target.w),
                          batched<const T>(target.bias),
                          batched<T>(target.y),
                          target.y.columns,
                          adapter_set<P>(target),
                          {h, target.max_rank, 1}};
    h += rows * target.max_rank;
    tiles += problem.batches * tiles_of(problem.m, ForwardSimtConfig::kTile) * tiles_of(target.y.columns, ForwardSimtConfig::kTile);
    branch = branch || target.max_rank > 0 || target.adapters != nullptr;
  }

  const Operands operands = forward_operands(descriptor, targets, count);
  if (branch && rows > 0) {
    const LaunchShape shape{"lora_shrink_simt", grid_of(tiles_of(rows * count, ShrinkSimtConfig::kWarps)), ShrinkSimtConfig::kThreads, 0};
    PK_TRY((launch(queue, shape, operands, lora_shrink_simt<T, P>, problem)));
  }
  if (tiles == 0) return PK_OK;
  const LaunchShape shape{"lora_forward_simt", grid_of(tiles), ForwardSimtConfig::kThreads, shared_bytes<ForwardSimtConfig::Shared>()};
  return launch(queue, shape, operands, lora_forward_simt<T, P>, problem, tiles);
}

int32_t forward(const pk_queue& queue, const pk_lora_forward_descriptor& descriptor) {
  // Targets of one adapter type and at most as many as a kernel's parameters hold, at a time.
  auto* h = static_cast<float*>(descriptor.workspace);
  for (int64_t begin = 0, end; begin < descriptor.target_count; begin = end) {
    const pk_lora_target* targets = descriptor.targets + begin;
    const int64_t limit = std::min<int64_t>(descriptor.target_count, begin + ForwardProblem<float, float>::kMaxTargets);
    for (end = begin; end < limit && descriptor.targets[end].adapter_element_type == targets->adapter_element_type; ++end) {}
    const auto count = static_cast<int32_t>(end - begin);
    PK_TRY(dispatch_types(descriptor.x.element_type, targets->adapter_element_type, [&](auto t, auto p) {
      return forward_simt<typename decltype(t)::type, typename decltype(p)::type>(queue, descriptor, targets, count, h);
    }));
    for (int32_t i = 0; i < count; ++i) h += descriptor.batch_count * descriptor.x.rows * targets[i].max_rank;
  }
  return PK_OK;
}

// ---- merge -----------------------------------------------------------------------------------------------------------------------------------------------------

Operands merge_operands(const pk_lora_merge_descriptor& descriptor) {
  const pk_matrix& source = descriptor.source;
  Operands operands;
  operands.read("source", source, 1);
  operands.read_write("destination", descriptor.destination, 1);
  if (descriptor.residual.data != nullptr) {
    pk_matrix residual = descriptor.residual;
    residual.element_type = source.element_type;  // sixteen bits as well
    operands.read_write("residual", residual, 1);
  }
  for (int64_t i = 0; i < descriptor.adapter_count; ++i) {
    const pk_lora_adapter& adapter = descriptor.adapters[i];
    operands.read("a", matrix_a(adapter, source.columns, descriptor.adapter_element_type), 1);
    operands.read("b", matrix_b(adapter, source.rows, descriptor.adapter_element_type), 1);
  }
  return operands;
}

template <class T, class P>
int32_t merge_simt(const pk_queue& queue, const pk_lora_merge_descriptor& descriptor, int32_t direction) {
  MergeProblem<T, P> problem{};
  problem.n = descriptor.source.rows;
  problem.k = descriptor.source.columns;
  problem.direction = static_cast<float>(direction);
  problem.source = batched<const T>(descriptor.source).first;
  problem.destination = batched<T>(descriptor.destination).first;
  problem.residual = batched<uint16_t>(descriptor.residual).first;
  problem.adapter_count = static_cast<int32_t>(descriptor.adapter_count);
  for (int64_t i = 0; i < descriptor.adapter_count; ++i) {
    const pk_lora_adapter& adapter = descriptor.adapters[i];
    problem.adapters[i] = {{static_cast<const P*>(adapter.a), adapter.a_row_stride, adapter.a_column_stride},
                           {static_cast<const P*>(adapter.b), adapter.b_row_stride, adapter.b_column_stride},
                           adapter.rank,
                           adapter.scale};
  }
  const int64_t tiles = tiles_of(problem.n, MergeSimtConfig::kRows) * tiles_of(problem.k, MergeSimtConfig::kColumns);
  if (tiles == 0) return PK_OK;
  const LaunchShape shape{"lora_merge_simt", grid_of(tiles), MergeSimtConfig::kThreads, 0};
  return launch(queue, shape, merge_operands(descriptor), lora_merge_simt<T, P>, problem, tiles);
}

// ---- all kernels -----------------------------------------------------------------------------------------------------------------------------------------------

template <class T, class P>
int32_t prepare_kernels() {
  PK_TRY((prepare(lora_shrink_simt<T, P>)));
  PK_TRY((prepare(lora_forward_simt<T, P>)));
  return prepare(lora_merge_simt<T, P>);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY((prepare_kernels<float, float>()));
  PK_TRY((prepare_kernels<f16, f16>()));
  PK_TRY((prepare_kernels<f16, float>()));
  PK_TRY((prepare_kernels<bf16, bf16>()));
  return prepare_kernels<bf16, float>();
}

int32_t PK_OPERATION(lora_forward)(const pk_queue* queue, const pk_lora_forward_descriptor* descriptor) { return PK_BUILD::forward(*queue, *descriptor); }

int32_t PK_OPERATION(lora_merge)(const pk_queue* queue, const pk_lora_merge_descriptor* descriptor, int32_t direction) {
  return PK_BUILD::dispatch_types(descriptor->source.element_type, descriptor->adapter_element_type, [&](auto t, auto p) {
    return PK_BUILD::merge_simt<typename decltype(t)::type, typename decltype(p)::type>(*queue, *descriptor, direction);
  });
}

}  // extern "C"
