// Which bytes of shared memory threads have written without a fence between that and an asynchronous access: bulk copies and wgmma reach memory another way, and may find what was there
// before.
#pragma once

#include <cstdint>
#include <vector>

#include "shared_races.h"
#include "site.h"

namespace PK_BUILD {

class Block;

class UnfencedWrites {
 public:
  void begin_block(const char* memory, uint32_t threads);

  // An ordinary write. Of those of one unit, the last counts.
  void note(const void* address, uint32_t bytes, uint32_t thread, Site site) {
    const auto begin = static_cast<uint32_t>(static_cast<const char*>(address) - memory_);
    for (uint32_t unit = begin / unit_bytes; unit <= (begin + bytes - 1) / unit_bytes; ++unit) units_[unit] = {fences_[thread], static_cast<uint16_t>(thread), sites_.of(site)};
  }
  void fence(uint32_t thread) { ++fences_[thread]; }

  // An asynchronous access is issued. After a write, what is there has come the other way.
  void check(Block& block, const void* address, uint32_t bytes, bool write, Site site);

 private:
  static constexpr uint32_t unit_bytes = 16, arena_bytes = 512 * 1024;
  struct Unit {
    uint32_t fences;  // of the thread when it wrote; 0: not written
    uint16_t thread, site;
  };
  const char* memory_ = nullptr;
  std::vector<Unit> units_;
  std::vector<uint32_t> fences_;  // of each thread; they go on from block to block, so that what earlier ones left behind counts as fenced
  SiteNumbers sites_;
};

}  // namespace PK_BUILD
