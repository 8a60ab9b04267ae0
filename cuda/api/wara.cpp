// The C interface of WaRA: checks, what the kernels know of an adapter, workspace, choice of kernel, dispatch to the builds.
#include <algorithm>
#include <cstdio>
#include <string>

#include "../core/operations.h"
#include "haar_check.h"
#include "overlap.h"

namespace peft_kernels_api {
namespace {

// A matrix of a certain shape and type, and with data where that is needed.
int32_t check_operand(const char* operation, const char* argument, const pk_matrix& matrix, int64_t rows, int64_t columns, int32_t element_type, bool needs_data) {
  PK_TRY_API(check_matrix(operation, argument, matrix, rows, columns));
  if (matrix.element_type != element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: %s has element type %s, expected %s", operation, argument, element_type_name(matrix.element_type), element_type_name(element_type));
  }
  return needs_data ? check_data(operation, argument, matrix) : PK_OK;
}

// Factor `number`'s A [rank, columns] and B [rows, rank].
int32_t check_factor(const char* operation, const pk_haar_wara_adapter& adapter, int64_t number, int64_t rows, int64_t columns, bool needs_data) {
  const pk_matrix &a = adapter.a[number], &b = adapter.b[number];
  if (a.rows < 1 || a.rows > INT32_MAX / kHaarWaraBands) {
    return fail(PK_ERROR_ARGUMENT, "%s: factor %" PRId64 " has rank %" PRId64 ", expected 1 to %d", operation, number, a.rows, INT32_MAX / kHaarWaraBands);
  }
  const int32_t element_type = adapter.a[0].element_type;
  PK_TRY_API(check_operand(operation, "a", a, a.rows, columns, element_type, needs_data));
  return check_operand(operation, "b", b, rows, a.rows, element_type, needs_data);
}

// Checks an adapter of W [n, k] and makes the plan of its groups.
int32_t plan_adapter(const char* operation, const pk_haar_wara_adapter& adapter, int64_t m, int64_t n, int64_t k, int32_t element_type, bool needs_data, HaarWaraPlan* plan) {
  if (adapter.a == nullptr || adapter.b == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the factors are null", operation);
  PK_TRY_API(check_range(operation, "mode", adapter.mode, PK_HAAR_WARA_WEIGHT, PK_HAAR_WARA_ACTIVATION));
  PK_TRY_API(check_range(operation, "levels", adapter.levels, 1, PK_HAAR_WARA_LEVELS));
  PK_TRY_API(check_range(operation, "boundary", adapter.boundary, PK_HAAR_BOUNDARY_NONE, PK_HAAR_BOUNDARY_PERIODIC));
  const int32_t bands = 3 * adapter.levels + 1;
  if (adapter.factor_count != 1 && adapter.factor_count != bands) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " pairs of factors, expected 1 or %d, one for each band of %d levels", operation, adapter.factor_count, bands, adapter.levels);
  }
  PK_TRY_API(check_element_types(operation, element_type, adapter.a[0].element_type));
  const bool activation = adapter.mode == PK_HAAR_WARA_ACTIVATION, per_band = adapter.factor_count != 1;
  if (activation) {
    if (adapter.grid_rows < 1 || adapter.grid_columns < 1 || adapter.grid_rows > INT32_MAX || adapter.grid_columns > INT32_MAX || m % (adapter.grid_rows * adapter.grid_columns) != 0) {
      return fail(PK_ERROR_ARGUMENT, "%s: x has %" PRId64 " rows, expected whole grids of %" PRId64 " x %" PRId64 " tokens", operation, m, adapter.grid_rows, adapter.grid_columns);
    }
    PK_TRY_API(check_haar_axis(operation, "rows of the grid", adapter.grid_rows, adapter.levels, adapter.boundary));
    PK_TRY_API(check_haar_axis(operation, "columns of the grid", adapter.grid_columns, adapter.levels, adapter.boundary));
  } else {
    PK_TRY_API(check_haar_axis(operation, "rows of the weights", n, adapter.levels, adapter.boundary));
    PK_TRY_API(check_haar_axis(operation, "columns of the weights", k, adapter.levels, adapter.boundary));
  }
  *plan = HaarWaraPlan{};
  plan->algorithm = PK_HAAR_SIMT;
  plan->levels = adapter.levels;
  plan->boundary = adapter.boundary;
  plan->activation = activation;
  plan->per_band = per_band;
  plan->scale = adapter.scale;
  plan->grid_rows = adapter.grid_rows;
  plan->grid_columns = adapter.grid_columns;
  for (int32_t band = 0; band < bands; ++band) plan->gains[band] = adapter.gains == nullptr ? 1.0f : adapter.gains[band];

