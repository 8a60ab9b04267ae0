// The C interface of backward's backward: checks, workspace, choice of kernel, dispatch.
#include <algorithm>
#include <cstdio>

#include "../core/operations.h"
#include "../lora/double_backward_plan.h"
#include "check.h"
#include "lora_plan.h"
#include "overlap.h"

using namespace peft_kernels_api;

namespace {

using Descriptor = pk_lora_double_backward_descriptor;

struct Algorithm {
  int32_t number;
  const char* name;
};
constexpr Algorithm kAlgorithms[] = {
    {PK_LORA_BACKWARD_SIMT, "lora_input_gradient_simt"}, {PK_LORA_BACKWARD_MMA_LARGE, "lora_input_gradient_mma_large"}, {PK_LORA_BACKWARD_MMA_SMALL, "lora_input_gradient_mma_small"}};

bool has_cotangent(const Descriptor& descriptor, uint32_t cotangent) { return (descriptor.cotangents & cotangent) != 0; }

// Reads and checks a descriptor. Without `needs_data` its pointers may be null: workspace and choice depend on shapes alone.
int32_t read(const char* operation, const Descriptor* given, bool needs_data, Descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  if (descriptor->batch_count == 0) descriptor->batch_count = 1;
  if (descriptor->batch_count < 0) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches, expected none below 0", operation, descriptor->batch_count);
  const int32_t type = descriptor->x.element_type, of_adapter = descriptor->adapter_element_type;
  PK_TRY_API(check_element_types(operation, type, of_adapter));
  if (descriptor->base != PK_LORA_BASE_NONE && descriptor->base != PK_LORA_BASE_DENSE) {
    return fail(PK_ERROR_ARGUMENT, "%s: base is %d, expected %d (none) or %d (dense)", operation, descriptor->base, PK_LORA_BASE_NONE, PK_LORA_BASE_DENSE);
  }
  constexpr uint32_t kCotangents = PK_LORA_COTANGENT_X | PK_LORA_COTANGENT_A | PK_LORA_COTANGENT_B;
  if ((descriptor->cotangents & ~kCotangents) != 0) return fail(PK_ERROR_ARGUMENT, "%s: cotangents are %#x, expected a subset of %#x", operation, descriptor->cotangents, kCotangents);
  PK_TRY_API(check_input(operation, "x", descriptor->x, -1, -1, type, needs_data));
  const int64_t m = descriptor->x.rows, k = descriptor->x.columns;
  PK_TRY_API(check_input(operation, "dy", descriptor->dy, m, -1, type, needs_data));
  const int64_t n = descriptor->dy.columns, rank = descriptor->a.rows;
  if (descriptor->base == PK_LORA_BASE_DENSE) PK_TRY_API(check_input(operation, "w", descriptor->w, n, k, type, needs_data));
  if (rank != 0 || descriptor->b.columns != 0) {
    PK_TRY_API(check_input(operation, "a", descriptor->a, -1, k, of_adapter, needs_data));
    PK_TRY_API(check_input(operation, "b", descriptor->b, n, rank, of_adapter, needs_data));
  }
  if (has_cotangent(*descriptor, PK_LORA_COTANGENT_X)) PK_TRY_API(check_input(operation, "ux", descriptor->ux, m, k, type, needs_data));
  if (has_cotangent(*descriptor, PK_LORA_COTANGENT_A)) PK_TRY_API(check_input(operation, "ua", descriptor->ua, rank, k, of_adapter, needs_data));
  if (has_cotangent(*descriptor, PK_LORA_COTANGENT_B)) PK_TRY_API(check_input(operation, "ub", descriptor->ub, n, rank, of_adapter, needs_data));
  PK_TRY_API(check_gradient(operation, "ddy", descriptor->ddy, descriptor->dy_gradient, m, n, type, needs_data));
  PK_TRY_API(check_gradient(operation, "dx", descriptor->dx, descriptor->x_gradient, m, k, type, needs_data));
  PK_TRY_API(check_gradient(operation, "da", descriptor->da, descriptor->a_gradient, rank, k, of_adapter, needs_data));
  PK_TRY_API(check_gradient(operation, "db", descriptor->db, descriptor->b_gradient, n, rank, of_adapter, needs_data));
  PK_TRY_API(check_batches_apart(operation, "ddy", descriptor->ddy, descriptor->dy_gradient, descriptor->batch_count));
  PK_TRY_API(check_batches_apart(operation, "dx", descriptor->dx, descriptor->x_gradient, descriptor->batch_count));
  const double rows = static_cast<double>(descriptor->batch_count) * static_cast<double>(m), largest = std::max({rows, static_cast<double>(k), static_cast<double>(n)});
  if (rank > INT32_MAX || largest * static_cast<double>(std::max<int64_t>(rank, 1)) > static_cast<double>(INT64_C(1) << 48)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %.0f rows or columns with a rank of %" PRId64 ", expected a rank of at most 2^31 - 1 and a product of at most 2^48", operation, largest, rank);
  }
  return PK_OK;
}

// Whether a grid's first axis has as many blocks as a kernel needs: only the plain kernels walk through more.
bool fits_grid(const Descriptor& descriptor) {
  const double row_tiles = static_cast<double>(descriptor.batch_count) * static_cast<double>(lora_up(descriptor.x.rows, 64));
  const double rank_tiles = static_cast<double>(lora_up(descriptor.a.rows + 1, 16));
  const auto pass = [&](const LoraOuterPlan& plan) { return static_cast<double>(plan.groups) * static_cast<double>(plan.parts) * static_cast<double>(plan.column_groups) * rank_tiles; };
  const double of_rows = row_tiles * static_cast<double>(lora_up(std::max(descriptor.x.columns, descriptor.dy.columns), 64));
  constexpr double kTargetsAndPlanes = 2 * 16;  // of a launch that makes intermediates
  return std::max({of_rows, row_tiles * rank_tiles * kTargetsAndPlanes, pass(lora_double_a_plan(descriptor)), pass(lora_double_b_plan(descriptor))}) <= INT32_MAX;
}

// Of a call without an algorithm the planes of the tensor cores' kernels, which are not fewer.
void find_planes(const Descriptor& descriptor, int32_t algorithm, LoraDoubleBackwardPlan* plan) {
  const bool simt = algorithm == PK_LORA_BACKWARD_SIMT;
  plan->h_planes = simt ? 1 : backward_planes_of(descriptor.batch_count, descriptor.x, descriptor.a.rows);
  plan->d_planes = simt ? 1 : backward_planes_of(descriptor.batch_count, descriptor.dy, descriptor.a.rows);
}

int32_t make_plan(const char* operation, const Descriptor& descriptor, const pk_chip& chip, LoraDoubleBackwardPlan* plan, pk_kernel_choice* choice) {
  const int64_t k = descriptor.x.columns, n = descriptor.dy.columns, rank = descriptor.a.rows;
  const bool possible = runs_on_tensor_cores(chip) && fits_grid(descriptor), wide = descriptor.x.element_type == PK_F32;
  int32_t algorithm = descriptor.algorithm;
  if (algorithm == 0) {
    const int64_t widest = descriptor.dy_gradient != PK_GRADIENT_NONE ? n : k;  // the product with W is most of the work
    algorithm = !possible ? PK_LORA_BACKWARD_SIMT : descriptor.x.rows <= 128 || widest <= 128 ? PK_LORA_BACKWARD_MMA_SMALL : PK_LORA_BACKWARD_MMA_LARGE;
  }
  const auto* known = std::find_if(std::begin(kAlgorithms), std::end(kAlgorithms), [&](const Algorithm& entry) { return entry.number == algorithm; });
  if (known == std::end(kAlgorithms)) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (%s) to %d (%s)", operation, algorithm, kAlgorithms[0].number, kAlgorithms[0].name,
                std::end(kAlgorithms)[-1].number, std::end(kAlgorithms)[-1].name);
  }
  if (algorithm != PK_LORA_BACKWARD_SIMT && !possible) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (%s) needs compute capability 8.0, %" PRId64 " bytes of shared memory a block and at most 2^31 - 1 blocks, this chip has %d.%d and %" PRId64, operation,
                algorithm, known->name, kLoraSharedBytes, chip.compute_capability / 10, chip.compute_capability % 10, chip.shared_memory_per_block);
  }
  *plan = {algorithm, wide && (descriptor.flags & PK_FLAG_ALLOW_TF32) != 0, 1, 1};
  find_planes(descriptor, algorithm, plan);
  const LoraOuterPlan of_a = lora_double_a_plan(descriptor), of_b = lora_double_b_plan(descriptor);
  const int64_t rows = descriptor.batch_count * descriptor.x.rows, parts = std::max(of_a.groups * of_a.parts, of_b.groups * of_b.parts);
  const LoraMath of_f32 = plan->tf32 != 0 ? LoraMath::tf32 : LoraMath::three_tf32;
  const LoraMath base = wide ? of_f32 : LoraMath::exact16, shrink = wide ? of_f32 : descriptor.adapter_element_type == PK_F32 ? LoraMath::three_tf32 : LoraMath::exact16;
  const int64_t steps = algorithm == PK_LORA_BACKWARD_SIMT ? lora_double_backward_simt_rounding_steps(k, n, rank, rows, parts)
                                                           : lora_double_backward_mma_rounding_steps(base, shrink, k, n, rank, rows, parts, *plan);
  *choice = pk_kernel_choice{algorithm, 0, steps, {}};
  std::snprintf(choice->name, sizeof choice->name, "%s", known->name);
  return PK_OK;
}

