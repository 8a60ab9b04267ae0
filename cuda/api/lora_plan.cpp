#include "lora_plan.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "../lora/merge_plan.h"
#include "check.h"

namespace peft_kernels_api {
namespace {

constexpr int64_t kMostMultiprocessors = 192;       // that a plan counts on, so that a workspace is enough on every chip
constexpr int64_t kMostPartBytes = INT64_C(32) << 20;  // of the sums of a split tile's blocks
constexpr int64_t kMostParts = 16;                  // of k, whose sums are added up one after the other
constexpr int64_t kLeastStages = 4;                 // of the pipeline, in a part: less is all start
constexpr int64_t kMostDecodedRows = 64;            // of x: so often as one batch of them needs it, a quantised W is made where it is read

struct Algorithm {
  int32_t number;
  const char* name;
};
constexpr Algorithm kForward[] = {{PK_LORA_FORWARD_SIMT, "lora_forward_simt"},
                                  {PK_LORA_FORWARD_MMA_LARGE, "lora_forward_mma_large"},
                                  {PK_LORA_FORWARD_MMA_SMALL, "lora_forward_mma_small"},
                                  {PK_LORA_FORWARD_MMA_DECODE, "lora_forward_mma_decode"},
                                  {PK_LORA_FORWARD_QUANTIZED_SMALL, "lora_forward_quantized_small"},
                                  {PK_LORA_FORWARD_QUANTIZED_DECODE, "lora_forward_quantized_decode"}};

const Algorithm* find(int32_t number) {
  const auto* found = std::find_if(std::begin(kForward), std::end(kForward), [&](const Algorithm& entry) { return entry.number == number; });
  return found != std::end(kForward) ? found : nullptr;
}

bool is_f32(const Forward& forward) { return forward.descriptor.x.element_type == PK_F32; }

int64_t up(int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; }

// Tiles of y, of all targets. In floating point nobody overflows.
double tiles_of(const Forward& forward, const LoraTile& tile) {
  double tiles = 0;
  for (const pk_lora_target& target : forward.targets) {
    tiles += static_cast<double>(forward.descriptor.batch_count) * static_cast<double>(up(forward.descriptor.x.rows, tile.rows)) * static_cast<double>(up(target.y.columns, tile.columns));
  }
  return tiles;
}

int64_t largest_rank(const Forward& forward) {
  int64_t rank = 0;
  for (const pk_lora_target& target : forward.targets) rank = std::max(rank, target.max_rank);
  return rank;
}

// Of what middles make of H, or H itself.
int64_t largest_rank_after(const Forward& forward) {
  int64_t rank = 0;
  for (const pk_lora_target& target : forward.targets) rank = std::max(rank, target.adapters != nullptr ? target.max_rank : lora_rank_after(target));
  return rank;
}

// Of H, of all targets.
double shrink_blocks(const Forward& forward) {
  const pk_lora_forward_descriptor& descriptor = forward.descriptor;
  const int64_t rank = largest_rank(forward);
  return static_cast<double>(forward.targets.size()) * static_cast<double>(descriptor.batch_count) * static_cast<double>(up(descriptor.x.rows, kLoraShrinkRows)) *
         static_cast<double>(up(rank, lora_shrink_columns(rank)));
}

// Whether a grid's first axis has as many blocks as a kernel needs, in however many parts: only the plain kernels walk through more.
bool fits_grid(const Forward& forward, int32_t algorithm) {
  const double blocks = std::max({tiles_of(forward, lora_forward_tile(algorithm, is_f32(forward))), shrink_blocks(forward) * lora_shrink_slots(INT32_MAX), static_cast<double>(forward.descriptor.batch_count)});
  return algorithm == PK_LORA_FORWARD_SIMT || blocks * kMostParts <= INT32_MAX;
}

bool is_quantized(const Forward& forward) {
  return std::any_of(forward.targets.begin(), forward.targets.end(), [](const pk_lora_target& target) { return target.base == PK_LORA_BASE_QUANTIZED; });
}

// For a W in memory.
int32_t algorithm_of_dense(const Forward& forward) {
  const pk_lora_forward_descriptor& descriptor = forward.descriptor;
  if ((descriptor.flags & PK_FLAG_BATCH_INVARIANT) != 0) return PK_LORA_FORWARD_MMA_SMALL;
  if (descriptor.x.rows <= 16) return PK_LORA_FORWARD_MMA_DECODE;
  int64_t widest = 0;
  for (const pk_lora_target& target : forward.targets) widest = std::max(widest, target.y.columns);
  return descriptor.x.rows <= 128 || widest <= 128 ? PK_LORA_FORWARD_MMA_SMALL : PK_LORA_FORWARD_MMA_LARGE;
}

// The kernel for a chip of 8.0 or later. Where it is read a quantised W is made once for each tile of rows, of which none has rows of two batches: more often than a few times, it is read from
// a slab instead.
int32_t algorithm_of(const Forward& forward) {
  const int32_t of_dense = algorithm_of_dense(forward);
  if (!is_quantized(forward)) return of_dense;
  const int32_t of_codes = of_dense == PK_LORA_FORWARD_MMA_DECODE ? PK_LORA_FORWARD_QUANTIZED_DECODE : PK_LORA_FORWARD_QUANTIZED_SMALL;
  const int64_t tile_rows = lora_forward_tile(of_codes, is_f32(forward)).rows;
  const int64_t times = forward.descriptor.batch_count * up(forward.descriptor.x.rows, tile_rows);
  return times <= up(kMostDecodedRows, tile_rows) ? of_codes : of_dense;
}

LoraForwardPlan plan_of(const Forward& forward, int32_t algorithm, int64_t multiprocessors) {
  const pk_lora_forward_descriptor& descriptor = forward.descriptor;
  LoraForwardPlan plan{algorithm, 1, 1, is_f32(forward) && (descriptor.flags & PK_FLAG_ALLOW_TF32) != 0, 0};
  if (algorithm == PK_LORA_FORWARD_SIMT || (descriptor.flags & PK_FLAG_BATCH_INVARIANT) != 0) return plan;
  const int64_t size = is_f32(forward) ? 4 : 2;
  const LoraTile tile = lora_forward_tile(algorithm, is_f32(forward));
  const double tiles = tiles_of(forward, tile), chips = static_cast<double>(std::min(multiprocessors, kMostMultiprocessors));
  const bool has_w = std::any_of(forward.targets.begin(), forward.targets.end(), [](const pk_lora_target& target) { return lora_has_w(target.base); });
  if (has_w) {
    const double wanted = lora_forward_of_dense(algorithm) == PK_LORA_FORWARD_MMA_SMALL ? 2 * chips : chips;
    plan.splits = parts_of(tiles, wanted, up(descriptor.x.columns * size, tile.stage_bytes));
    const double bytes_of_one = tiles * tile.rows * tile.columns * 4;
    while (plan.splits > 1 && bytes_of_one * plan.splits > kMostPartBytes) --plan.splits;
  }
  // Factors of f32 are multiplied as f32, whatever x is.
  const bool wide = std::any_of(forward.targets.begin(), forward.targets.end(), [](const pk_lora_target& target) { return target.adapter_element_type == PK_F32; });
  plan.h_planes = parts_of(shrink_blocks(forward), 2 * chips, up(descriptor.x.columns * (wide ? 4 : 2), kLoraShrinkStageBytes));
  return plan;
}

// Of the counts of arrivals too.
uint64_t part_bytes(const Forward& forward, const LoraForwardPlan& plan) {
  if (plan.splits == 1) return 0;
  const LoraTile tile = lora_forward_tile(plan.algorithm, is_f32(forward));
  const auto tiles = static_cast<uint64_t>(tiles_of(forward, tile));
  return tiles * static_cast<uint64_t>(plan.splits) * static_cast<uint64_t>(tile.rows * tile.columns) * 4 + tiles * 4;
}

int64_t rounding_steps(const Forward& forward, const LoraForwardPlan& plan) {
  const int64_t k = forward.descriptor.x.columns, rank = largest_rank_after(forward), dropout = forward.descriptor.dropout.probability > 0 ? 2 : 0;  // the scale's factor, and its product
  int64_t middle = 0;
  for (const pk_lora_target& target : forward.targets) middle = std::max(middle, lora_middle_rounding_steps(target));
  const int64_t scaled = std::any_of(forward.targets.begin(), forward.targets.end(), [](const pk_lora_target& target) { return target.row_scale.columns > 0; });
  if (plan.algorithm == PK_LORA_FORWARD_SIMT) return lora_forward_simt_rounding_steps(k, rank) + dropout + scaled + middle;
  const LoraMath of_f32 = plan.tf32 != 0 ? LoraMath::tf32 : LoraMath::three_tf32;
  const bool wide = std::any_of(forward.targets.begin(), forward.targets.end(), [](const pk_lora_target& target) { return target.adapter_element_type == PK_F32; });
  const LoraMath base = is_f32(forward) ? of_f32 : LoraMath::exact16;
  const LoraMath shrink = is_f32(forward) ? of_f32 : wide ? LoraMath::three_tf32 : LoraMath::exact16;
  return lora_forward_mma_rounding_steps(base, shrink, k, rank, plan) + dropout + scaled + middle;
}

}  // namespace

int32_t parts_of(double blocks, double wanted, int64_t stages) {
  if (blocks < 1 || blocks >= wanted) return 1;
  const auto parts = static_cast<int64_t>(wanted / blocks);
  return static_cast<int32_t>(std::clamp<int64_t>(parts, 1, std::clamp<int64_t>(stages / kLeastStages, 1, kMostParts)));
}

bool runs_on_tensor_cores(const pk_chip& chip) { return chip.compute_capability >= 80 && chip.shared_memory_per_block >= kLoraSharedBytes; }

int32_t plan_forward(const char* operation, const Forward& forward, const pk_chip& chip, LoraForwardPlan* plan, pk_kernel_choice* choice) {
  int32_t algorithm = forward.descriptor.algorithm;
  if (algorithm == 0) {
    algorithm = algorithm_of(forward);
    if (!runs_on_tensor_cores(chip) || !fits_grid(forward, algorithm)) algorithm = PK_LORA_FORWARD_SIMT;
  }
  const Algorithm* known = find(algorithm);
  if (known == nullptr) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (%s) to %d (%s)", operation, algorithm, kForward[0].number, kForward[0].name,
                std::end(kForward)[-1].number, std::end(kForward)[-1].name);
  }
  if (algorithm != PK_LORA_FORWARD_SIMT && !runs_on_tensor_cores(chip)) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (%s) needs compute capability 8.0 and %" PRId64 " bytes of shared memory a block, this chip has %d.%d and %" PRId64, operation,
                algorithm, known->name, kLoraSharedBytes, chip.compute_capability / 10, chip.compute_capability % 10, chip.shared_memory_per_block);
  }
  if (lora_forward_of_dense(algorithm) != algorithm && !is_quantized(forward)) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (%s) is for a quantised W, this call has none", operation, algorithm, known->name);
  }
  if (!fits_grid(forward, algorithm)) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (%s) makes at most %d tiles, expected algorithm %d (%s) for a call of this size", operation, algorithm, known->name,
                static_cast<int>(INT32_MAX / kMostParts), PK_LORA_FORWARD_SIMT, kForward[0].name);
  }
  *plan = plan_of(forward, algorithm, chip.multiprocessors);
  plan->overlaps = chip.compute_capability >= 90;
  *choice = pk_kernel_choice{algorithm, 0, rounding_steps(forward, *plan), {}};
  std::snprintf(choice->name, sizeof choice->name, "%s", known->name);
  return PK_OK;
}