  if (!per_band) {
    const auto extent = [&](int64_t of) { return activation ? of : haar_coefficient_extent(of, adapter.levels, PK_HAAR_MALLAT); };
    PK_TRY_API(check_factor(operation, adapter, 0, extent(n), extent(k), needs_data));
  }
  plan->group_count = activation && !per_band ? 1 : bands;
  int64_t row_offset = haar_count(n, adapter.levels), column_offset = haar_count(k, adapter.levels);
  for (int32_t number = 0; number < plan->group_count; ++number) {
    HaarWaraGroup& group = plan->groups[number];
    const int32_t kind = number == 0 ? 0 : (number - 1) % 3 + 1;  // the details along rows, columns, both
    group.factor = per_band ? number : 0;
    group.first = plan->ranks;
    group.gain = 1.0f;
    group.row_count = n;
    group.column_count = k;
    if (!activation) {
      group.level = number == 0 ? adapter.levels : adapter.levels - (number - 1) / 3;
      group.row_detail = kind == 1 || kind == 3;
      group.column_detail = kind >= 2;
      group.gain = plan->gains[number] / static_cast<float>(int64_t{1} << group.level);
      group.row_count = haar_count(n, group.level);
      group.column_count = haar_count(k, group.level);
      if (!per_band) {
        group.row_first = group.row_detail != 0 ? row_offset : 0;
        group.column_first = group.column_detail != 0 ? column_offset : 0;
        if (kind == 3) row_offset += group.row_count, column_offset += group.column_count;
      }
    }
    if (per_band) PK_TRY_API(check_factor(operation, adapter, number, group.row_count, group.column_count, needs_data));
    const pk_matrix &a = adapter.a[group.factor], &b = adapter.b[group.factor];
    group.a = a.data, group.a_row_stride = a.row_stride, group.a_column_stride = a.column_stride;
    group.b = b.data, group.b_row_stride = b.row_stride, group.b_column_stride = b.column_stride;
    group.rank = static_cast<int32_t>(a.rows);
    plan->ranks += group.rank;
  }
  return PK_OK;
}

void inputs_of(Operands* operands, const pk_haar_wara_adapter& adapter) {
  for (int64_t i = 0; i < adapter.factor_count; ++i) {
    operands->input("a of factor " + std::to_string(i), adapter.a[i], 1);
    operands->input("b of factor " + std::to_string(i), adapter.b[i], 1);
  }
}

// h, and in activation mode what it is filtered to; for backward as much again.
uint64_t workspace_bytes(const HaarWaraPlan& plan, int64_t m, bool backward) {
  return static_cast<uint64_t>(m) * static_cast<uint64_t>(plan.ranks) * sizeof(float) * (plan.activation != 0 ? 2 : 1) * (backward ? 2 : 1);
}

// Sums of the quarters of a band and of the bands, gains, signs and quotients.
int64_t filter_steps(const HaarWaraPlan& plan) { return plan.activation != 0 ? (int64_t{1} << (2 * plan.levels - 2)) + 4 * plan.levels + 6 : 0; }

int32_t choose(const char* operation, int32_t algorithm, const char* name, int64_t rounding_steps, pk_kernel_choice* choice) {
  if (algorithm != 0 && algorithm != PK_HAAR_SIMT) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (simt)", operation, algorithm, PK_HAAR_SIMT);
  }
  *choice = pk_kernel_choice{PK_HAAR_SIMT, 0, rounding_steps, {}};
  std::snprintf(choice->name, sizeof choice->name, "%s", name);
  return PK_OK;
}

