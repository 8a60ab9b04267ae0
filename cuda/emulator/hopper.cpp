#include "hopper.h"

#include "block.h"

namespace PK_BUILD {

namespace {

std::string at_line(Site site) { return std::string(" at ") + site.file + ":" + std::to_string(site.line); }

}  // namespace

std::string Hopper::check_end() const {
  for (uint32_t i = 0; i < 16; ++i) {
    const NamedBarrier& barrier = named_barriers[i];
    if (barrier.arrived > 0) {
      return std::to_string(barrier.arrived) + " of " + std::to_string(barrier.expected) + " threads came to named barrier " + std::to_string(i) + ", the first" + at_line(barrier.site);
    }
  }
  for (uint32_t group = 0; group < register_counts.size(); group += 4) {
    for (uint32_t warp = group + 1; warp < group + 4 && warp < register_counts.size(); ++warp) {
      if (register_counts[warp] != register_counts[group]) return "the warps of warpgroup " + std::to_string(group / 4) + " changed their numbers of registers differently";
    }
  }
  return {};
}

void fence_proxy() {
  Block& block = *Block::current();
  block.unfenced_writes().fence(block.running().id);
}

void meet_at_named_barrier(uint32_t number, uint32_t threads, bool waits, Site site) {
  Block& block = *Block::current();
  block.access();
  NamedBarrier& barrier = block.hopper().named_barriers[number];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.site = site;
  } else if (barrier.expected != threads) {
    block.fault(site, "comes to named barrier %u for %u threads, others came for %u at %s:%d", number, threads, barrier.expected, barrier.site.file, barrier.site.line);
  }
  if (threads > block.extent.x) block.fault(site, "comes to named barrier %u for %u threads, the block has %u", number, threads, block.extent.x);
  const uint32_t generation = barrier.generation;
  if (Races* races = block.races()) races->release(&barrier);
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
    block.changed();
  }
  if (!waits) return;
  block.wait_until("named_barrier", [&] { return barrier.generation != generation; }, site);
  if (Races* races = block.races()) races->acquire(&barrier);
}

void set_register_count(uint32_t count, Site site) {
  Block& block = *Block::current();
  block.collective(all_lanes, "set_register_count", [](void* const*) {}, nullptr, site);
  const uint32_t thread = block.thread_index();
  if (thread % 32 != 0) return;
  std::vector<std::vector<uint32_t>>& counts = block.hopper().register_counts;
  counts.resize(block.extent.x / 32 + 1);
  counts[thread / 32].push_back(count);
}

}  // namespace PK_BUILD
