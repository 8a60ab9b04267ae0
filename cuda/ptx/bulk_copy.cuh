// Copies between global and shared memory that one thread issues and no thread carries out. Those into shared memory complete bytes of a SharedBarrier; those out of it are waited for
// in groups of the thread. Before one reads what threads have stored, each of these has fence_proxy_async() behind its stores, and then they meet the issuer at a barrier.
#pragma once

#include "architecture.cuh"
#include "mbarrier.cuh"
#include "tensor_map.cuh"

#if PK_EMULATED
#include "../emulator/bulk_copy.h"
#endif

namespace PK_BUILD {

// Where a box begins, in elements along each axis, axis 0 first. It may lie outside of the tensor, in part or wholly: what is outside reads as zero, and is not written.
template <int AXES>
struct Coordinates {
  static_assert(AXES >= 1 && AXES <= 4, "tensors of 1 to 4 axes");
  int32_t of[AXES];
};

// cp.async.bulk.tensor: a box of the tensor into shared memory, packed, or as the map's swizzle says. `to` is aligned to 128 bytes, with a swizzle of S bytes to 8 S.
template <int AXES>
PK_DEVICE void load_tensor(uint32_t to, const TensorMap* map, Coordinates<AXES> at, SharedBarrier& barrier PK_COMMA_SITE) {
#if PK_EMULATED
  load_box(to, *map, AXES, at.of, barrier.model(), 0, pk_site);
#else
#define PK_LOAD(rank, list, ...)                                                                                                                                   \
  PK_ASM_90("cp.async.bulk.tensor." rank ".shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {" list "}], [%2];" ::"r"(to), "l"(map), "r"(barrier.address()), \
            __VA_ARGS__                                                                                                                                            \
            : "memory")
  if constexpr (AXES == 1) PK_LOAD("1d", "%3", "r"(at.of[0]));
  else if constexpr (AXES == 2) PK_LOAD("2d", "%3, %4", "r"(at.of[0]), "r"(at.of[1]));
  else if constexpr (AXES == 3) PK_LOAD("3d", "%3, %4, %5", "r"(at.of[0]), "r"(at.of[1]), "r"(at.of[2]));
  else PK_LOAD("4d", "%3, %4, %5, %6", "r"(at.of[0]), "r"(at.of[1]), "r"(at.of[2]), "r"(at.of[3]));
#undef PK_LOAD
#endif
}

// cp.async.bulk.tensor: the other direction.
template <int AXES>
PK_DEVICE void store_tensor(const TensorMap* map, Coordinates<AXES> at, uint32_t from PK_COMMA_SITE) {
#if PK_EMULATED
  store_box(from, *map, AXES, at.of, pk_site);
#else
#define PK_STORE(rank, list, ...) PK_ASM_90("cp.async.bulk.tensor." rank ".global.shared::cta.bulk_group [%0, {" list "}], [%1];" ::"l"(map), "r"(from), __VA_ARGS__ : "memory")
  if constexpr (AXES == 1) PK_STORE("1d", "%2", "r"(at.of[0]));
  else if constexpr (AXES == 2) PK_STORE("2d", "%2, %3", "r"(at.of[0]), "r"(at.of[1]));
  else if constexpr (AXES == 3) PK_STORE("3d", "%2, %3, %4", "r"(at.of[0]), "r"(at.of[1]), "r"(at.of[2]));
  else PK_STORE("4d", "%2, %3, %4, %5", "r"(at.of[0]), "r"(at.of[1]), "r"(at.of[2]), "r"(at.of[3]));
#undef PK_STORE
#endif
}

// cp.async.bulk: a multiple of 16 bytes between addresses that are multiples of 16.
PK_DEVICE void load_bulk(uint32_t to, const void* from, uint32_t bytes, SharedBarrier& barrier PK_COMMA_SITE) {
#if PK_EMULATED
  load_line(to, from, bytes, barrier.model(), pk_site);
#else
  PK_ASM_90("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier.address())
            : "memory");
#endif
}

PK_DEVICE void store_bulk(void* to, uint32_t from, uint32_t bytes PK_COMMA_SITE) {
#if PK_EMULATED
  store_line(to, from, bytes, pk_site);
#else
  PK_ASM_90("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(to)), "r"(from), "r"(bytes) : "memory");
#endif
}

// cp.async.bulk.commit_group: this thread's stores since the last one are a group.
PK_DEVICE void commit_bulk_stores() {
#if PK_EMULATED
  Block::current()->running().bulk.commit();
#else
  PK_ASM_90("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

// cp.async.bulk.wait_group.read: until at most PENDING groups of this thread still read shared memory. A thread does not exit before.
template <int PENDING>
PK_DEVICE void wait_for_bulk_reads(PK_SITE) {
#if PK_EMULATED
  wait_for_stores(PENDING, true, pk_site);
#else
  PK_ASM_90("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
#endif
}

// cp.async.bulk.wait_group: until at most PENDING of them have not been written.
template <int PENDING>
PK_DEVICE void wait_for_bulk_stores(PK_SITE) {
#if PK_EMULATED
  wait_for_stores(PENDING, false, pk_site);
#else
  PK_ASM_90("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

}  // namespace PK_BUILD
