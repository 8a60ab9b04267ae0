// Kernels with a planted fault each, and the same kernels without it. A line that a report must name ends in `planted:` and the fault's name.
#include "ptx/launch.cuh"
#include "ptx/ptx.cuh"

namespace PK_BUILD {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kStages = 8;

struct Shared {
  SharedArray<float, kThreads> values;
  SharedArray<float, kThreads> others;
};

// input [4, 58] with rows 64 elements apart, results [256]
struct Problem {
  const float* input;
  float* results;
};

PK_DEVICE float input_value(const Problem& problem, uint32_t i) { return load_global(problem.input + i % 4 * 64 + i / 4 % 58); }

template <bool SOUND>
PK_KERNEL void missing_barrier(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x;
  shared.values.store(thread, input_value(problem, thread));
  if (SOUND) barrier();
  store_global(problem.results + thread, shared.values.load((thread + 37) % kThreads));
}

// A warp that runs ahead overwrites what others still read.
template <bool SOUND>
PK_KERNEL void missing_trailing_barrier(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x;
  float sum = 0;
  for (uint32_t stage = 0; stage < kStages; ++stage) {
    shared.values.store(thread, input_value(problem, thread + stage));
    barrier();
    sum += shared.values.load((thread + 37) % kThreads);
    if (SOUND) barrier();
  }
  store_global(problem.results + thread, sum);
}

template <bool SOUND>
PK_KERNEL void uninitialised_shared(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x;
  if (SOUND || thread != 100) shared.values.store(thread, input_value(problem, thread));
  barrier();
  store_global(problem.results + thread, shared.values.load(kThreads - 1 - thread));
}

// Sums into one element without an atomic instruction.
template <bool SOUND>
PK_KERNEL void lost_update(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x;
  const uint32_t slot = SOUND ? thread : 0;
  shared.values.store(thread, 0.0f);
  barrier();
  for (uint32_t stage = 0; stage < kStages; ++stage) {
    const float value = shared.values.load(slot);
    shared.values.store(slot, value + 1.0f);  // planted: lost_update
  }
  barrier();
  float sum = 0;
  for (uint32_t i = 0; i < kThreads; ++i) sum += shared.values.load(i);
  store_global(problem.results + thread, sum);
}

template <bool SOUND>
PK_KERNEL void divergent_barrier(Problem problem) {
  const uint32_t thread = thread_index().x;
  if (SOUND || thread < 128) {
    barrier();  // planted: divergent_barrier
  } else {
    barrier();
  }
  store_global(problem.results + thread, 1.0f);
}

template <bool SOUND>
PK_KERNEL void full_mask_in_branch(Problem problem) {
  float value = input_value(problem, thread_index().x);
  if (lane() < 16) value = shuffle_xor(value, 1, SOUND ? 0xffffu : all_lanes);  // planted: full_mask_in_branch
  value = shuffle_xor(value, 2);
  store_global(problem.results + thread_index().x, value);
}

template <bool SOUND>
PK_KERNEL void absent_lane(Problem problem) {
  float value = input_value(problem, thread_index().x);
  if (lane() < 16) value = shuffle(value, SOUND ? 3 : 20, 0xffffu);  // planted: absent_lane
  store_global(problem.results + thread_index().x, value);
}

template <bool SOUND>
PK_KERNEL void not_in_own_mask(Problem problem) {
  if (lane() < 17) warp_barrier(SOUND ? 0x1ffffu : 0xffffu);  // planted: not_in_own_mask
  store_global(problem.results + thread_index().x, 1.0f);
}

template <bool SOUND>
PK_KERNEL void shared_past_end(Problem problem) {
  PK_SHARED(Shared, shared);
  const uint32_t thread = thread_index().x;
  shared.values.store(thread, 1.0f);
  shared.others.store(thread, 2.0f);
  barrier();
  store_global(problem.results + thread, shared.values.load(SOUND ? thread : thread + 1));  // planted: shared_past_end
}

template <bool SOUND>
PK_KERNEL void global_past_end(Problem problem) {
  const uint32_t thread = thread_index().x;
  if (thread < 58) {
    const float* row = problem.input + 3 * 64;
    store_global(problem.results + thread, load_global(row + thread + (SOUND ? 0 : 1)));  // planted: global_past_end
  }
}

template <bool SOUND>
PK_KERNEL void global_padding(Problem problem) {
  const uint32_t thread = thread_index().x;
  if (thread < (SOUND ? 58 : 59)) store_global(problem.results + thread, load_global(problem.input + 64 + thread));  // planted: global_padding
}

template <bool SOUND>
PK_KERNEL void global_run_over(Problem problem) {
  const uint32_t thread = thread_index().x;
  if (thread >= (SOUND ? 14 : 15)) return;
  const auto vector = load_global(reinterpret_cast<const Vector<float, 4>*>(problem.input) + thread);  // planted: global_run_over
  store_global(problem.results + thread, vector.values[3]);
}

template <bool SOUND>
PK_KERNEL void misaligned(Problem problem) {
  const auto* vectors = reinterpret_cast<const Vector<float, 2>*>(problem.input + (SOUND ? 2 : 1));
  store_global(problem.results + thread_index().x, load_global(vectors).values[0]);  // planted: misaligned
}

template <bool SOUND>
PK_KERNEL void write_to_input(Problem problem) {
  float* target = SOUND ? problem.results : const_cast<float*>(problem.input);
  if (thread_index().x == 77) store_global(target, 1.0f);  // planted: write_to_input
}

template <bool SOUND>
PK_KERNEL void read_of_output(Problem problem) {
  const float* source = SOUND ? problem.input : problem.results;
  store_global(problem.results + thread_index().x, load_global(source));  // planted: read_of_output
}

template <bool SOUND>
PK_KERNEL void deadlock(Problem problem) {
  const uint32_t thread = thread_index().x;
  if (SOUND || thread != 40) warp_barrier();  // planted: deadlock
  barrier();
  store_global(problem.results + thread, 1.0f);
}

template <bool SOUND>
PK_KERNEL void too_little_shared(Problem problem) {
  PK_SHARED(Shared, shared);  // planted: too_little_shared
  shared.others.store(thread_index().x, 1.0f);
  store_global(problem.results + thread_index().x, shared.others.load(thread_index().x));
}

// Past the checks of a SharedArray, as an asynchronous copy could write.
template <bool SOUND>
PK_KERNEL void guard_overwritten(Problem problem) {
  PK_SHARED(Shared, shared);
  char* first = reinterpret_cast<char*>(&shared.values);
  if (thread_index().x == 0) first[kThreads * sizeof(float) - (SOUND ? 1 : 0)] = 0;
  store_global(problem.results + thread_index().x, 1.0f);
}

struct Fault {
  const char* name;
  void (*faulty)(Problem);
  void (*sound)(Problem);
};

#define PK_FAULT(name) {#name, name<false>, name<true>}
const Fault faults[] = {PK_FAULT(missing_barrier),     PK_FAULT(missing_trailing_barrier), PK_FAULT(uninitialised_shared), PK_FAULT(lost_update),
                        PK_FAULT(divergent_barrier),   PK_FAULT(full_mask_in_branch),      PK_FAULT(absent_lane),          PK_FAULT(not_in_own_mask),
                        PK_FAULT(shared_past_end),     PK_FAULT(global_past_end),          PK_FAULT(global_padding),       PK_FAULT(global_run_over),
                        PK_FAULT(misaligned),          PK_FAULT(write_to_input),           PK_FAULT(read_of_output),       PK_FAULT(deadlock),
                        PK_FAULT(too_little_shared),   PK_FAULT(guard_overwritten)};

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

// The name of a fault, or null behind the last.
const char* emulator_test_fault_name(uint64_t fault) { return fault < sizeof faults / sizeof faults[0] ? faults[fault].name : nullptr; }

int32_t emulator_test_fault(const pk_queue* queue, uint64_t fault, int32_t sound, const float* input, float* results) {
  pk_matrix matrix{const_cast<float*>(input), 4, 58, 64, 1, 0, PK_F32, 0};
  Operands operands;
  operands.read("input", matrix, 1);
  operands.write_bytes("results", results, kThreads * sizeof(float));
  const bool too_little = faults[fault].faulty == too_little_shared<false> && sound == 0;
  const LaunchShape shape{faults[fault].name, {1, 1, 1}, kThreads, too_little ? kThreads * sizeof(float) : shared_bytes<Shared>()};
  return launch(*queue, shape, operands, sound != 0 ? faults[fault].sound : faults[fault].faulty, Problem{input, results});
}

int32_t emulator_test_has_address_sanitizer() {
#if PK_EMULATED
  return PK_EMULATOR_ASAN;
#else
  return 0;
#endif
}

}  // extern "C"
