// The model of bulk copies.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "mbarrier.h"
#include "tensor_map.h"

namespace PK_BUILD {

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
