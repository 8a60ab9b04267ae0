// A list of adapters on the host, whose factors are in the queue's memory, as are the parts of what lies between them.
#pragma once

#include "overlap.h"

namespace peft_kernels_api {

// Of weights [n, k].
struct AdapterList {
  const pk_lora_adapter* adapters;
  int64_t count;
  int32_t element_type;
  int64_t n, k;
  const pk_lora_middle* middles = nullptr;  // or null: nothing between factors

  int32_t check(const char* operation, bool needs_data) const;
  void add_inputs(Operands& operands) const;
  int64_t largest_rank() const;
};

}  // namespace peft_kernels_api
