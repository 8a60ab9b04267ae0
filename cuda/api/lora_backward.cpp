// The C interface of LoRA's gradients: checks, workspace, choice of kernel, dispatch.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "../core/operations.h"
#include "../lora/backward_plan.h"
#include "check.h"
#include "lora_middle.h"
#include "lora_plan.h"
#include "lora_tables.h"
#include "overlap.h"
#include "quantized.h"
#include "samples.h"

using namespace peft_kernels_api;

namespace {

struct Algorithm {
  int32_t number;
  const char* name;
};
constexpr Algorithm kBackward[] = {{PK_LORA_BACKWARD_SIMT, "lora_input_gradient_simt"}, {PK_LORA_BACKWARD_MMA_LARGE, "lora_input_gradient_mma_large"}, {PK_LORA_BACKWARD_MMA_SMALL, "lora_input_gradient_mma_small"}};

// A checked descriptor.
struct BackwardCall {
  pk_lora_backward_descriptor descriptor;
  std::vector<pk_lora_gradient_target> targets;
};

int32_t check_middle_gradients(const char* operation, const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target, bool needs_data) {
  struct Part {
    const char* name;
    uint32_t part;
    const pk_matrix& matrix;
    int32_t mode;
    int64_t rows;
    int32_t element_type;
  };
  const int64_t rank = target.a.rows;
  const Part parts[] = {
      {"dscale", PK_LORA_MIDDLE_SCALE, target.dscale, target.scale_gradient, 1, target.adapter_element_type},
      {"dgate", PK_LORA_MIDDLE_GATE, target.dgate, target.gate_gradient, descriptor.x.rows, PK_F32},
      {"dcore", PK_LORA_MIDDLE_CORE, target.dcore, target.core_gradient, target.b.columns, target.adapter_element_type},
  };
  for (const Part& part : parts) {
    PK_TRY_API(check_gradient(operation, part.name, part.matrix, part.mode, part.rows, rank, part.element_type, needs_data));
    if (part.mode != PK_GRADIENT_NONE && (target.middle.has & part.part) == 0) return fail(PK_ERROR_ARGUMENT, "%s: %s is asked for, but the middle has no such part", operation, part.name);
  }
  return check_batches_apart(operation, "dgate", target.dgate, target.gate_gradient, descriptor.batch_count);
}

int32_t check_target(const char* operation, const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target, bool needs_data) {
  const int64_t m = descriptor.x.rows, k = descriptor.x.columns, n = target.dy.columns, rank = target.a.rows;
  const int32_t type = descriptor.x.element_type, of_adapter = target.adapter_element_type;
  const bool core = (target.middle.has & PK_LORA_MIDDLE_CORE) != 0, table = target.adapters != nullptr;
  const bool adapter = rank != 0 || target.b.columns != 0 || lora_lists_ranks(target.middle);  // a list is of ranks, be there any or none
  PK_TRY_API(check_element_types(operation, type, of_adapter));
  if (target.base != PK_LORA_BASE_NONE && !lora_has_w(target.base)) {
    return fail(PK_ERROR_ARGUMENT, "%s: base is %d, expected %d (none), %d (dense) or %d (quantised)", operation, target.base, PK_LORA_BASE_NONE, PK_LORA_BASE_DENSE, PK_LORA_BASE_QUANTIZED);
  }
  PK_TRY_API(check_input(operation, "dy", target.dy, m, -1, type, needs_data));
  if (target.base == PK_LORA_BASE_DENSE) PK_TRY_API(check_input(operation, "w", target.w, n, k, type, needs_data));
  if (target.base == PK_LORA_BASE_QUANTIZED) PK_TRY_API(check_quantized(operation, "w", n, k, target.quantized, false, needs_data));
  if (!table && adapter) {
    PK_TRY_API(check_input(operation, "a", target.a, -1, k, of_adapter, needs_data));
    PK_TRY_API(check_input(operation, "b", target.b, n, core ? -1 : rank, of_adapter, needs_data));
  }
  if (target.middle.has != 0) PK_TRY_API(check_middle(operation, target.middle, target.a, target.b, descriptor.batch_count, m, of_adapter, needs_data));
  if (target.row_scale.data != nullptr || target.row_scale.columns != 0) PK_TRY_API(check_input(operation, "row_scale", target.row_scale, 1, n, PK_F32, needs_data));
  if (target.h_saved != 0) {
    if (target.h_saved != 1) return fail(PK_ERROR_ARGUMENT, "%s: h_saved is %d, expected 0 or 1", operation, target.h_saved);
    if (target.h.element_type != type && target.h.element_type != PK_F32) {
      return fail(PK_ERROR_ELEMENT_TYPE, "%s: h has element type %d (%s), expected %s or f32", operation, target.h.element_type, element_type_name(target.h.element_type), element_type_name(type));
    }
    PK_TRY_API(check_input(operation, "h", target.h, m, lora_rank(target), target.h.element_type, needs_data));
  }
  // Of a table the gradients' modes alone: where they go is in device memory.
  const pk_matrix nothing{nullptr, 0, 0, 0, 0, 0, of_adapter, 0};
  PK_TRY_API(check_gradient(operation, "da", table ? nothing : target.da, target.a_gradient, table ? 0 : rank, table ? 0 : k, of_adapter, needs_data));
  PK_TRY_API(check_gradient(operation, "db", table ? nothing : target.db, target.b_gradient, table ? 0 : n, table ? 0 : target.b.columns, of_adapter, needs_data));
  PK_TRY_API(check_middle_gradients(operation, descriptor, target, needs_data));
  return check_gradient(operation, "dbias", target.dbias, target.bias_gradient, 1, n, type, needs_data);
}

// Reads and checks a descriptor. Without `needs_data` its pointers may be null: workspace and choice depend on shapes alone.
int32_t read_backward(const char* operation, const pk_lora_backward_descriptor* given, bool needs_data, BackwardCall* call) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  pk_lora_backward_descriptor& descriptor = call->descriptor;
  PK_TRY_API(read_descriptor(operation, given, given->size, &descriptor));
  PK_TRY_API(check_flags(operation, descriptor.flags));
  if (descriptor.batch_count == 0) descriptor.batch_count = 1;
  if (descriptor.batch_count < 0 || descriptor.target_count < 0 || descriptor.target_count > PK_LORA_BACKWARD_TARGETS) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches and %" PRId64 " targets, expected none below 0 and at most %d targets", operation, descriptor.batch_count, descriptor.target_count,
                PK_LORA_BACKWARD_TARGETS);
  }
  PK_TRY_API(check_slab_bytes(operation, descriptor.slab_bytes));
  if (descriptor.target_count > 0 && descriptor.targets == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: targets is null", operation);
  if (descriptor.segment_count < 0) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " segments, expected at least 0", operation, descriptor.segment_count);
  PK_TRY_API(check_row_choice(operation, descriptor.row_adapter, descriptor.segments));
  PK_TRY_API(check_pointer(operation, "row_adapter", descriptor.row_adapter, alignof(int32_t)));
  PK_TRY_API(check_pointer(operation, "segments", descriptor.segments, alignof(pk_lora_segment)));
  PK_TRY_API(check_element_types(operation, descriptor.x.element_type, descriptor.x.element_type));
  PK_TRY_API(check_input(operation, "x", descriptor.x, -1, -1, descriptor.x.element_type, needs_data));
  PK_TRY_API(check_dropout(operation, descriptor.dropout, descriptor.batch_count, descriptor.x));
  PK_TRY_API(check_pointer(operation, "status", descriptor.status, alignof(pk_status_record)));
  PK_TRY_API(check_gradient(operation, "dx", descriptor.dx, descriptor.x_gradient, descriptor.x.rows, descriptor.x.columns, descriptor.x.element_type, needs_data));
  PK_TRY_API(check_batches_apart(operation, "dx", descriptor.dx, descriptor.x_gradient, descriptor.batch_count));
  double largest = static_cast<double>(descriptor.batch_count) * static_cast<double>(descriptor.x.rows), ranks = 0;
  largest = std::max(largest, static_cast<double>(descriptor.x.columns));
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const auto* source = reinterpret_cast<const char*>(descriptor.targets) + static_cast<uint64_t>(i) * descriptor.target_size;
    pk_lora_gradient_target target;
    PK_TRY_API(read_descriptor(operation, source, descriptor.target_size, &target));
    PK_TRY_API(check_table(operation, target.adapters, target.adapter_count, target.max_rank, lora_rank(target), descriptor.row_adapter != nullptr || descriptor.segments != nullptr));
    PK_TRY_API(read_table(operation, descriptor, needs_data, &target));
    PK_TRY_API(check_target(operation, descriptor, target, needs_data));
    if (i > 0 && target.adapter_element_type != call->targets[0].adapter_element_type) {
      return fail(PK_ERROR_ELEMENT_TYPE, "%s: adapters of element type %s and of %s, expected one for all targets", operation, element_type_name(call->targets[0].adapter_element_type),
                  element_type_name(target.adapter_element_type));
    }
    ranks += static_cast<double>(std::max(lora_rank(target), lora_rank_after(target)));
    largest = std::max(largest, static_cast<double>(target.dy.columns));
    call->targets.push_back(target);
  }
  if (ranks > INT32_MAX || largest * std::max(ranks, 1.0) > static_cast<double>(INT64_C(1) << 48)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %.0f rows or columns with ranks that add up to %.0f, expected ranks of at most 2^31 - 1 and a product of at most 2^48", operation, largest, ranks);
  }
  descriptor.targets = call->targets.data();
  descriptor.target_size = sizeof(pk_lora_gradient_target);
  if (descriptor.samples.count != 0) {
    PK_TRY_API(check_samples(operation, descriptor.samples, descriptor.batch_count, descriptor.x.rows, needs_data));
    if (needs_data && descriptor.sample_weights == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: sample_weights is null", operation);
    PK_TRY_API(check_pointer(operation, "sample_weights", descriptor.sample_weights, alignof(float)));
  }
  return PK_OK;
}

