// Clusters: blocks that a launch runs together (LaunchShape::cluster), and that reach each other's shared memory. Before the first access of another block's there is a barrier of
// the cluster, and after the last: a block must have started, and must not have exited.
#pragma once

#include "architecture.cuh"
#include "bulk_copy.cuh"
#include "mbarrier.cuh"
#include "memory.cuh"

#if PK_EMULATED
#include "../emulator/cluster.h"
#endif

namespace PK_BUILD {

#if !PK_EMULATED && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define PK_READ_90(value, name) asm("mov.u32 %0, %%" name ";" : "=r"(value))
#else
#define PK_READ_90(value, name) PK_ASM_90("")
#endif

// %cluster_ctarank: the number of this block in its cluster, x first.
PK_DEVICE uint32_t cluster_rank() {
#if PK_EMULATED
  return Block::current()->rank;
#else
  uint32_t rank = 0;
  PK_READ_90(rank, "cluster_ctarank");
  return rank;
#endif
}

// %cluster_nctarank: how many blocks it has.
PK_DEVICE uint32_t cluster_size() {
#if PK_EMULATED
  return Block::current()->cluster.size;
#else
  uint32_t size = 1;
  PK_READ_90(size, "cluster_nctarank");
  return size;
#endif
}

#undef PK_READ_90

// ---- the barrier of the cluster: each thread arrives, and then waits until all threads of all its blocks that have not exited have arrived --

// barrier.cluster.arrive.release: what the thread did before comes before what others do after cluster_wait().
PK_DEVICE void cluster_arrive(PK_SITE) {
#if PK_EMULATED
  arrive_at_cluster(true, pk_site);
#else
  PK_ASM_90("barrier.cluster.arrive.release;" ::: "memory");
#endif
}

// barrier.cluster.arrive.relaxed: orders nothing.
PK_DEVICE void cluster_arrive_relaxed(PK_SITE) {
#if PK_EMULATED
  arrive_at_cluster(false, pk_site);
#else
  PK_ASM_90("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}

// barrier.cluster.wait.acquire
PK_DEVICE void cluster_wait(PK_SITE) {
#if PK_EMULATED
  wait_for_cluster(pk_site);
#else
  PK_ASM_90("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

PK_DEVICE void cluster_barrier(PK_SITE) {
  cluster_arrive(PK_FROM);
  cluster_wait(PK_FROM);
}

// ---- shared memory of another block --------------------------------------------------------------------------------------------------------------------------

#if !PK_EMULATED
// mapa: the address that an address in this block's shared memory has in the block of this rank, for instructions that take one of the cluster.
PK_DEVICE uint32_t cluster_address(uint32_t address, uint32_t rank) {
  uint32_t mapped = address;
  PK_ASM_90("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
#endif

// The array of a kernel's struct in the block of this rank.
template <class T, int COUNT, int ALIGNMENT>
class RemoteArray {
 public:
#if PK_EMULATED
  RemoteArray(SharedArray<T, COUNT, ALIGNMENT>& array, uint32_t rank PK_COMMA_SITE) : array_(in_block(&array, rank, pk_site)) {}
#else
  PK_DEVICE RemoteArray(SharedArray<T, COUNT, ALIGNMENT>& array, uint32_t rank) : address_(cluster_address(array.address(), rank)) {}
#endif

  PK_DEVICE T load(uint32_t index PK_COMMA_SITE) const { return load_vector<1>(index PK_COMMA_FROM).values[0]; }
  PK_DEVICE void store(uint32_t index, T value PK_COMMA_SITE) const { store_vector<1>(index, {{value}} PK_COMMA_FROM); }

  // ld.shared::cluster of 4, 8 or 16 bytes
  template <int WIDTH>
  PK_DEVICE Vector<T, WIDTH> load_vector(uint32_t index PK_COMMA_SITE) const {
    constexpr int words = sizeof(T) * WIDTH / 4;
    static_assert(words == 1 || words == 2 || words == 4, "an access of another block's shared memory moves 4, 8 or 16 bytes");
    Vector<T, WIDTH> value;
#if PK_EMULATED
    const T* at = array_->at(index, WIDTH, pk_site);
    touch_remote(at, sizeof value, false, pk_site);
    memcpy(&value, at, sizeof value);
#else
    uint32_t word[words] = {};
    if constexpr (words == 1) PK_ASM_90("ld.shared::cluster.u32 %0, [%1];" : "=r"(word[0]) : "r"(address(index)) : "memory");
    else if constexpr (words == 2) PK_ASM_90("ld.shared::cluster.v2.u32 {%0, %1}, [%2];" : "=r"(word[0]), "=r"(word[1]) : "r"(address(index)) : "memory");
    else PK_ASM_90("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3]) : "r"(address(index)) : "memory");
    memcpy(&value, word, sizeof value);
#endif
    return value;
  }

  // st.shared::cluster of 4, 8 or 16 bytes
  template <int WIDTH>
  PK_DEVICE void store_vector(uint32_t index, Vector<T, WIDTH> value PK_COMMA_SITE) const {
    constexpr int words = sizeof(T) * WIDTH / 4;
    static_assert(words == 1 || words == 2 || words == 4, "an access of another block's shared memory moves 4, 8 or 16 bytes");
#if PK_EMULATED
    T* at = array_->at(index, WIDTH, pk_site);
    touch_remote(at, sizeof value, true, pk_site);
    memcpy(at, &value, sizeof value);
#else
    uint32_t word[words];
    memcpy(word, &value, sizeof value);
    if constexpr (words == 1) PK_ASM_90("st.shared::cluster.u32 [%0], %1;" ::"r"(address(index)), "r"(word[0]) : "memory");
    else if constexpr (words == 2) PK_ASM_90("st.shared::cluster.v2.u32 [%0], {%1, %2};" ::"r"(address(index)), "r"(word[0]), "r"(word[1]) : "memory");
    else PK_ASM_90("st.shared::cluster.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address(index)), "r"(word[0]), "r"(word[1]), "r"(word[2]), "r"(word[3]) : "memory");
#endif
  }

#if PK_EMULATED
  char* place(uint32_t index, Site site) const { return reinterpret_cast<char*>(array_->at(index, 1, site)); }
#else
  PK_DEVICE uint32_t address(uint32_t index) const { return address_ + index * static_cast<uint32_t>(sizeof(T)); }
#endif

 private:
#if PK_EMULATED
  SharedArray<T, COUNT, ALIGNMENT>* array_;
#else
  uint32_t address_;
#endif
};

// The barrier of a kernel's struct in the block of this rank.
class RemoteBarrier {
 public:
#if PK_EMULATED
  RemoteBarrier(SharedBarrier& barrier, uint32_t rank PK_COMMA_SITE) : model(in_block(&barrier.model(), rank, pk_site)) {}
  BarrierModel* const model;
#else
  PK_DEVICE RemoteBarrier(SharedBarrier& barrier, uint32_t rank) : address(cluster_address(barrier.address(), rank)) {}
  const uint32_t address;
#endif

  // mbarrier.arrive.release.cluster: threads of that block see what was before it when they wait_for_cluster().
  PK_DEVICE void arrive(PK_SITE) const {
#if PK_EMULATED
    model->arrive(0, pk_site);
#else
    PK_ASM_90("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(address) : "memory");
#endif
  }
};

// ---- copies ---------------------------------------------------------------------------------------------------------------------------------------------------

// cp.async.bulk.shared::cluster.shared::cta: a multiple of 16 bytes from this block's shared memory into another's, which completes bytes of a barrier there. The source is free
// again when a thread of this block has learnt that they came.
template <class T, int COUNT, int ALIGNMENT>
PK_DEVICE void copy_bulk(const RemoteArray<T, COUNT, ALIGNMENT>& to, uint32_t index, uint32_t from, uint32_t bytes, const RemoteBarrier& barrier PK_COMMA_SITE) {
#if PK_EMULATED
  copy_line(to.place(index, pk_site), from, bytes, *barrier.model, pk_site);
#else
  PK_ASM_90("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to.address(index)), "r"(from), "r"(bytes), "r"(barrier.address)
            : "memory");
#endif
}

// cp.async.bulk.tensor.multicast::cluster: as load_tensor(), into the block of each rank that `ranks` has a bit for, at the same place in its shared memory, and completes its
// barrier there. Only chips of 9.0 itself have it at full speed.
template <int AXES>
PK_DEVICE void load_tensor_multicast(uint32_t to, const TensorMap* map, Coordinates<AXES> at, SharedBarrier& barrier, uint16_t ranks PK_COMMA_SITE) {
#if PK_EMULATED
  if (ranks == 0) Block::current()->fault(pk_site, "load_tensor_multicast: into no block");
  load_box(to, *map, AXES, at.of, barrier.model(), ranks, pk_site);
#else
#define PK_LOAD(rank, list, ...)                                                                                                                                       \
  PK_ASM_90A("cp.async.bulk.tensor." rank ".shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {" list "}], [%2], %3;" ::"r"(to), "l"(map), \
            "r"(barrier.address()), "h"(ranks), __VA_ARGS__                                                                                                            \
            : "memory")
  if constexpr (AXES == 1) PK_LOAD("1d", "%4", "r"(at.of[0]));
  else if constexpr (AXES == 2) PK_LOAD("2d", "%4, %5", "r"(at.of[0]), "r"(at.of[1]));
  else if constexpr (AXES == 3) PK_LOAD("3d", "%4, %5, %6", "r"(at.of[0]), "r"(at.of[1]), "r"(at.of[2]));
  else PK_LOAD("4d", "%4, %5, %6, %7", "r"(at.of[0]), "r"(at.of[1]), "r"(at.of[2]), "r"(at.of[3]));
#undef PK_LOAD
#endif
}

}  // namespace PK_BUILD
