#include "hopper.h"

#include "cluster.h"

namespace PK_BUILD {

void Hopper::check_end() const {
  Block& block = *Block::current();
  for (const NamedBarrier& barrier : named_barriers) {
    if (barrier.arrived == 0) continue;
    block.fault(barrier.site, "%u of %u threads came to named barrier %d, the first at this line", barrier.arrived, barrier.expected, static_cast<int>(&barrier - named_barriers));
  }
  for (uint32_t warp = 0; warp < block.extent.x / 32; ++warp) {
    if (register_counts[warp] != register_counts[warp / 4 * 4]) block.fault(register_site, "the warps of warpgroup %u changed their numbers of registers differently", warp / 4);
  }
}

void meet_at_named_barrier(uint32_t number, uint32_t threads, bool waits, Site site) {
  Block& block = *Block::current();
  block.access();
  NamedBarrier& barrier = block.hopper.named_barriers[number];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.site = site;
  } else if (barrier.expected != threads) {
    block.fault(site, "comes to named barrier %u for %u threads, others came for %u at %s:%d", number, threads, barrier.expected, barrier.site.file, barrier.site.line);
  }
  if (threads > block.extent.x) block.fault(site, "comes to named barrier %u for %u threads, the block has %u", number, threads, block.extent.x);
  const uint32_t generation = barrier.generation;
  if (Races* races = block.races) races->release(&barrier);
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
    block.changed();
  }
  if (!waits) return;
  block.wait_until("named_barrier", [&] { return barrier.generation != generation; }, site);
  if (Races* races = block.races) races->acquire(&barrier);
}

void set_register_count(uint32_t count, Site site) {
  Block& block = *Block::current();
  block.hopper.register_site = site;
  block.collective(
      all_lanes, "set_register_count",
      [](void* const* records) {
        Block::current()->hopper.register_counts[Block::current()->thread_index() / 32].push_back(of_lane<uint32_t>(records, 0));
      },
      &count, site, Meets::whole);
}

// ---- barriers in shared memory ----------------------------------------------------------------------------------------------------------------------------------

bool BarrierModel::is_own() const { return rank_of_address(this) == Block::current()->rank; }

// A thread names the barrier: its initialisation must be ordered before.
void BarrierModel::check(const char* what, Site site) const {
  check_remote(rank_of_address(this), site);
  if (Races* races = Block::current()->races) races->access(&word_, sizeof word_, Access::read, site);
  if (word_ != initialised) Block::current()->fault(site, "%s a barrier that is not initialised, or was overwritten", what);
}

void BarrierModel::initialize(uint32_t count, Site site) {
  Block& block = *Block::current();
  block.access();
  if (count == 0 || count > most) block.fault(site, "initialises a barrier for %u arrivals, which is not within 1 and %u", count, most);
  if (word_ == initialised) block.fault(site, "initialises a barrier again, which was initialised at %s:%d", site_.file, site_.line);
  if (Races* races = block.races) races->access(&word_, sizeof word_, Access::write, site);
  word_ = initialised;
  count_ = pending_ = count;
  announced_ = issued_ = phase_ = 0;
  initialiser_ = block.thread_index();
  initialised_after_ = block.running().barrier_fences;
  site_ = site;
}

void BarrierModel::announce(uint32_t bytes, Site site) {
  if (bytes > static_cast<uint32_t>(static_cast<int32_t>(most) - announced_)) {
    Block::current()->fault(site, "announces %u bytes to a barrier that waits for %d, and can count %u", bytes, announced_, most);
  }
  announced_ += static_cast<int32_t>(bytes);
}

void BarrierModel::end_phase_if_complete(Site site) {
  if (pending_ > 0 || announced_ > 0) return;
  if (announced_ < 0) Block::current()->fault(site, "ends a phase of a barrier to which %d bytes more have come than were announced", -announced_);
  ++phase_;
  pending_ = count_;
  Block::current()->changed();
}

void BarrierModel::arrive(uint32_t bytes, Site site) {
  Block& block = *Block::current();
  block.access();
  check("arrives at", site);
  if (pending_ == 0) {
    block.fault(site, "arrives at a barrier whose %u arrivals have all come, and which still waits for %d bytes: the phase before was not waited for", count_, announced_);
  }
  note_remote(this, site);
  if (Races* races = block.races) races->release(is_own() ? static_cast<const void*>(this) : guard_);
  announce(bytes, site);
  --pending_;
  end_phase_if_complete(site);
}

void BarrierModel::expect(uint32_t bytes, Site site) {
  Block::current()->access();
  check("announces bytes to", site);
  announce(bytes, site);
}

void BarrierModel::wait(uint32_t parity, bool for_cluster, Site site) {
  Block& block = *Block::current();
  block.access();
  check("waits at", site);
  if (parity > 1) block.fault(site, "waits for parity %u, which is neither 0 nor 1", parity);
  block.wait_until("SharedBarrier::wait", [&] { return phase_ % 2 != parity; }, site);
  if (block.races != nullptr) block.races->acquire(this);
  if (block.races != nullptr && for_cluster) block.races->acquire(guard_);
}

void BarrierModel::copy_issued(uint32_t bytes, bool by_own_block, Site site) {
  check("names", site);
  if (Block::current()->cluster.blocks[rank_of_address(this)]->threads[initialiser_].barrier_fences == initialised_after_) {
    Block::current()->fault(site, "names a barrier whose initialisation at %s:%d no fence_barrier_initialization() of thread %u followed", site_.file, site_.line, initialiser_);
  }
  if (!by_own_block) return;
  const int32_t expected = announced_ - static_cast<int32_t>(issued_);
  if (static_cast<int32_t>(bytes) > expected) {
    Block::current()->fault(site, "copies %u bytes of which its barrier expects %d: too few were announced, or not before the copy", bytes, expected);
  }
  issued_ += bytes;
}

void BarrierModel::copy_landed(uint32_t bytes, bool by_own_block, Site site) {
  if (by_own_block) issued_ -= bytes;
  announced_ -= static_cast<int32_t>(bytes);
  end_phase_if_complete(site);
}

}  // namespace PK_BUILD