// Parts of k in which H is made again: so many that they fill a large chip.
int32_t h_planes_of(const BackwardCall& call, int32_t algorithm) {
  if (algorithm == PK_LORA_BACKWARD_SIMT) return 1;
  int64_t rank = 0;
  for (const pk_lora_gradient_target& target : call.targets) rank = std::max(rank, lora_makes_h(target) ? lora_rank(target) : 0);
  return backward_planes_of(call.descriptor.batch_count, call.descriptor.x, rank);
}

// Whether a row scale meets a dY of 16 bits whose columns are contiguous: large tiles would copy it element by element.
bool scales_columns_of_dy(const BackwardCall& call) {
  if (call.descriptor.x.element_type == PK_F32) return false;
  return std::any_of(call.targets.begin(), call.targets.end(), [](const pk_lora_gradient_target& target) {
    return lora_has_row_scale(target) && lora_has_w(target.base) && target.dy.column_stride != 1 && target.dy.row_stride == 1;
  });
}

// Whether a grid's first axis has as many blocks as a kernel needs: only the plain kernels walk through more.
bool fits_grid(const BackwardCall& call) {
  const pk_lora_backward_descriptor& descriptor = call.descriptor;
  const double row_tiles = static_cast<double>(descriptor.batch_count) * static_cast<double>(lora_up(descriptor.x.rows, 64));
  double blocks = row_tiles * static_cast<double>(lora_up(descriptor.x.columns, 64));
  const auto pass = [&](const LoraOuterPlan& plan, int64_t rank) {
    const double planes = static_cast<double>(plan.groups) * static_cast<double>(plan.parts);
    blocks = std::max(blocks, planes * static_cast<double>(plan.column_groups) * static_cast<double>(lora_up(rank + 1, 16)));
  };
  int64_t ranks = 0;
  for (const pk_lora_gradient_target& target : call.targets) {
    pass(lora_dy_plan(descriptor, target), lora_rank_after(target));
    if (lora_weighs_rows(descriptor)) pass(lora_bias_plan(descriptor, target), 1);
    const double slots = lora_has_table(target) ? lora_shrink_slots(target.adapter_count) : 1;
    blocks = std::max(blocks, row_tiles * static_cast<double>(lora_up(lora_rank(target), 16)) * 16 * slots);
    ranks += lora_rank(target);
  }
  pass(lora_x_plan(descriptor, ranks), ranks);
  return blocks <= INT32_MAX;
}

