// Whether an output shares an element with another operand. Decides on elements: matrices that interleave without meeting are disjoint.
#pragma once

#include <string>
#include <vector>

#include "../include/peft_kernels.h"

namespace peft_kernels_api {

// The operands of one call, by the names that errors give them.
class Operands {
 public:
  void input(std::string name, const pk_matrix& matrix, int64_t batches) { operands_.push_back({std::move(name), matrix, batches, false}); }
  void output(std::string name, const pk_matrix& matrix, int64_t batches) { operands_.push_back({std::move(name), matrix, batches, true}); }
  void input_bytes(std::string name, const void* data, uint64_t bytes) { input(std::move(name), of_bytes(data, bytes), 1); }
  void output_bytes(std::string name, const void* data, uint64_t bytes) { output(std::move(name), of_bytes(data, bytes), 1); }

  // PK_OK, or PK_ERROR_ARGUMENT that names the output whose batches share elements, or the two operands and the first byte that they share.
  int32_t check_disjoint(const char* operation) const;

 private:
  struct Operand {
    std::string name;
    pk_matrix matrix;
    int64_t batches;
    bool written;
  };

  static pk_matrix of_bytes(const void* data, uint64_t bytes);

  std::vector<Operand> operands_;
};

}  // namespace peft_kernels_api
