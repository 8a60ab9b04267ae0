// What a launch may touch in global memory: the elements of its operands, and nothing between them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../include/peft_kernels.h"
#include "site.h"

namespace PK_BUILD {

enum class Right : uint8_t { read = 1, write = 2, read_write = 3 };

// Contiguous runs of bytes, repeated along at most three strided axes.
struct Operand {
  struct Axis {
    uint64_t count, stride;  // stride in bytes, larger than what the axes below it span
    const char* name;
  };

  std::string name, shape;
  Right right;
  uintptr_t begin;
  uint64_t element_bytes, run_bytes, span;  // span: from the first byte to behind the last
  bool contended = false;  // a block may write what another touches
  bool watched = false;    // accesses of it are counted, or looked at for races
  int axis_count = 0;
  Axis axes[3]{};

  bool allows(Right wanted) const { return (static_cast<int>(right) & static_cast<int>(wanted)) == static_cast<int>(wanted); }
  // Finds the run that holds all the bytes at `address`.
  bool find_run(uintptr_t address, uint64_t bytes, uintptr_t* run_begin) const;
};

class Operands {
 public:
  void read(const char* name, const pk_matrix& matrix, int64_t batch_count) { add(name, matrix, batch_count, Right::read); }
  void write(const char* name, const pk_matrix& matrix, int64_t batch_count) { add(name, matrix, batch_count, Right::write); }
  void read_write(const char* name, const pk_matrix& matrix, int64_t batch_count) { add(name, matrix, batch_count, Right::read_write); }

  void read_bytes(const char* name, const void* begin, uint64_t bytes) { add(name, begin, bytes, Right::read); }
  void write_bytes(const char* name, const void* begin, uint64_t bytes) { add(name, begin, bytes, Right::write); }
  void read_write_bytes(const char* name, const void* begin, uint64_t bytes) { add(name, begin, bytes, Right::read_write); }

  // Operands that are named by a table in device memory: the table where the host can read it, as here, and null on a device.
  template <class T>
  const T* visible(const T* table) const {
    return table;
  }

  std::vector<Operand> all;

 private:
  void add(const char* name, const pk_matrix& matrix, int64_t batch_count, Right right);
  void add(const char* name, const void* begin, uint64_t bytes, Right right);
};

// Of all operands of launches that run together: those that a block may write while another touches them.
void find_contended(const std::vector<Operand*>& operands);

// "byte 8 of x [2, 3]"
std::string describe_address(const std::vector<Operand>& operands, uintptr_t address);
// The sentence about an access that no operand allows.
std::string describe_access(const std::vector<Operand>& operands, uintptr_t address, uint64_t bytes, Right wanted);

}  // namespace PK_BUILD