int32_t plan_backward(const char* operation, const BackwardCall& call, const pk_chip& chip, LoraBackwardPlan* plan, pk_kernel_choice* choice) {
  const pk_lora_backward_descriptor& descriptor = call.descriptor;
  const bool possible = runs_on_tensor_cores(chip) && fits_grid(call), wide = descriptor.x.element_type == PK_F32;
  int32_t algorithm = descriptor.algorithm;
  if (algorithm == 0) {
    algorithm = descriptor.x.rows <= 128 || descriptor.x.columns <= 128 || scales_columns_of_dy(call) ? PK_LORA_BACKWARD_MMA_SMALL : PK_LORA_BACKWARD_MMA_LARGE;
    if (!possible) algorithm = PK_LORA_BACKWARD_SIMT;
  }
  const auto* known = std::find_if(std::begin(kBackward), std::end(kBackward), [&](const Algorithm& entry) { return entry.number == algorithm; });
  if (known == std::end(kBackward)) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (%s) to %d (%s)", operation, algorithm, kBackward[0].number, kBackward[0].name,
                std::end(kBackward)[-1].number, std::end(kBackward)[-1].name);
  }
  if (algorithm != PK_LORA_BACKWARD_SIMT && !possible) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (%s) needs compute capability 8.0, %" PRId64 " bytes of shared memory a block and at most 2^31 - 1 blocks, this chip has %d.%d and %" PRId64, operation,
                algorithm, known->name, kLoraSharedBytes, chip.compute_capability / 10, chip.compute_capability % 10, chip.shared_memory_per_block);
  }
  *plan = {algorithm, wide && (descriptor.flags & PK_FLAG_ALLOW_TF32) != 0, h_planes_of(call, algorithm)};
  int64_t total_n = 0, total_rank = 0, of_x_rank = 0, parts = 1, middle = 0;
  for (const pk_lora_gradient_target& target : call.targets) {
    const LoraOuterPlan of = lora_dy_plan(descriptor, target);
    parts = std::max(parts, of.groups * of.parts);
    total_n += target.dy.columns;
    total_rank += std::max(lora_rank(target), lora_rank_after(target));
    of_x_rank += lora_rank(target);
    if (!lora_has_middle(target.middle)) continue;
    const LoraOuterPlan of_scale = lora_middle_plan(descriptor, target), of_core = lora_core_plan(descriptor, target);
    parts = std::max({parts, of_scale.groups * of_scale.parts, of_core.groups * of_core.parts});
    const double scale_blocks = static_cast<double>(of_scale.groups * of_scale.parts) * static_cast<double>(lora_up(lora_rank(target), 64));
    const double core_blocks = static_cast<double>(of_core.groups * of_core.parts) * static_cast<double>(lora_up(lora_rank(target), 64)) * static_cast<double>(lora_up(lora_rank_after(target), 64));
    if (std::max(scale_blocks, core_blocks) > INT32_MAX) return fail(PK_ERROR_ARGUMENT, "%s: gradients of a middle in %.0f blocks, expected at most 2^31 - 1", operation, std::max(scale_blocks, core_blocks));
    middle = std::max(middle, lora_middle_gradient_rounding_steps(target));
  }
  const LoraOuterPlan of_x = lora_x_plan(descriptor, of_x_rank);
  parts = std::max(parts, of_x.groups * of_x.parts);
  const int64_t k = descriptor.x.columns, rows = descriptor.batch_count * descriptor.x.rows;
  const LoraMath math = !wide ? LoraMath::exact16 : plan->tf32 != 0 ? LoraMath::tf32 : LoraMath::three_tf32;
  const int64_t steps = algorithm == PK_LORA_BACKWARD_SIMT
                            ? lora_backward_simt_rounding_steps(k, total_n, total_rank, rows, parts, descriptor.target_count)
                            : lora_backward_mma_rounding_steps(math, k, total_n, total_rank, rows, parts, plan->h_planes);
  constexpr int64_t kWeightSteps = 2;  // the weight, and the sum of planes before it
  constexpr int64_t kScaleSteps = 1;   // the row scale's product, of B or W, or of what becomes dB
  const bool scaled = std::any_of(call.targets.begin(), call.targets.end(), lora_has_row_scale), tables = std::any_of(call.targets.begin(), call.targets.end(), lora_has_table);
  const int64_t of_tables = tables ? lora_backward_table_rounding_steps(total_rank, descriptor.dropout.probability > 0, algorithm == PK_LORA_BACKWARD_SIMT) : 0;
  *choice = pk_kernel_choice{algorithm, 0, steps + middle + of_tables + (lora_weighs_rows(descriptor) ? kWeightSteps : 0) + (scaled ? kScaleSteps : 0), {}};
  std::snprintf(choice->name, sizeof choice->name, "%s", known->name);
  return PK_OK;
}

