#include "mbarrier.h"

#include "block.h"
#include "hopper.h"

namespace PK_BUILD {

// A thread names the barrier: its initialisation must be ordered before.
void BarrierModel::check(const char* what, Site site) const {
  Block::current()->touch_shared(&word_, sizeof word_, false, site);
  if (word_ != initialised) Block::current()->fault(site, "%s a barrier that is not initialised, or was overwritten", what);
}

void BarrierModel::initialize(uint32_t count, Site site) {
  Block& block = *Block::current();
  block.access();
  if (count == 0 || count > most) block.fault(site, "initialises a barrier for %u arrivals, which is not within 1 and %u", count, most);
  if (word_ == initialised) block.fault(site, "initialises a barrier again, which was initialised at %s:%d", site_.file, site_.line);
  block.touch_shared(&word_, sizeof word_, true, site);
  word_ = initialised;
  count_ = pending_ = count;
  announced_ = issued_ = phase_ = 0;
  initialiser_ = block.thread_index();
  fenced_ = false;
  site_ = site;
  block.hopper().barriers.push_back(this);
}

void BarrierModel::fence_initialization() {
  Block& block = *Block::current();
  for (BarrierModel* barrier : block.hopper().barriers) {
    if (barrier->initialiser_ == block.thread_index()) barrier->fenced_ = true;
  }
}

void BarrierModel::announce(uint32_t bytes, Site site) {
  if (bytes > most - announced_) Block::current()->fault(site, "announces %u bytes to a barrier that waits for %u, and can count %u", bytes, announced_, most);
  announced_ += bytes;
}

void BarrierModel::end_phase_if_complete() {
  if (pending_ > 0 || announced_ > 0) return;
  ++phase_;
  pending_ = count_;
  Block::current()->changed();
}

void BarrierModel::arrive(uint32_t bytes, Site site) {
  Block::current()->access();
  check("arrives at", site);
  if (pending_ == 0) {
    Block::current()->fault(site, "arrives at a barrier whose %u arrivals have all come, and which still waits for %u bytes: the phase before was not waited for", count_, announced_);
  }
  if (Block::current()->shared_races().on()) Block::current()->shared_races().release(this);
  announce(bytes, site);
  --pending_;
  end_phase_if_complete();
}

void BarrierModel::expect(uint32_t bytes, Site site) {
  Block::current()->access();
  check("announces bytes to", site);
  announce(bytes, site);
}

void BarrierModel::wait(uint32_t parity, Site site) {
  Block& block = *Block::current();
  block.access();
  check("waits at", site);
  if (parity > 1) block.fault(site, "waits for parity %u, which is neither 0 nor 1", parity);
  struct Condition {
    const BarrierModel* barrier;
    uint32_t parity;
  } condition{this, parity};
  block.wait_until(
      "SharedBarrier::wait",
      [](void* argument) {
        const auto* of = static_cast<const Condition*>(argument);
        return of->barrier->phase_ % 2 != of->parity;
      },
      &condition, site);
  if (block.shared_races().on()) block.shared_races().acquire(this);
}

void BarrierModel::copy_issued(uint32_t bytes, Site site) {
  check("names", site);
  if (!fenced_) {
    Block::current()->fault(site, "names a barrier whose initialisation at %s:%d no fence_barrier_initialization() of thread %u followed", site_.file, site_.line, initialiser_);
  }
  if (bytes > announced_ - issued_) {
    Block::current()->fault(site, "copies %u bytes of which its barrier expects %u: too few were announced, or not before the copy", bytes, announced_ - issued_);
  }
  issued_ += bytes;
}

void BarrierModel::copy_landed(uint32_t bytes) {
  issued_ -= bytes;
  announced_ -= bytes;
  end_phase_if_complete();
}

}  // namespace PK_BUILD