// Enough for every plan on every chip.
int32_t workspace_bytes(const char* operation, const Descriptor& descriptor, uint64_t* bytes) {
  LoraDoubleBackwardPlan plan{};
  find_planes(descriptor, descriptor.algorithm, &plan);
  const double floats = lora_double_backward_layout(descriptor, plan.h_planes, plan.d_planes).floats();
  if (floats > static_cast<double>(INT64_C(1) << 52)) return fail(PK_ERROR_ARGUMENT, "%s: sums of %.0f elements, expected at most 2^52", operation, floats);
  *bytes = static_cast<uint64_t>(floats) * sizeof(float);
  return PK_OK;
}

// Gradients and workspace against everything else.
int32_t check_disjoint(const char* operation, const Descriptor& descriptor, uint64_t workspace) {
  const int64_t batches = descriptor.batch_count;
  Operands operands;
  const auto gradient = [&](const char* name, const pk_matrix& matrix, int32_t mode) {
    if (mode != PK_GRADIENT_NONE) operands.output(name, matrix, matrix.batch_stride == 0 ? 1 : batches);
  };
  gradient("ddy", descriptor.ddy, descriptor.dy_gradient);
  gradient("dx", descriptor.dx, descriptor.x_gradient);
  gradient("da", descriptor.da, descriptor.a_gradient);
  gradient("db", descriptor.db, descriptor.b_gradient);
  operands.output_bytes("workspace", descriptor.workspace, workspace);
  operands.input("x", descriptor.x, batches);
  operands.input("dy", descriptor.dy, batches);
  if (descriptor.base == PK_LORA_BASE_DENSE) operands.input("w", descriptor.w, batches);
  if (descriptor.a.rows > 0) {
    operands.input("a", descriptor.a, batches);
    operands.input("b", descriptor.b, batches);
  }
  if (has_cotangent(descriptor, PK_LORA_COTANGENT_X)) operands.input("ux", descriptor.ux, batches);
  if (has_cotangent(descriptor, PK_LORA_COTANGENT_A)) operands.input("ua", descriptor.ua, batches);
  if (has_cotangent(descriptor, PK_LORA_COTANGENT_B)) operands.input("ub", descriptor.ub, batches);
  return operands.check_disjoint(operation);
}

}  // namespace