template <class Descriptor>
struct Call {
  Descriptor descriptor;
  HaarWaraPlan plan;
};

template <class Descriptor>
int32_t read_call(const char* operation, const Descriptor* given, Call<Descriptor>* call) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, &call->descriptor));
  return check_flags(operation, call->descriptor.flags);
}

using Forward = Call<pk_haar_wara_forward_descriptor>;
using Backward = Call<pk_haar_wara_backward_descriptor>;
using Merge = Call<pk_haar_wara_merge_descriptor>;

int32_t read_forward(const char* operation, const pk_haar_wara_forward_descriptor* given, bool needs_data, Forward* call) {
  PK_TRY_API(read_call(operation, given, call));
  const pk_haar_wara_forward_descriptor& descriptor = call->descriptor;
  const int32_t type = descriptor.x.element_type;
  const int64_t m = descriptor.x.rows, n = descriptor.y.columns, k = descriptor.x.columns;
  PK_TRY_API(check_range(operation, "base", descriptor.base, PK_LORA_BASE_NONE, PK_LORA_BASE_IN_Y));
  PK_TRY_API(check_operand(operation, "x", descriptor.x, -1, -1, type, needs_data));
  PK_TRY_API(plan_adapter(operation, descriptor.adapter, m, n, k, type, needs_data, &call->plan));
  PK_TRY_API(check_operand(operation, "y", descriptor.y, m, -1, type, needs_data));
  PK_TRY_API(check_output(operation, "y", descriptor.y));
  return descriptor.base == PK_LORA_BASE_DENSE ? check_operand(operation, "w", descriptor.w, n, k, type, needs_data) : PK_OK;
}

int64_t forward_steps(const Forward& forward) { return forward.descriptor.x.columns + filter_steps(forward.plan) + forward.plan.ranks + 4; }

int32_t check_gradients(const char* operation, const char* name, const pk_matrix* gradients, const pk_matrix* factors, int64_t count) {
  for (int64_t i = 0; gradients != nullptr && i < count; ++i) {
    if (gradients[i].data == nullptr) continue;
    PK_TRY_API(check_operand(operation, name, gradients[i], factors[i].rows, factors[i].columns, factors[0].element_type, true));
    PK_TRY_API(check_output(operation, name, gradients[i]));
  }
  return PK_OK;
}

int32_t read_backward(const char* operation, const pk_haar_wara_backward_descriptor* given, bool needs_data, Backward* call) {
  PK_TRY_API(read_call(operation, given, call));
  const pk_haar_wara_backward_descriptor& descriptor = call->descriptor;
  const int32_t type = descriptor.x.element_type;
  const int64_t m = descriptor.x.rows, n = descriptor.dy.columns, k = descriptor.x.columns;
  PK_TRY_API(check_operand(operation, "x", descriptor.x, -1, -1, type, needs_data));
  PK_TRY_API(check_operand(operation, "dy", descriptor.dy, m, -1, type, needs_data));
  PK_TRY_API(plan_adapter(operation, descriptor.adapter, m, n, k, type, needs_data, &call->plan));
  if (descriptor.w.data != nullptr) PK_TRY_API(check_operand(operation, "w", descriptor.w, n, k, type, needs_data));
  if (descriptor.dx.data != nullptr) {
    PK_TRY_API(check_operand(operation, "dx", descriptor.dx, m, k, type, needs_data));
    PK_TRY_API(check_output(operation, "dx", descriptor.dx));
  }
  if (!needs_data) return PK_OK;
  PK_TRY_API(check_gradients(operation, "da", descriptor.da, descriptor.adapter.a, descriptor.adapter.factor_count));
  return check_gradients(operation, "db", descriptor.db, descriptor.adapter.b, descriptor.adapter.factor_count);
}

