// The models of tensor maps and bulk copies.
#pragma once

#include <cstdint>
#include <vector>

#include "../ptx/tensor_box.cuh"
#include "hopper.h"
#include "operands.h"

namespace PK_BUILD {

// As large and as aligned as the real one.
struct alignas(64) TensorMap {
  // Refuses what the driver refuses, and swizzled boxes with lines shorter than the swizzle's.
  int32_t encode(const char* what, const TensorBox& from, uint32_t element_size);

  static constexpr uint32_t valid = 0x746d6170;
  TensorBox tensor;
  uint32_t element_bytes, magic;
};
static_assert(sizeof(TensorMap) == 128, "as CUtensorMap");

// What one copy moves: a box at a place in its tensor, along axis 0 in bytes. A line is a box of one row.
struct CopiedBox {
  TensorBox tensor;
  int64_t at[4];

  CopiedBox(const TensorMap& map, const int32_t* coordinates);
  CopiedBox(const void* line, uint32_t bytes) : tensor{line, 1, {bytes}, {}, {bytes}, Swizzle::none}, at{} {}
  uint32_t bytes() const;
  // All of it that lies inside the tensor must be elements of an operand with this right.
  void check(Right wanted, Site site) const;
  // Visits the rows of the box: visit(where it begins in a packed box, address of its first byte inside the tensor or null, bytes before that, bytes inside).
  template <class F>
  void each_row(F visit) const;
};

// A copy from shared to global memory: it reads at some moment, and writes what it has read at a later one.
struct BulkStore {
  CopiedBox box;
  char* from;
  uint32_t issuer;
  Site site;
  bool is_read = false, is_written = false;
  std::vector<char> data{};

  void read();
  void write();
};

// Into the blocks of the cluster that `ranks` has a bit for, or where it is 0, the own one.
void load_box(uint32_t to, const TensorMap& map, uint32_t axes, const int32_t* at, BarrierModel& barrier, uint32_t ranks, Site site);
void store_box(uint32_t from, const TensorMap& map, uint32_t axes, const int32_t* at, Site site);
void load_line(uint32_t to, const void* from, uint32_t bytes, BarrierModel& barrier, Site site);
void store_line(void* to, uint32_t from, uint32_t bytes, Site site);
// From this block's shared memory into that of the block which has `to` and `barrier`.
void copy_line(char* to, uint32_t from, uint32_t bytes, BarrierModel& barrier, Site site);
void wait_for_stores(uint32_t pending, bool only_reads, Site site);

}  // namespace PK_BUILD
