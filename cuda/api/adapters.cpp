#include "adapters.h"

#include <algorithm>

#include "check.h"

namespace peft_kernels_api {
namespace {

pk_matrix factor_a(const AdapterList& list, const pk_lora_adapter& adapter) {
  return {const_cast<void*>(adapter.a), adapter.rank, list.k, adapter.a_row_stride, adapter.a_column_stride, 0, list.element_type, 0};
}

pk_matrix factor_b(const AdapterList& list, const pk_lora_adapter& adapter) {
  return {const_cast<void*>(adapter.b), list.n, adapter.rank, adapter.b_row_stride, adapter.b_column_stride, 0, list.element_type, 0};
}

}  // namespace

int32_t AdapterList::check(const char* operation, bool needs_data) const {
  if (count < 0 || count > PK_LORA_MERGE_ADAPTERS) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " adapters, expected 0 to %d", operation, count, PK_LORA_MERGE_ADAPTERS);
  if (count > 0 && adapters == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: adapters is null", operation);
  for (int64_t i = 0; i < count; ++i) {
    const pk_lora_adapter& adapter = adapters[i];
    if (adapter.rank < 0) return fail(PK_ERROR_ARGUMENT, "%s: adapter %" PRId64 " has rank %d, expected at least 0", operation, i, adapter.rank);
    const pk_matrix a = factor_a(*this, adapter), b = factor_b(*this, adapter);
    PK_TRY_API(check_matrix(operation, "a", a, -1, -1));
    PK_TRY_API(check_matrix(operation, "b", b, -1, -1));
    if (needs_data) {
      PK_TRY_API(check_data(operation, "a", a));
      PK_TRY_API(check_data(operation, "b", b));
    }
  }
  return PK_OK;
}

void AdapterList::add_inputs(Operands& operands) const {
  for (int64_t i = 0; i < count; ++i) {
    operands.input("a", factor_a(*this, adapters[i]), 1);
    operands.input("b", factor_b(*this, adapters[i]), 1);
  }
}

int64_t AdapterList::largest_rank() const {
  int64_t rank = 0;
  for (int64_t i = 0; i < count; ++i) rank = std::max<int64_t>(rank, adapters[i].rank);
  return rank;
}

}  // namespace peft_kernels_api