int64_t backward_steps(const Backward& backward) {
  const pk_haar_wara_backward_descriptor& descriptor = backward.descriptor;
  const int64_t groups = descriptor.adapter.factor_count == 1 ? backward.plan.group_count : 1, folded = int64_t{1} << backward.plan.levels;
  return std::max(descriptor.x.columns, descriptor.dy.columns) + filter_steps(backward.plan) + std::max<int64_t>(backward.plan.ranks, groups * descriptor.x.rows + folded) + 4;
}

int32_t check_backward_disjoint(const char* operation, const Backward& backward) {
  const pk_haar_wara_backward_descriptor& descriptor = backward.descriptor;
  Operands operands;
  if (descriptor.dx.data != nullptr) operands.output("dx", descriptor.dx, 1);
  for (int64_t i = 0; i < descriptor.adapter.factor_count; ++i) {
    if (descriptor.da != nullptr && descriptor.da[i].data != nullptr) operands.output("da of factor " + std::to_string(i), descriptor.da[i], 1);
    if (descriptor.db != nullptr && descriptor.db[i].data != nullptr) operands.output("db of factor " + std::to_string(i), descriptor.db[i], 1);
  }
  operands.output_bytes("workspace", descriptor.workspace, workspace_bytes(backward.plan, descriptor.x.rows, true));
  operands.input("x", descriptor.x, 1);
  operands.input("dy", descriptor.dy, 1);
  if (descriptor.w.data != nullptr) operands.input("w", descriptor.w, 1);
  inputs_of(&operands, descriptor.adapter);
  return operands.check_disjoint(operation);
}

int32_t read_merge(const char* operation, const pk_haar_wara_merge_descriptor* given, bool needs_data, Merge* call) {
  PK_TRY_API(read_call(operation, given, call));
  const pk_haar_wara_merge_descriptor& descriptor = call->descriptor;
  const int32_t type = descriptor.source.element_type;
  const int64_t n = descriptor.source.rows, k = descriptor.source.columns;
  if (descriptor.adapter.mode == PK_HAAR_WARA_ACTIVATION) return fail(PK_ERROR_ARGUMENT, "%s: mode is activation, which has no weights to merge, expected weight", operation);
  PK_TRY_API(check_operand(operation, "source", descriptor.source, -1, -1, type, needs_data));
  PK_TRY_API(plan_adapter(operation, descriptor.adapter, 0, n, k, type, needs_data, &call->plan));
  PK_TRY_API(check_operand(operation, "destination", descriptor.destination, n, k, type, needs_data));
  return check_output(operation, "destination", descriptor.destination);
}

// Of a band's product, its gain, the levels, the scale; or of all bands' products.
int64_t merge_steps(const Merge& merge, bool tile) {
  if (!tile) return merge.plan.ranks + merge.plan.group_count + 2;
  int32_t rank = 0;
  for (int32_t i = 0; i < merge.plan.group_count; ++i) rank = std::max(rank, merge.plan.groups[i].rank);
  return rank + 2 * merge.plan.levels + 3;
}

