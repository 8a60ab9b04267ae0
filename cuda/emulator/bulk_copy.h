// The models of tensor maps and bulk copies.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../ptx/swizzle.cuh"
#include "hopper.h"
#include "operands.h"

namespace PK_BUILD {

struct TensorBox;

class TensorGeometry {
 public:
  // Refuses what the driver refuses, and swizzled boxes with lines shorter than the swizzle's.
  int32_t encode(const char* what, const TensorBox& from, uint32_t element_size);

  bool valid() const { return magic_ == magic; }
  uint32_t axes() const { return axes_; }
  uint32_t element_bytes() const { return element_bytes_; }
  uint32_t row_bytes() const { return box_[0] * element_bytes_; }
  uint32_t box_bytes() const { return row_bytes() * box_[1] * box_[2] * box_[3]; }
  Swizzle swizzle() const { return swizzle_; }
  // Visits the rows of the box at these coordinates: visit(the row's number in the box, address of its first element inside the tensor or null, elements before that, elements
  // inside).
  template <class F>
  void each_row(const int32_t* at, F visit) const;

 private:
  static constexpr uint32_t magic = 0x746d6170;

  char* data_;
  uint64_t strides_[3];
  uint32_t last_[4];  // extents less 1, which fit
  uint16_t box_[4];
  uint32_t axes_, element_bytes_, magic_;
  Swizzle swizzle_;
};

// As large and as aligned as the real one.
class alignas(64) TensorMap : public TensorGeometry {
  [[maybe_unused]] unsigned char rest_[56];
};
static_assert(sizeof(TensorMap) == 128, "as CUtensorMap");

template <class F>
void TensorGeometry::each_row(const int32_t* at, F visit) const {
  // Of axis 0, what lies inside the tensor.
  const int64_t extent = int64_t{last_[0]} + 1, first = at[0] < 0 ? -int64_t{at[0]} : 0, end = extent - at[0] < box_[0] ? extent - at[0] : box_[0];
  for (uint32_t row = 0, rows = box_[1] * box_[2] * box_[3]; row < rows; ++row) {
    const uint32_t step[3] = {row % box_[1], row / box_[1] % box_[2], row / box_[1] / box_[2]};
    bool inside = first < end;
    int64_t offset = (at[0] + first) * element_bytes_;
    for (uint32_t axis = 1; axis < axes_; ++axis) {
      const int64_t index = int64_t{at[axis]} + step[axis - 1];
      inside = inside && index >= 0 && index <= int64_t{last_[axis]};
      offset += index * static_cast<int64_t>(strides_[axis - 1]);
    }
    visit(row, inside ? data_ + offset : nullptr, inside ? static_cast<uint32_t>(first) : 0, inside ? static_cast<uint32_t>(end - first) : 0);
  }
}

// A copy from shared to global memory: it reads at some moment, and writes what it has read at a later one.
struct BulkStore {
  TensorGeometry map;
  int32_t at[4];
  char* to;  // of a line; null for a box
  uint32_t from, bytes, issuer;
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
void commit_stores(Site site);
void wait_for_stores(uint32_t pending, bool only_reads, Site site);

}  // namespace PK_BUILD