// Enough for every plan on every chip.
int32_t workspace_bytes(const char* operation, const BackwardCall& call, uint64_t* bytes) {
  const LoraBackwardLayout layout = lora_backward_layout(call.descriptor, h_planes_of(call, call.descriptor.algorithm));
  const double floats = layout.h + layout.dh + layout.after + layout.sums + layout.row_weights;
  if (floats > static_cast<double>(INT64_C(1) << 52)) return fail(PK_ERROR_ARGUMENT, "%s: sums of %.0f elements, expected at most 2^52", operation, floats);
  *bytes = static_cast<uint64_t>(layout.bytes_before_ranks() + layout.ranks + layout.tables + layout.slab);
  return PK_OK;
}

// Gradients and workspace against everything else. What tables name is in device memory: that it is disjoint is the caller's promise.
int32_t check_disjoint(const char* operation, const BackwardCall& call, uint64_t workspace) {
  const pk_lora_backward_descriptor& descriptor = call.descriptor;
  const int64_t batches = descriptor.batch_count;
  Operands operands;
  const auto gradient = [&](const char* name, const pk_matrix& matrix, int32_t mode) {
    if (mode != PK_GRADIENT_NONE) operands.output(name, matrix, matrix.batch_stride == 0 ? 1 : batches);
  };
  operands.output_bytes("workspace", descriptor.workspace, workspace);
  operands.output_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  operands.input("x", descriptor.x, batches);
  add_row_choice(operands, descriptor.row_adapter, descriptor.segments, descriptor.segment_count, batches * descriptor.x.rows);
  add_samples(operands, descriptor.samples);
  operands.input_bytes("sample_weights", descriptor.sample_weights, static_cast<uint64_t>(descriptor.samples.count) * sizeof(float));
  gradient("dx", descriptor.dx, descriptor.x_gradient);
  for (const pk_lora_gradient_target& target : call.targets) {
    if (lora_has_table(target)) {
      add_tables(operands, target);
    } else {
      gradient("da", target.da, target.a_gradient);
      gradient("db", target.db, target.b_gradient);
    }
    gradient("dbias", target.dbias, target.bias_gradient);
    operands.input("dy", target.dy, batches);
    if (target.base == PK_LORA_BASE_DENSE) operands.input("w", target.w, batches);
    if (target.base == PK_LORA_BASE_QUANTIZED) add_quantized(operands, target.quantized);
    if (target.a.rows > 0 && !lora_has_table(target)) {
      operands.input("a", target.a, batches);
      operands.input("b", target.b, batches);
    }
    if (target.h_saved != 0) operands.input("h", target.h, batches);
    add_middle(operands, target.middle, batches);
    gradient("dscale", target.dscale, target.scale_gradient);
    gradient("dgate", target.dgate, target.gate_gradient);
    gradient("dcore", target.dcore, target.core_gradient);
    if (lora_has_row_scale(target)) operands.input("row_scale", target.row_scale, batches);
  }
  return operands.check_disjoint(operation);
}

}  // namespace