// On a chip that the tensor cores' kernels do not run on, the plain ones may be picked: they need least.
uint64_t forward_workspace_bytes(const Forward& forward) {
  // One that does not exist is the call's to refuse.
  int32_t algorithm = find(forward.descriptor.algorithm) != nullptr ? forward.descriptor.algorithm : algorithm_of(forward);
  if (!fits_grid(forward, algorithm)) algorithm = PK_LORA_FORWARD_SIMT;
  const LoraForwardPlan plan = plan_of(forward, algorithm, kMostMultiprocessors);
  const LoraForwardLayout layout = lora_forward_layout(forward.descriptor, plan);
  return static_cast<uint64_t>(layout.h + layout.after + layout.ranks + layout.slab) + part_bytes(forward, plan);
}

// A residual must be of the same bits wherever it is made and used: the order of a tensor core's sums is its own.
int32_t pick_merge(const char* operation, const pk_lora_merge_descriptor& descriptor, const pk_chip& chip, pk_kernel_choice* choice) {
  const bool residual = descriptor.residual.data != nullptr || descriptor.residual.rows != 0;
  const int64_t max_rank = lora_largest_merge_rank(descriptor), others = lora_merge_other_rounding_steps(descriptor);
  const double tiles = static_cast<double>(up(descriptor.source.rows, kLoraMergeRows)) * static_cast<double>(up(descriptor.source.columns, kLoraMergeColumns));
  const bool fits = tiles <= INT32_MAX, possible = runs_on_tensor_cores(chip) && !residual && fits;
  int32_t algorithm = descriptor.algorithm;
  if (algorithm == 0) algorithm = possible && max_rank > 0 ? PK_LORA_MERGE_MMA : PK_LORA_MERGE_SIMT;
  if (algorithm != PK_LORA_MERGE_SIMT && algorithm != PK_LORA_MERGE_MMA) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic), %d (lora_merge_simt) or %d (lora_merge_mma)", operation, algorithm, PK_LORA_MERGE_SIMT,
                PK_LORA_MERGE_MMA);
  }
  if (algorithm == PK_LORA_MERGE_MMA && !fits) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (lora_merge_mma) makes at most 2^31 - 1 tiles, this call has %.0f", operation, algorithm, tiles);
  }
  if (algorithm == PK_LORA_MERGE_MMA && !possible) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (lora_merge_mma) needs compute capability 8.0 and no residual, this chip has %d.%d, and there is %s residual", operation, algorithm,
                chip.compute_capability / 10, chip.compute_capability % 10, residual ? "a" : "no");
  }
  if (algorithm == PK_LORA_MERGE_SIMT) {
    *choice = pk_kernel_choice{algorithm, 0, lora_merge_simt_rounding_steps(max_rank, descriptor.adapter_count) + others, "lora_merge_simt"};
  } else {
    const bool in_f32 = descriptor.adapter_element_type == PK_F32 || lora_merge_widens(descriptor);
    const LoraMath math = in_f32 ? LoraMath::three_tf32 : LoraMath::exact16;
    *choice = pk_kernel_choice{algorithm, 0, lora_merge_mma_rounding_steps(math, max_rank, descriptor.adapter_count) + others, "lora_merge_mma"};
  }
  return PK_OK;
}

}  // namespace peft_kernels_api