int32_t pick_merge(const char* operation, const pk_chip& chip, Merge* merge, pk_kernel_choice* choice) {
  const pk_matrix& source = merge->descriptor.source;
  const auto tiles = [](int64_t extent) { return static_cast<double>(extent + kHaarWaraMergeTile - 1) / kHaarWaraMergeTile; };
  const bool possible = merge->plan.levels <= kHaarWaraMergeLevels && chip.shared_memory_per_block >= kHaarWaraMergeShared && tiles(source.rows) * tiles(source.columns) < INT32_MAX;
  const int32_t asked = merge->descriptor.algorithm, algorithm = asked != 0 ? asked : possible ? PK_HAAR_TILE : PK_HAAR_SIMT;
  if (algorithm != PK_HAAR_SIMT && algorithm != PK_HAAR_TILE) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic), %d (simt) or %d (tile)", operation, algorithm, PK_HAAR_SIMT, PK_HAAR_TILE);
  }
  if (algorithm == PK_HAAR_TILE && !possible) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (tile) takes up to %d levels, %" PRId64 " bytes of shared memory a block and %d tiles; got %d levels, and this chip has %" PRId64, operation,
                algorithm, kHaarWaraMergeLevels, kHaarWaraMergeShared, INT32_MAX, merge->plan.levels, chip.shared_memory_per_block);
  }
  const bool tile = algorithm == PK_HAAR_TILE;
  merge->plan.algorithm = algorithm;
  *choice = pk_kernel_choice{algorithm, 0, merge_steps(*merge, tile), {}};
  std::snprintf(choice->name, sizeof choice->name, "haar_wara_merge_%s", tile ? "tile" : "simt");
  return PK_OK;
}

int32_t run_merge(const char* operation, const pk_queue* queue, const pk_haar_wara_merge_descriptor* given, int32_t direction) {
  pk_queue known_queue;
  Merge merge;
  pk_kernel_choice choice;
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_merge(operation, given, true, &merge));
  const pk_matrix &source = merge.descriptor.source, &destination = merge.descriptor.destination;
  const bool in_place = source.data == destination.data && source.row_stride == destination.row_stride && source.column_stride == destination.column_stride;
  Operands operands;
  operands.output("destination", destination, 1);
  if (!in_place) operands.input("source", source, 1);
  inputs_of(&operands, merge.descriptor.adapter);
  PK_TRY_API(operands.check_disjoint(operation));
  PK_TRY_API(PK_DISPATCH(known_queue, queue_chip(&known_queue, &chip)));
  PK_TRY_API(pick_merge(operation, chip, &merge, &choice));
  return PK_DISPATCH(known_queue, haar_wara_merge(&known_queue, &merge.descriptor, &merge.plan, direction));
}

// Every `pick` of this file: `read` makes a call of the descriptor, `choose` the choice.
template <class Descriptor, class Read, class Choose>
int32_t pick(const char* operation, const pk_chip* chip, const Descriptor* given, pk_kernel_choice* choice, Read read, Choose choose) {
  Call<Descriptor> call;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  if (chip == nullptr || chip->size < sizeof(pk_chip)) return fail(PK_ERROR_VERSION, "%s: chip is null or of fewer than %zu bytes", operation, sizeof(pk_chip));
  PK_TRY_API(read(operation, given, false, &call));
  return choose(operation, *chip, &call, choice);
}

int32_t pick_forward(const char* operation, const pk_chip&, Forward* forward, pk_kernel_choice* choice) {
  return choose(operation, forward->descriptor.algorithm, "haar_wara_expand_simt", forward_steps(*forward), choice);
}

int32_t pick_backward(const char* operation, const pk_chip&, Backward* backward, pk_kernel_choice* choice) {
  return choose(operation, backward->descriptor.algorithm, "haar_wara_gradient_simt", backward_steps(*backward), choice);
}

}  // namespace
}  // namespace peft_kernels_api

using namespace peft_kernels_api;