namespace peft_kernels_api {

int32_t check_input(const char* operation, const char* argument, const pk_matrix& matrix, int64_t rows, int64_t columns, int32_t element_type, bool needs_data) {
  if (matrix.element_type != element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: %s has element type %d (%s), expected %s", operation, argument, matrix.element_type, element_type_name(matrix.element_type),
                element_type_name(element_type));
  }
  PK_TRY_API(check_matrix(operation, argument, matrix, rows, columns));
  return needs_data ? check_data(operation, argument, matrix) : PK_OK;
}

int32_t check_dropout(const char* operation, const pk_dropout& dropout, int64_t batches, const pk_matrix& x) {
  if (!(dropout.probability >= 0 && dropout.probability < 1)) {
    return fail(PK_ERROR_ARGUMENT, "%s: the probability of dropout is %g, expected at least 0 and below 1", operation, static_cast<double>(dropout.probability));
  }
  if (dropout.probability > 0 && (static_cast<double>(batches) * static_cast<double>(x.rows) > 4294967296.0 || x.columns > INT64_C(1) << 34)) {
    return fail(PK_ERROR_ARGUMENT, "%s: dropout of x with %" PRId64 " batches of [%" PRId64 ", %" PRId64 "], expected at most 2^32 rows and 2^34 columns", operation, batches, x.rows, x.columns);
  }
  return PK_OK;
}

