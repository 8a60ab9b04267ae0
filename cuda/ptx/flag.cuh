// Flags and counters of 4 bytes in global memory, by which blocks of one launch order what they do. A release orders what its thread did before, and what other threads of the block did before
// a barrier, before all that follows an acquire which sees it or a later one.
#pragma once

#include "memory.cuh"

namespace PK_BUILD {

#if PK_EMULATED
enum class Order { relaxed, acquire, release, both };

template <class F>
uint32_t touch_flag(const uint32_t* flag, Right right, Order order, Site site, F touch) {
  Block& block = *Block::current();
  block.access();
  block.check_global(flag, sizeof *flag, right, site, true);
  if (block.races != nullptr && (order == Order::release || order == Order::both)) block.races->release_global(flag);
  const uint32_t value = touch(const_cast<uint32_t*>(flag));
  if (block.races != nullptr && (order == Order::acquire || order == Order::both)) block.races->acquire_global(flag);
  if (right != Right::read) block.changed();
  return value;
}
#endif

// ld.acquire.gpu
PK_DEVICE uint32_t load_acquire(const uint32_t* flag PK_COMMA_SITE) {
#if PK_EMULATED
  return touch_flag(flag, Right::read, Order::acquire, pk_site, [](uint32_t* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); });
#else
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(__cvta_generic_to_global(flag)) : "memory");
  return value;
#endif
}

// st.release.gpu
PK_DEVICE void store_release(uint32_t* flag, uint32_t value PK_COMMA_SITE) {
#if PK_EMULATED
  touch_flag(flag, Right::write, Order::release, pk_site, [=](uint32_t* at) { return __atomic_exchange_n(at, value, __ATOMIC_RELEASE); });
#else
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(flag)), "r"(value) : "memory");
#endif
}

// atom.relaxed.gpu.add: returns what was there, and orders nothing.
PK_DEVICE uint32_t atomic_add(uint32_t* counter, uint32_t value PK_COMMA_SITE) {
#if PK_EMULATED
  return touch_flag(counter, Right::read_write, Order::relaxed, pk_site, [=](uint32_t* at) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); });
#else
  uint32_t before;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(__cvta_generic_to_global(counter)), "r"(value) : "memory");
  return before;
#endif
}

// atom.release.gpu.add
PK_DEVICE uint32_t atomic_add_release(uint32_t* counter, uint32_t value PK_COMMA_SITE) {
#if PK_EMULATED
  return touch_flag(counter, Right::read_write, Order::release, pk_site, [=](uint32_t* at) { return __atomic_fetch_add(at, value, __ATOMIC_RELEASE); });
#else
  uint32_t before;
  asm volatile("atom.release.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(__cvta_generic_to_global(counter)), "r"(value) : "memory");
  return before;
#endif
}

// atom.acq_rel.gpu.add: who is told that all others were there before sees what they did.
PK_DEVICE uint32_t atomic_add_acquire_release(uint32_t* counter, uint32_t value PK_COMMA_SITE) {
#if PK_EMULATED
  return touch_flag(counter, Right::read_write, Order::both, pk_site, [=](uint32_t* at) { return __atomic_fetch_add(at, value, __ATOMIC_ACQ_REL); });
#else
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(__cvta_generic_to_global(counter)), "r"(value) : "memory");
  return before;
#endif
}

// fence.acq_rel.gpu, which with relaxed atomics orders as well; the emulator's detector of races follows the operations above alone.
PK_DEVICE void thread_fence() {
#if PK_EMULATED
  __atomic_thread_fence(__ATOMIC_ACQ_REL);
#else
  __threadfence();
#endif
}

// Waits, with ld.acquire.gpu, until another block has raised the flag to `value` at least. The launch must say which blocks it needs together (LaunchShape).
PK_DEVICE void wait_global_at_least(const uint32_t* flag, uint32_t value PK_COMMA_SITE) {
#if PK_EMULATED
  touch_flag(flag, Right::read, Order::relaxed, pk_site, [](uint32_t* at) { return *at; });
  Block& block = *Block::current();
  if (block.grid.shape.blocks_wait == BlocksWait::none) block.fault(pk_site, "waits for another block, but the launch does not say that blocks wait for each other");
  block.wait_until("wait_global_at_least", [=] { return __atomic_load_n(flag, __ATOMIC_ACQUIRE) >= value; }, pk_site);
  if (block.races != nullptr) block.races->acquire_global(flag);
#else
  while (load_acquire(flag) < value) {}
#endif
}

}  // namespace PK_BUILD
