// Which bytes of shared memory threads have written without a fence between that and an asynchronous access: bulk copies and wgmma reach memory another way, and may find what was there
// before.
#pragma once

#include <cstdint>
#include <vector>

#include "global_races.h"
#include "site.h"

namespace PK_BUILD {

struct Cluster;

// Of a cluster.
class UnfencedWrites {
 public:
  void begin(Cluster& cluster, uint32_t threads);

  // An ordinary write. Of those of one unit, the last counts.
  void note(const void* address, uint32_t bytes, uint32_t thread, Site site) {
    const uint64_t begin = reinterpret_cast<uintptr_t>(address) - memory_;
    for (uint64_t unit = begin / unit_bytes; unit <= (begin + bytes - 1) / unit_bytes; ++unit) units_[unit] = {fences_[thread], static_cast<uint16_t>(thread), sites_->of(site)};
  }
  void fence(uint32_t thread) { ++fences_[thread]; }

  // An asynchronous access is issued. After a write, what is there has come the other way.
  void check(const void* address, uint32_t bytes, bool write, Site site);

 private:
  struct Unit {
    uint32_t fences;  // of the thread when it wrote; 0: not written
    uint16_t thread, site;
  };
  Cluster* cluster_ = nullptr;
  SiteNumbers* sites_ = nullptr;
  uintptr_t memory_ = 0;
  std::vector<Unit> units_;
  std::vector<uint32_t> fences_;  // of each thread; they go on from block to block, so that what earlier ones left behind counts as fenced
};

}  // namespace PK_BUILD
