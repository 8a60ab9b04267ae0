// The launchers of the LoRA family: a descriptor that the C interface has checked, and the plan that it made, become launches.
#include <algorithm>
#include <vector>

#include "../core/dispatch.h"
#include "../core/operations.h"
#include "check_row_scale.cuh"
#include "forward.cuh"
#include "forward_launch.h"
#include "merge_factors.h"
#include "merge_launch.cuh"
#include "merge_plan.h"
#include "merge_simt.cuh"
#include "quantized_launch.h"
#include "ranks.h"

namespace PK_BUILD {
namespace {

// ---- forward -------------------------------------------------------------------------------------------------------------------------------------------------

// Whether one launch can have the W of both: both in memory, or codes of the same books.
bool goes_with(const pk_lora_target& target, const pk_lora_target& other) {
  if (!lora_has_w(target.base) || !lora_has_w(other.base)) return true;
  if (target.base != other.base) return false;
  if (target.base == PK_LORA_BASE_DENSE) return true;
  const QuantizedBooks books = quantized_books(target.quantized), others = quantized_books(other.quantized);
  return memcmp(&books, &others, sizeof books) == 0;
}

int32_t forward_all(const pk_queue& queue, const pk_lora_forward_descriptor& descriptor, const LoraForwardPlan& plan) {
  // In the workspace: the intermediates of all targets, what their middles make of them, listed ranks, a slab of quantised W, then where the blocks of a split tile meet.
  const int64_t batches = descriptor.batch_count, rows = batches * descriptor.x.rows;
  const LoraForwardLayout layout = lora_forward_layout(descriptor, plan);
  auto* workspace = static_cast<char*>(descriptor.workspace);
  auto* h = reinterpret_cast<float*>(workspace);
  auto* after = layout.middles ? reinterpret_cast<float*>(workspace + layout.h) : nullptr;
  char* ranks = workspace + layout.h + layout.after;
  char* slab = ranks + layout.ranks;
  void* parts = slab + layout.slab;
  std::vector<pk_lora_target> all(descriptor.targets, descriptor.targets + descriptor.target_count);
  for (pk_lora_target& target : all) {
    const int64_t bytes = lora_ranks_layout(target, batches).bytes();
    PK_TRY(gather_ranks(queue, batches, descriptor.x.rows, descriptor.status, ranks, &target));
    ranks += bytes;
  }
  // Targets of one adapter type whose W go together, and at most as many as a kernel's parameters hold, at a time.
  const auto total = static_cast<int64_t>(all.size());
  for (int64_t begin = 0, end; begin < total; begin = end) {
    const pk_lora_target* targets = all.data() + begin;
    const int64_t limit = std::min<int64_t>(total, begin + ForwardProblem<float>::kMaxTargets);
    const pk_lora_target* first = targets;  // with a W, as far as there is one
    for (end = begin; end < limit && all[end].adapter_element_type == targets->adapter_element_type && goes_with(*first, all[end]); ++end) {
      if (!lora_has_w(first->base)) first = &all[end];
    }
    const auto count = static_cast<int32_t>(end - begin);
    const auto run = [&](auto t) { return forward<typename decltype(t)::type>({queue, descriptor, plan, targets, count, h, after, parts, slab, layout.slab}); };
    PK_TRY(dispatch_type(descriptor.x.element_type, run));
    for (int32_t i = 0; i < count; ++i) {
      h += plan.h_planes * rows * targets[i].max_rank;
      if (after != nullptr) after += rows * lora_rank_after(targets[i]);
    }
  }
  return PK_OK;
}

// ---- merge ---------------------------------------------------------------------------------------------------------------------------------------------------

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
  if (lora_merge_scales_rows(descriptor)) operands.read("row_scale", descriptor.row_scale, 1);
  read_adapters(operands, descriptor.adapters, descriptor.adapter_count, source, descriptor.adapter_element_type);
  return operands;
}

// Without a residual what was in a row of scale 0 is lost.
int32_t check_row_scale(const pk_queue& queue, const pk_lora_merge_descriptor& descriptor) {
  const int64_t n = descriptor.source.rows;
  if (!lora_merge_scales_rows(descriptor) || descriptor.residual.data != nullptr || descriptor.status == nullptr) return PK_OK;
  Operands operands;
  operands.read("row_scale", descriptor.row_scale, 1);
  operands.read_write_bytes("status", descriptor.status, sizeof(pk_status_record));
  const LaunchShape shape{"lora_check_row_scale", grid_of(tiles_of(n, kCheckRowScaleThreads)), kCheckRowScaleThreads, 0};
  return launch(queue, shape, operands, lora_check_row_scale, batched<const float>(descriptor.row_scale).first, n, descriptor.status);
}

// Of factors as they are multiplied.
template <class T, class P>
int32_t merge(const pk_queue& queue, const pk_lora_merge_descriptor& descriptor, int32_t direction) {
  MergeProblem<T> problem = merge_problem<T>(descriptor.source, descriptor.adapters, descriptor.adapter_count, descriptor.adapter_element_type, direction);
  problem.destination = batched<T>(descriptor.destination).first;
  problem.residual = batched<uint16_t>(descriptor.residual).first;
  if (lora_merge_scales_rows(descriptor)) problem.row_scale = batched<const float>(descriptor.row_scale).first;
  const bool simt = descriptor.algorithm == PK_LORA_MERGE_SIMT;
  const int64_t tile_rows = simt ? MergeSimtConfig::kRows : kLoraMergeRows, tile_columns = simt ? MergeSimtConfig::kColumns : kLoraMergeColumns;
  const int64_t tiles = tiles_of(problem.n, tile_rows) * tiles_of(problem.k, tile_columns);
  if (tiles == 0) return PK_OK;
  const Extent3 grid{static_cast<uint32_t>(std::min<int64_t>(tiles, INT32_MAX)), 1, 1};
  const Operands operands = merge_operands(descriptor);
  if (simt) return launch(queue, {"lora_merge_simt", grid, MergeSimtConfig::kThreads, 0}, operands, lora_merge_simt<T>, problem, tiles);
  using Config = MergeConfigOf<P>;
  return launch(queue, {"lora_merge_mma", grid, Config::Product::kThreads, shared_bytes<typename Config::Shared>()}, operands, lora_merge_mma<Config, T, P>, problem);
}

int32_t merge_all(const pk_queue& queue, pk_lora_merge_descriptor descriptor, int32_t direction) {
  if (direction < 0) PK_TRY(check_row_scale(queue, descriptor));
  std::vector<pk_lora_adapter> adapters(descriptor.adapters, descriptor.adapters + descriptor.adapter_count);
  if (descriptor.middles != nullptr) {
    PK_TRY(merge_factors(queue, descriptor, &adapters));
    if (lora_merge_widens(descriptor)) descriptor.adapter_element_type = PK_F32;
    descriptor.adapters = adapters.data();
  }
  return dispatch_types(descriptor.source.element_type, descriptor.adapter_element_type,
                        [&](auto t, auto p) { return merge<typename decltype(t)::type, typename decltype(p)::type>(queue, descriptor, direction); });
}

template <class T, class P>
int32_t prepare_merge() {
  PK_TRY((prepare(lora_merge_simt<T>)));
  return prepare(lora_merge_mma<MergeConfigOf<P>, T, P>);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY((prepare_forward<float>()));
  PK_TRY((prepare_forward<f16>()));
  PK_TRY((prepare_forward<bf16>()));
  PK_TRY(prepare(lora_check_row_scale));
  PK_TRY((prepare_merge<float, float>()));
  PK_TRY((prepare_merge<f16, f16>()));
  PK_TRY((prepare_merge<f16, float>()));
  PK_TRY((prepare_merge<bf16, bf16>()));
  PK_TRY((prepare_merge<bf16, float>()));
  PK_TRY(PK_OPERATION(lora_quantize_prepare)());
  PK_TRY(PK_OPERATION(lora_weight_norm_prepare)());
  PK_TRY(PK_OPERATION(lora_magnitude_gradient_prepare)());
  PK_TRY(PK_OPERATION(lora_sample_norms_prepare)());
  PK_TRY(PK_OPERATION(lora_sample_weights_prepare)());
  PK_TRY(PK_OPERATION(lora_noise_prepare)());
  PK_TRY(PK_OPERATION(lora_ranks_prepare)());
  PK_TRY(PK_OPERATION(lora_row_lists_prepare)());
  return PK_OPERATION(lora_backward_prepare)();
}

int32_t PK_OPERATION(lora_forward)(const pk_queue* queue, const pk_lora_forward_descriptor* descriptor, const LoraForwardPlan* plan) {
  return PK_BUILD::forward_all(*queue, *descriptor, *plan);
}

int32_t PK_OPERATION(lora_merge)(const pk_queue* queue, const pk_lora_merge_descriptor* descriptor, int32_t direction) {
  return PK_BUILD::merge_all(*queue, *descriptor, direction);
}

}  // extern "C"
