// Which kernels run a LoRA call, in how many parts, and the workspace that they need: pure functions of the descriptor and the chip.
#pragma once

#include <vector>

#include "../lora/algorithms.h"

namespace peft_kernels_api {

// A checked descriptor.
struct Forward {
  pk_lora_forward_descriptor descriptor;
  std::vector<pk_lora_target> targets;
  int64_t total_rank = 0;  // columns of the intermediates of all targets
};

// An operand that is read: of this type, and of these extents where they are not negative.
int32_t check_input(const char* operation, const char* argument, const pk_matrix& matrix, int64_t rows, int64_t columns, int32_t element_type, bool needs_data);

// A gradient: what becomes of it, and where it is asked for, these extents, this type and elements in places of their own.
int32_t check_gradient(const char* operation, const char* argument, const pk_matrix& matrix, int32_t mode, int64_t rows, int64_t columns, int32_t element_type, bool needs_data);

// Of a gradient that is not summed over batches.
int32_t check_batches_apart(const char* operation, const char* argument, const pk_matrix& matrix, int32_t mode, int64_t batches);

// A probability in [0, 1), and rows and columns that a generator's counter holds.
int32_t check_dropout(const char* operation, const pk_dropout& dropout, int64_t batches, const pk_matrix& x);

// Chips with the tensor cores and the shared memory of 8.0.
bool runs_on_tensor_cores(const pk_chip& chip);

// So many parts of `stages` of a pipeline that `blocks` become as many as are wanted, each with enough to do.
int32_t parts_of(double blocks, double wanted, int64_t stages);

// In how many parts of its depth a backward makes an intermediate [batches * m, rank] of a matrix [m, depth], so that they fill a large chip.
int32_t backward_planes_of(int64_t batches, const pk_matrix& left, int64_t rank);

// The plan, and what `pick` says of it.
int32_t plan_forward(const char* operation, const Forward& forward, const pk_chip& chip, LoraForwardPlan* plan, pk_kernel_choice* choice);

// The bytes that are enough for every plan on every chip.
uint64_t forward_workspace_bytes(const Forward& forward);

int32_t pick_merge(const char* operation, const pk_lora_merge_descriptor& descriptor, const pk_chip& chip, pk_kernel_choice* choice);

}  // namespace peft_kernels_api