int32_t check_gradient(const char* operation, const char* argument, const pk_matrix& matrix, int32_t mode, int64_t rows, int64_t columns, int32_t element_type, bool needs_data) {
  if (mode < PK_GRADIENT_NONE || mode > PK_GRADIENT_ACCUMULATE) {
    return fail(PK_ERROR_ARGUMENT, "%s: what becomes of %s is %d, expected %d (none), %d (overwrite) or %d (accumulate)", operation, argument, mode, PK_GRADIENT_NONE, PK_GRADIENT_OVERWRITE,
                PK_GRADIENT_ACCUMULATE);
  }
  if (mode == PK_GRADIENT_NONE) return PK_OK;
  if (matrix.element_type != element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: %s has element type %d (%s), expected %s", operation, argument, matrix.element_type, element_type_name(matrix.element_type),
                element_type_name(element_type));
  }
  PK_TRY_API(check_matrix(operation, argument, matrix, rows, columns));
  PK_TRY_API(check_output(operation, argument, matrix));
  return needs_data ? check_data(operation, argument, matrix) : PK_OK;
}

int32_t check_batches_apart(const char* operation, const char* argument, const pk_matrix& matrix, int32_t mode, int64_t batches) {
  if (mode == PK_GRADIENT_NONE || batches <= 1 || matrix.batch_stride != 0 || matrix.rows == 0 || matrix.columns == 0) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: %s has batch stride 0 with %" PRId64 " batches: they would overlap", operation, argument, batches);
}

int32_t backward_planes_of(int64_t batches, const pk_matrix& left, int64_t rank) {
  constexpr double kWantedBlocks = 264;  // two for each multiprocessor
  const double blocks = static_cast<double>(batches) * static_cast<double>(lora_up(left.rows, kLoraShrinkRows)) * static_cast<double>(lora_up(rank, lora_shrink_columns(rank)));
  return parts_of(blocks, kWantedBlocks, lora_up(left.columns * element_size(left.element_type), kLoraShrinkStageBytes));
}

}  // namespace peft_kernels_api

extern "C" {

int32_t pk_lora_backward(const pk_queue* queue, const pk_lora_backward_descriptor* given) {
  const char* operation = "pk_lora_backward";
  pk_queue known_queue;
  BackwardCall call;
  LoraBackwardPlan plan;
  pk_kernel_choice choice;
  pk_chip chip;
  uint64_t needed = 0;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_backward(operation, given, true, &call));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(plan_backward(operation, call, chip, &plan, &choice));
  PK_TRY_API(workspace_bytes(operation, call, &needed));
  PK_TRY_API(check_workspace(operation, call.descriptor.workspace, call.descriptor.workspace_bytes, needed));
  PK_TRY_API(check_disjoint(operation, call, needed));
  return PK_DISPATCH(known_queue, lora_backward(&known_queue, &call.descriptor, &plan));
}

int32_t pk_lora_backward_workspace(const pk_lora_backward_descriptor* given, uint64_t* bytes) {
  BackwardCall call;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_backward_workspace: bytes is null");
  PK_TRY_API(read_backward("pk_lora_backward_workspace", given, false, &call));
  return workspace_bytes("pk_lora_backward_workspace", call, bytes);
}

int32_t pk_lora_backward_pick(const pk_chip* chip, const pk_lora_backward_descriptor* given, pk_kernel_choice* choice) {
  BackwardCall call;
  LoraBackwardPlan plan;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_backward_pick: choice is null");
  PK_TRY_API(check_chip("pk_lora_backward_pick", chip));
  PK_TRY_API(read_backward("pk_lora_backward_pick", given, false, &call));
  return plan_backward("pk_lora_backward_pick", call, *chip, &plan, choice);
}

}  // extern "C"
