// Barriers in shared memory that count arrivals of threads and bytes of asynchronous copies.
#pragma once

#include "architecture.cuh"
#include "site.cuh"
#include "types.cuh"

#if PK_EMULATED
#include "../emulator/hopper.h"
#endif

namespace PK_BUILD {

// An mbarrier, a member of a kernel's struct of shared memory. A phase ends when `count` threads have arrived and all bytes that they announced have come; the next begins at once.
// Phases have parity 0, 1, 0, ...
class SharedBarrier {
 public:
  // mbarrier.init: by one thread, before a fence_barrier_initialization() of it and a barrier().
  PK_DEVICE void initialize(uint32_t count PK_COMMA_SITE) {
#if PK_EMULATED
    model_.initialize(count, pk_site);
#else
    PK_ASM_90("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(count) : "memory");
#endif
  }

  // mbarrier.arrive
  PK_DEVICE void arrive(PK_SITE) {
#if PK_EMULATED
    model_.arrive(0, pk_site);
#else
    PK_ASM_90("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(address()) : "memory");
#endif
  }

  // mbarrier.arrive.expect_tx: announces bytes of copies that will name this barrier, and arrives. Bytes are announced before their copy is issued.
  PK_DEVICE void arrive_expect(uint32_t bytes PK_COMMA_SITE) {
#if PK_EMULATED
    model_.arrive(bytes, pk_site);
#else
    PK_ASM_90("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(address()), "r"(bytes) : "memory");
#endif
  }

  // mbarrier.expect_tx: announces bytes without arriving.
  PK_DEVICE void expect(uint32_t bytes PK_COMMA_SITE) {
#if PK_EMULATED
    model_.expect(bytes, pk_site);
#else
    PK_ASM_90("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
#endif
  }

  // mbarrier.try_wait.parity, until the phase of this parity has ended: the current one, or the one before it.
  PK_DEVICE void wait(uint32_t parity PK_COMMA_SITE) {
#if PK_EMULATED
    model_.wait(parity, false, pk_site);
#else
    PK_ASM_90("{ .reg .pred ended; again: mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1; @!ended bra again; }" ::"r"(address()), "r"(parity) : "memory");
#endif
  }

  // mbarrier.try_wait.parity.acquire.cluster: the same where threads of other blocks arrive (cluster.cuh), in order to see what they did before.
  PK_DEVICE void wait_for_cluster(uint32_t parity PK_COMMA_SITE) {
#if PK_EMULATED
    model_.wait(parity, true, pk_site);
#else
    PK_ASM_90("{ .reg .pred ended; again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%0], %1; @!ended bra again; }" ::"r"(address()), "r"(parity) : "memory");
#endif
  }

#if PK_EMULATED
  BarrierModel& model() { return model_; }
#else
  PK_DEVICE uint32_t address() const { return static_cast<uint32_t>(__cvta_generic_to_shared(&word_)); }
#endif

 private:
#if PK_EMULATED
  BarrierModel model_;
#else
  uint64_t word_;
#endif
};

// fence.mbarrier_init: after this thread's initialize() calls, so that asynchronous copies see them too.
PK_DEVICE void fence_barrier_initialization() {
#if PK_EMULATED
  ++Block::current()->running().barrier_fences;
#else
  PK_ASM_90("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

}  // namespace PK_BUILD
