// The model of wgmma: an operation of four warps, which begins when the last of them issues it and has ended when one of them has waited for it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <tuple>
#include <vector>

#include "ampere.h"
#include "site.h"

namespace PK_BUILD {

class AccumulatorModel;

struct WgmmaCall {
  uint32_t columns;
  MatrixType type;
  bool a_is_mn_major, b_is_mn_major, a_in_registers, accumulate;
  uint64_t a, b;  // descriptors
  Site site;
  // Of one thread:
  AccumulatorModel* accumulator;
  const uint32_t* a_registers;

  auto key() const { return std::make_tuple(columns, type, a_is_mn_major, b_is_mn_major, a_in_registers, accumulate, a, b, site.line); }
  bool operator!=(const WgmmaCall& other) const { return key() != other.key() || site != other.site; }
};

struct AccumulatorTile;

// The accumulator registers of one thread, and who may touch them.
class AccumulatorModel {
 public:
  AccumulatorModel(float* registers, uint32_t register_count, Site created);
  ~AccumulatorModel();

  // An ordinary instruction reads or writes one.
  void touch(int i, Site here);

  float* values;
  uint32_t count;
  AccumulatorTile* tile = nullptr;  // while in a wgmma that this warp has not waited for
  const uint64_t* fences;        // of its warp
  uint64_t touched_after_fence;  // how many there were when one of them was touched last
  Site site;                     // of the last wgmma
};

// The accumulators of one warp while wgmmas work on them: its 16 rows.
struct AccumulatorTile : std::enable_shared_from_this<AccumulatorTile> {
  AccumulatorModel* of_lane[32] = {};
  uint32_t under_way = 0;  // wgmmas
  std::vector<float> values;
};

struct WgmmaOperation {
  WgmmaCall call{};
  uint32_t warps = 0;   // that have issued it
  uint32_t issuer = 0;  // the last thread to do so
  std::shared_ptr<AccumulatorTile> tiles[4];
  std::vector<uint32_t> a;  // in registers: four of each thread
};

// Four neighbouring warps, the first a multiple of four.
class Warpgroup {
 public:
  struct Warp {
    uint64_t issued = 0, retired = 0;  // wgmmas; retired: waited for
    uint64_t fences = 0, fences_before_group = 0;
    std::deque<uint64_t> groups;  // of those not waited for: how many wgmmas were issued when they were committed
  };
  Warp warps[4];

  // On a fiber of a warp, the last of its lanes to arrive.
  void issue(void* const* calls);
  void retire(uint64_t end);
  // Of the warp that is behind the others.
  uint64_t least(uint64_t Warp::*count) const;

 private:
  void run_before(uint64_t end);

  std::deque<WgmmaOperation> operations_;  // that some warp has not waited for
  uint64_t first_ = 0, run_ = 0, ended_ = 0;  // numbers of operations: the first of these, the first that has not run, the first that nobody has waited for
};

void fence_wgmma(Site site);
void issue_wgmma(WgmmaCall call);
void commit_wgmma(Site site);
void wait_for_wgmma(uint32_t pending, Site site);

}  // namespace PK_BUILD
