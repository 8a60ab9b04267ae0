#include "proxy.h"

#include <algorithm>

#include "cluster.h"

namespace PK_BUILD {

void UnfencedWrites::begin(Cluster& cluster, uint32_t threads) {
  cluster_ = &cluster;
  sites_ = &cluster.sites;
  memory_ = reinterpret_cast<uintptr_t>(cluster.memory);
  units_.resize(std::max(units_.size(), cluster.size * shared_arena_bytes / unit_bytes));
  if (fences_.size() < threads) fences_.resize(threads);
  for (uint32_t& fences : fences_) ++fences;
}

void UnfencedWrites::check(const void* address, uint32_t bytes, bool write, Site site) {
  const uint64_t begin = reinterpret_cast<uintptr_t>(address) - memory_;
  for (uint64_t number = begin / unit_bytes; number <= (begin + bytes - 1) / unit_bytes; ++number) {
    Unit& unit = units_[number];
    if (unit.fences == fences_[unit.thread] && unit.fences != 0) {
      const Site there = site_of_number(unit.site);
      Block::current()->fault(site, "%s shared memory asynchronously that %s wrote at %s:%d, and no fence_proxy_async() of that thread came after it", write ? "writes" : "reads",
                              cluster_->describe_thread(unit.thread).text, there.file, there.line);
    }
    if (write) unit.fences = 0;
  }
}

}  // namespace PK_BUILD
