// The launches of a forward call, one translation unit for each type of activations.
#pragma once

#include "../core/status.h"
#include "../ptx/launch.cuh"
#include "algorithms.h"

namespace PK_BUILD {

// Targets of one adapter type, at most as many as a kernel's parameters hold. `h`: their part of the intermediate x * A^T; `after`: of what the middles make of it, null where
// no target of the call has one; `parts`: where the blocks of a split tile meet; `slab`: where a quantised W is made, unless
// the kernel reads its codes. Of quantised W all have the same books, and no target beside them has a W in memory.
struct ForwardLaunch {
  const pk_queue& queue;
  const pk_lora_forward_descriptor& descriptor;
  const LoraForwardPlan& plan;
  const pk_lora_target* targets;
  int32_t count;
  float* h;
  float* after;
  void* parts;
  char* slab;
  int64_t slab_bytes;
};

template <class T>
int32_t forward(const ForwardLaunch& launch);

template <class T>
struct ForwardProblem;

// H of all targets alone, or with other operands in their places what has its form.
template <class T>
int32_t shrink(const pk_queue& queue, const Operands& operands, const ForwardProblem<T>& problem, bool simt, bool tf32);

// What middles make of H, wherever it lies.
struct MiddleProblem;
template <class T>
int32_t launch_middles(const pk_queue& queue, const Operands& operands, const MiddleProblem& problem);

// Loads the type's kernels on the current device.
template <class T>
int32_t prepare_forward();

inline Extent3 grid_of(int64_t work) { return {static_cast<uint32_t>(work < INT32_MAX ? work : INT32_MAX), 1, 1}; }

inline int64_t tiles_of(int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; }

// What the launches of a target of weights [n, k] with a table of adapters may read.
template <class Target>
void read_table(Operands& operands, const Target& target, int64_t n, int64_t k) {
  operands.read_bytes("adapters", target.adapters, target.adapter_count * sizeof(pk_lora_adapter));
  const pk_lora_adapter* table = operands.visible(target.adapters);
  for (int64_t i = 0; table != nullptr && i < target.adapter_count; ++i) {
    if (table[i].rank < 0 || table[i].rank > target.max_rank) continue;  // never read
    operands.read("a", lora_matrix_a(table[i], k, target.adapter_element_type), 1);
    operands.read("b", lora_matrix_b(table[i], n, table[i].rank, target.adapter_element_type), 1);
  }
}

}  // namespace PK_BUILD