extern "C" {

int32_t pk_haar_wara_forward(const pk_queue* queue, const pk_haar_wara_forward_descriptor* given) {
  const char* operation = "pk_haar_wara_forward";
  pk_queue known_queue;
  Forward forward;
  pk_kernel_choice choice;
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_forward(operation, given, true, &forward));
  PK_TRY_API(pick_forward(operation, chip, &forward, &choice));
  const pk_haar_wara_forward_descriptor& descriptor = forward.descriptor;
  const uint64_t needed = workspace_bytes(forward.plan, descriptor.x.rows, false);
  PK_TRY_API(check_workspace(operation, descriptor.workspace, descriptor.workspace_bytes, needed));
  Operands operands;
  operands.output("y", descriptor.y, 1);
  operands.output_bytes("workspace", descriptor.workspace, needed);
  operands.input("x", descriptor.x, 1);
  if (descriptor.base == PK_LORA_BASE_DENSE) operands.input("w", descriptor.w, 1);
  inputs_of(&operands, descriptor.adapter);
  PK_TRY_API(operands.check_disjoint(operation));
  PK_TRY_API(PK_DISPATCH(known_queue, queue_chip(&known_queue, &chip)));
  return PK_DISPATCH(known_queue, haar_wara_forward(&known_queue, &descriptor, &forward.plan));
}

int32_t pk_haar_wara_forward_workspace(const pk_haar_wara_forward_descriptor* given, uint64_t* bytes) {
  const char* operation = "pk_haar_wara_forward_workspace";
  Forward forward;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: bytes is null", operation);
  PK_TRY_API(read_forward(operation, given, false, &forward));
  *bytes = workspace_bytes(forward.plan, forward.descriptor.x.rows, false);
  return PK_OK;
}

int32_t pk_haar_wara_forward_pick(const pk_chip* chip, const pk_haar_wara_forward_descriptor* given, pk_kernel_choice* choice) {
  return pick("pk_haar_wara_forward_pick", chip, given, choice, read_forward, pick_forward);
}

int32_t pk_haar_wara_backward(const pk_queue* queue, const pk_haar_wara_backward_descriptor* given) {
  const char* operation = "pk_haar_wara_backward";
  pk_queue known_queue;
  Backward backward;
  pk_kernel_choice choice;
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_backward(operation, given, true, &backward));
  const pk_haar_wara_backward_descriptor& descriptor = backward.descriptor;
  PK_TRY_API(pick_backward(operation, chip, &backward, &choice));
  PK_TRY_API(check_workspace(operation, descriptor.workspace, descriptor.workspace_bytes, workspace_bytes(backward.plan, descriptor.x.rows, true)));
  PK_TRY_API(check_backward_disjoint(operation, backward));
  PK_TRY_API(PK_DISPATCH(known_queue, queue_chip(&known_queue, &chip)));
  return PK_DISPATCH(known_queue, haar_wara_backward(&known_queue, &descriptor, &backward.plan));
}

int32_t pk_haar_wara_backward_workspace(const pk_haar_wara_backward_descriptor* given, uint64_t* bytes) {
  const char* operation = "pk_haar_wara_backward_workspace";
  Backward backward;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: bytes is null", operation);
  PK_TRY_API(read_backward(operation, given, false, &backward));
  *bytes = workspace_bytes(backward.plan, backward.descriptor.x.rows, true);
  return PK_OK;
}

int32_t pk_haar_wara_backward_pick(const pk_chip* chip, const pk_haar_wara_backward_descriptor* given, pk_kernel_choice* choice) {
  return pick("pk_haar_wara_backward_pick", chip, given, choice, read_backward, pick_backward);
}

int32_t pk_haar_wara_merge(const pk_queue* queue, const pk_haar_wara_merge_descriptor* descriptor) { return run_merge("pk_haar_wara_merge", queue, descriptor, +1); }

int32_t pk_haar_wara_unmerge(const pk_queue* queue, const pk_haar_wara_merge_descriptor* descriptor) { return run_merge("pk_haar_wara_unmerge", queue, descriptor, -1); }

int32_t pk_haar_wara_merge_pick(const pk_chip* chip, const pk_haar_wara_merge_descriptor* given, pk_kernel_choice* choice) {
  return pick("pk_haar_wara_merge_pick", chip, given, choice, read_merge, pick_merge);
}

}  // extern "C"
