#include "adapters.h"

#include <algorithm>

#include "../lora/algorithms.h"
#include "check.h"
#include "lora_middle.h"

namespace peft_kernels_api {
namespace {

LoraListedAdapter listed(const AdapterList& list, int64_t i) {
  return lora_listed_adapter(list.adapters[i], list.middles != nullptr ? list.middles + i : nullptr, list.n, list.k, list.element_type);
}

// What a token chooses is no part of a weight; and factors are made in the workspace, whose size can be counted.
int32_t check_listed_middle(const char* operation, int64_t i, const LoraListedAdapter& adapter, bool needs_data) {
  if ((adapter.middle.has & PK_LORA_MIDDLE_GATE) != 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: the middle of adapter %" PRId64 " has a gate, which belongs to tokens, expected none", operation, i);
  }
  PK_TRY_API(check_middle(operation, adapter.middle, adapter.a, adapter.b, 1, 0, adapter.adapter_element_type, needs_data));
  const double rank = static_cast<double>(std::max(adapter.a.rows, adapter.b.columns)), columns = static_cast<double>(std::max(adapter.a.columns, adapter.b.rows));
  if (rank * columns <= static_cast<double>(INT64_C(1) << 48)) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: adapter %" PRId64 " beside a middle has %.0f ranks of %.0f elements, expected a product of at most 2^48", operation, i, rank, columns);
}

}  // namespace

int32_t AdapterList::check(const char* operation, bool needs_data) const {
  if (count < 0 || count > PK_LORA_MERGE_ADAPTERS) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " adapters, expected 0 to %d", operation, count, PK_LORA_MERGE_ADAPTERS);
  if (count > 0 && adapters == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: adapters is null", operation);
  for (int64_t i = 0; i < count; ++i) {
    const pk_lora_adapter& adapter = adapters[i];
    if (adapter.rank < 0) return fail(PK_ERROR_ARGUMENT, "%s: adapter %" PRId64 " has rank %d, expected at least 0", operation, i, adapter.rank);
    const LoraListedAdapter parts = listed(*this, i);
    PK_TRY_API(check_matrix(operation, "a", parts.a, -1, -1));
    PK_TRY_API(check_matrix(operation, "b", parts.b, -1, -1));
    if (needs_data) {
      PK_TRY_API(check_data(operation, "a", parts.a));
      PK_TRY_API(check_data(operation, "b", parts.b));
    }
    if (middles != nullptr) PK_TRY_API(check_listed_middle(operation, i, parts, needs_data));
  }
  return PK_OK;
}

void AdapterList::add_inputs(Operands& operands) const {
  for (int64_t i = 0; i < count; ++i) {
    const LoraListedAdapter parts = listed(*this, i);
    operands.input("a", parts.a, 1);
    operands.input("b", parts.b, 1);
    add_middle(operands, parts.middle, 1);
  }
}

int64_t AdapterList::largest_rank() const {
  int64_t rank = 0;
  for (int64_t i = 0; i < count; ++i) rank = std::max<int64_t>(rank, adapters[i].rank);
  return rank;
}

}  // namespace peft_kernels_api