extern "C" {

int32_t pk_lora_double_backward(const pk_queue* queue, const pk_lora_double_backward_descriptor* given) {
  const char* operation = "pk_lora_double_backward";
  pk_queue known_queue;
  Descriptor descriptor;
  LoraDoubleBackwardPlan plan;
  pk_kernel_choice choice;
  pk_chip chip;
  uint64_t needed = 0;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read(operation, given, true, &descriptor));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(make_plan(operation, descriptor, chip, &plan, &choice));
  PK_TRY_API(workspace_bytes(operation, descriptor, &needed));
  PK_TRY_API(check_workspace(operation, descriptor.workspace, descriptor.workspace_bytes, needed));
  PK_TRY_API(check_disjoint(operation, descriptor, needed));
  return PK_DISPATCH(known_queue, lora_double_backward(&known_queue, &descriptor, &plan));
}

int32_t pk_lora_double_backward_workspace(const pk_lora_double_backward_descriptor* given, uint64_t* bytes) {
  const char* operation = "pk_lora_double_backward_workspace";
  Descriptor descriptor;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: bytes is null", operation);
  PK_TRY_API(read(operation, given, false, &descriptor));
  return workspace_bytes(operation, descriptor, bytes);
}

int32_t pk_lora_double_backward_pick(const pk_chip* chip, const pk_lora_double_backward_descriptor* given, pk_kernel_choice* choice) {
  const char* operation = "pk_lora_double_backward_pick";
  Descriptor descriptor;
  LoraDoubleBackwardPlan plan;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  PK_TRY_API(check_chip(operation, chip));
  PK_TRY_API(read(operation, given, false, &descriptor));
  return make_plan(operation, descriptor, *chip, &plan, choice);
}

}  // extern "C"
