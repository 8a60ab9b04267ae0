// Copies from global to shared memory that a thread issues and later waits for.
#pragma once

#include "memory.cuh"
#if PK_EMULATED
#include "../emulator/ampere.h"
#endif

namespace PK_BUILD {

// cp.async of 4, 8 or 16 bytes to target[index ...], aligned to their number in both memories. Bytes from `valid_bytes` on are not read but written as zero. Nothing may touch the target
// until this thread has waited for its group, nor another thread until a barrier after that.
template <int BYTES, class T, int COUNT, int ALIGNMENT>
PK_DEVICE void copy_async(SharedArray<T, COUNT, ALIGNMENT>& target, uint32_t index, const T* source, uint32_t valid_bytes = BYTES PK_COMMA_SITE) {
  static_assert((BYTES == 4 || BYTES == 8 || BYTES == 16) && BYTES % sizeof(T) == 0 && ALIGNMENT % BYTES == 0, "a copy moves 4, 8 or 16 bytes");
#if PK_EMULATED
  copy_async(target.at(index, BYTES / sizeof(T), pk_site), source, BYTES, valid_bytes, pk_site);
#else
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target.address(index)), "l"(__cvta_generic_to_global(source)), "r"(valid_bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target.address(index)), "l"(__cvta_generic_to_global(source)), "n"(BYTES), "r"(valid_bytes) : "memory");
  }
#endif
}

// cp.async.commit_group: the copies of this thread since the last one are a group, also if there are none.
PK_DEVICE void commit_group() {
#if PK_EMULATED
  ++Block::current()->running().copy_groups;
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// cp.async.wait_group: all groups of this thread but the last PENDING have landed.
template <int PENDING>
PK_DEVICE void wait_group() {
#if PK_EMULATED
  wait_for_copies(PENDING);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

}  // namespace PK_BUILD
