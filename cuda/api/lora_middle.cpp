// What lies between A and B: what is checked of it.
#include "lora_middle.h"

#include <algorithm>
#include <vector>

#include "check.h"
#include "lora_plan.h"

namespace peft_kernels_api {
namespace {

constexpr uint32_t kLists = PK_LORA_MIDDLE_RANKS | PK_LORA_MIDDLE_HOST_RANKS;
constexpr uint32_t kKnown = kLists | PK_LORA_MIDDLE_SCALE | PK_LORA_MIDDLE_GATE | PK_LORA_MIDDLE_CORE;

// Every entry of a list in host memory names a rank, and another one than those before.
int32_t check_host_ranks(const char* operation, const pk_lora_middle& middle, int64_t rank) {
  std::vector<int32_t> sorted(middle.ranks, middle.ranks + middle.rank_count);
  for (int64_t i = 0; i < middle.rank_count; ++i) {
    if (middle.ranks[i] < 0 || middle.ranks[i] >= rank) {
      return fail(PK_ERROR_ARGUMENT, "%s: entry %" PRId64 " of the list of ranks is %d, expected 0 to %" PRId64, operation, i, middle.ranks[i], rank - 1);
    }
  }
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice == sorted.end()) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: the list of ranks has %d more than once, expected each rank once", operation, *twice);
}

int32_t check_list(const char* operation, const pk_lora_middle& middle, const pk_matrix& a, const pk_matrix& b, int64_t batches, bool needs_data) {
  const double most = static_cast<double>(INT64_C(1) << 48), columns = static_cast<double>(std::max(a.columns, b.rows)) * static_cast<double>(batches);
  if (middle.rank_count < 0 || middle.rank_count > INT32_MAX || static_cast<double>(middle.rank_count) * columns > most) {
    return fail(PK_ERROR_ARGUMENT, "%s: a list of %" PRId64 " ranks of %.0f elements, expected at least 0 and less than 2^31, and a product of at most 2^48", operation, middle.rank_count, columns);
  }
  const bool host = (middle.has & PK_LORA_MIDDLE_HOST_RANKS) != 0;
  if (middle.rank_count > 0 && middle.ranks == nullptr && (needs_data || host)) return fail(PK_ERROR_ARGUMENT, "%s: the list of ranks is null", operation);
  if (host && middle.rank_count > a.rows) {
    return fail(PK_ERROR_ARGUMENT, "%s: a list of %" PRId64 " ranks of an adapter of rank %" PRId64 ", expected each rank once", operation, middle.rank_count, a.rows);
  }
  if (host) return check_host_ranks(operation, middle, a.rows);
  return check_pointer(operation, "middle.ranks", middle.ranks, alignof(int32_t));
}

}  // namespace

int32_t check_middle(const char* operation, const pk_lora_middle& middle, const pk_matrix& a, const pk_matrix& b, int64_t batches, int64_t m, int32_t adapter_element_type, bool needs_data) {
  if ((middle.has & ~kKnown) != 0 || (middle.has & kLists) == kLists) {
    return fail(PK_ERROR_ARGUMENT, "%s: middle.has is %#x, expected a subset of %#x with at most one of %#x and %#x", operation, middle.has, kKnown, PK_LORA_MIDDLE_RANKS, PK_LORA_MIDDLE_HOST_RANKS);
  }
  const bool listed = (middle.has & kLists) != 0, core = (middle.has & PK_LORA_MIDDLE_CORE) != 0;
  if (listed && core) return fail(PK_ERROR_ARGUMENT, "%s: a middle has both a list of ranks and a core, expected at most one", operation);
  if (a.rows > INT32_MAX || b.columns > INT32_MAX) {
    return fail(PK_ERROR_ARGUMENT, "%s: an adapter with a middle has ranks %" PRId64 " and %" PRId64 ", expected at most 2^31 - 1", operation, a.rows, b.columns);
  }
  if (listed) PK_TRY_API(check_list(operation, middle, a, b, batches, needs_data));
  if ((middle.has & PK_LORA_MIDDLE_SCALE) != 0) PK_TRY_API(check_input(operation, "middle.scale", middle.scale, 1, a.rows, adapter_element_type, needs_data));
  if ((middle.has & PK_LORA_MIDDLE_GATE) != 0) PK_TRY_API(check_input(operation, "middle.gate", middle.gate, m, a.rows, PK_F32, needs_data));
  return core ? check_input(operation, "middle.core", middle.core, b.columns, a.rows, adapter_element_type, needs_data) : PK_OK;
}

void add_middle(Operands& operands, const pk_lora_middle& middle, int64_t batches) {
  if ((middle.has & PK_LORA_MIDDLE_RANKS) != 0) operands.input_bytes("middle.ranks", middle.ranks, static_cast<uint64_t>(middle.rank_count) * sizeof(int32_t));
  if ((middle.has & PK_LORA_MIDDLE_SCALE) != 0) operands.input("middle.scale", middle.scale, batches);
  if ((middle.has & PK_LORA_MIDDLE_GATE) != 0) operands.input("middle.gate", middle.gate, batches);
  if ((middle.has & PK_LORA_MIDDLE_CORE) != 0) operands.input("middle.core", middle.core, batches);
}

}  // namespace peft_kernels_api
