#include "proxy.h"

#include "block.h"

namespace PK_BUILD {

void UnfencedWrites::begin_block(const char* memory, uint32_t threads) {
  memory_ = memory;
  if (units_.empty()) units_.resize(arena_bytes / unit_bytes);
  if (fences_.size() < threads) fences_.resize(threads);
  for (uint32_t& fences : fences_) ++fences;
}

void UnfencedWrites::check(Block& block, const void* address, uint32_t bytes, bool write, Site site) {
  const auto begin = static_cast<uint32_t>(static_cast<const char*>(address) - memory_);
  for (uint32_t number = begin / unit_bytes; number <= (begin + bytes - 1) / unit_bytes; ++number) {
    Unit& unit = units_[number];
    if (unit.fences == fences_[unit.thread] && unit.fences != 0) {
      const Site there = site_of_number(unit.site);
      block.fault(site, "%s shared memory asynchronously that thread %u wrote at %s:%d, and no fence_proxy_async() of that thread came after it", write ? "writes" : "reads", unit.thread,
                  there.file, there.line);
    }
    if (write) unit.fences = 0;
  }
}

}  // namespace PK_BUILD
