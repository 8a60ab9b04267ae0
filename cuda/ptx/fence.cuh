// Order between what threads do and what asynchronous units do.
#pragma once

#include "architecture.cuh"
#include "site.cuh"

namespace PK_BUILD {

// fence.proxy.async: makes this thread's ordinary accesses of shared memory so far come before later ones of bulk copies and wgmma. Then the threads meet at a barrier.
PK_DEVICE void fence_proxy_async() {
#if PK_EMULATED
  Block::current()->unfenced.fence(Block::current()->running().id);
#else
  PK_ASM_90("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

}  // namespace PK_BUILD
