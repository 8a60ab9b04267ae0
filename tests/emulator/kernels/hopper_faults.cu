// One small misuse of the primitives of 9.0 each. A line that a report must name ends in `planted:` and the fault's name.
#include "ptx/bulk_copy.cuh"
#include "ptx/fence.cuh"
#include "ptx/launch.cuh"
#include "ptx/named_barrier.cuh"
#include "ptx/ptx.cuh"
#include "ptx/register_count.cuh"
#include "ptx/wgmma.cuh"

namespace PK_BUILD {
namespace {

#define PK_FAULTS(X)                                                                                                                                                \
  X(none) X(too_many_arrivals) X(initialised_twice) X(no_arrivals) X(too_many_bytes) X(not_initialised) X(parity_of_two) X(different_counts) X(left_at_named_barrier) \
  X(misaligned_line) X(line_past_end) X(global_past_end) X(never_waited) X(out_of_piece) X(past_array) X(registers_without_fence) X(different_wgmmas) X(missing_proxy_fence) \
  X(part_of_warpgroup) X(registers_of_one_warp)

enum class Fault : uint32_t {
#define PK_NAME(name) name,
  PK_FAULTS(PK_NAME)
#undef PK_NAME
};

struct Shared {
  SharedArray<bf16, 64 * 64, 1024> a, b;
  SharedBarrier first, second;
};

PK_DEVICE void misuse_barriers(Shared& shared, const uint32_t* line, Fault fault) {
  const uint32_t thread = thread_index().x;
  if (thread == 0) {
    shared.first.initialize(1);
    fence_barrier_initialization();
    if (fault == Fault::initialised_twice) shared.first.initialize(1);  // planted: initialised_twice
    if (fault == Fault::no_arrivals) shared.second.initialize(0);       // planted: no_arrivals
  }
  barrier();
  if (thread == 32) {
    shared.first.expect(128);
    if (fault == Fault::too_many_bytes) shared.first.expect((1 << 20) - 128);  // planted: too_many_bytes
    shared.first.arrive();
    if (fault == Fault::too_many_arrivals) shared.first.arrive();                                                 // planted: too_many_arrivals
    const uint32_t to = shared.a.address(fault == Fault::line_past_end ? 64 * 64 - 56 : fault == Fault::misaligned_line ? 4 : 0);
    load_bulk(to, line + (fault == Fault::global_past_end ? 4 : 0), 128, shared.first);  // planted: line
  }
  if (fault == Fault::not_initialised) shared.second.wait(0);            // planted: not_initialised
  shared.first.wait(fault == Fault::parity_of_two ? 2 : 0);              // planted: parity_of_two
  if (fault == Fault::left_at_named_barrier && thread < 32) named_barrier_arrive<2, 128>();  // planted: left_at_named_barrier
  if (fault != Fault::different_counts || thread < 64) named_barrier<1, 128>();  // planted: different_counts
  else named_barrier<1, 96>();
  if (fault != Fault::registers_of_one_warp || warp() != 2) decrease_register_count<104>();
}

PK_DEVICE void misuse_wgmma(Shared& shared, float* results, Fault fault) {
  const uint32_t thread = thread_index().x;
  for (uint32_t i = thread; i < 64 * 64; i += 128) {
    shared.a.store(i, from_float<bf16>(1.0f));
    shared.b.store(i, from_float<bf16>(0.5f));
  }
  if (fault != Fault::missing_proxy_fence) fence_proxy_async();
  barrier();
  Accumulator<64> sums;
  sums.clear();
  const uint32_t shift = fault == Fault::out_of_piece ? 128 : fault == Fault::past_array ? 1024 : 0;
  const MatrixDescriptor a = matrix_descriptor(shared.a.address(), Swizzle::bytes128, 16, 1024), b = matrix_descriptor(shared.b.address() + shift, Swizzle::bytes128, 16, 1024);
  if (fault == Fault::part_of_warpgroup && warp() == 3) return;
  wgmma_fence();
  wgmma<bf16>(sums, a, b, fault != Fault::different_wgmmas || warp() != 1);  // planted: wgmma
  wgmma_commit();
  const uint32_t registers[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
  if (fault != Fault::registers_without_fence) wgmma_fence();
  wgmma<bf16>(sums, registers, b);  // planted: registers_without_fence
  if (fault == Fault::never_waited) return;
  wgmma_commit();
  wgmma_wait<0>();  // planted: part_of_warpgroup
#pragma unroll
  for (int i = 0; i < sums.count; ++i) store_global(results + thread * 32 + static_cast<uint32_t>(i), sums.value(i));
}

PK_KERNEL void PK_LAUNCH_BOUNDS(128) misuse(const uint32_t* line, float* results, Fault fault) {
  PK_SHARED(Shared, shared);
  misuse_barriers(shared, line, fault);
  barrier();
  misuse_wgmma(shared, results, fault);
}

const char* const names[] = {
#define PK_NAME(name) #name,
    PK_FAULTS(PK_NAME)
#undef PK_NAME
};

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

const char* emulator_test_misuse_name(uint32_t fault) { return fault < sizeof names / sizeof names[0] ? names[fault] : nullptr; }

// line [32], results [128, 32]
int32_t emulator_test_misuse(const pk_queue* queue, uint32_t fault, const uint32_t* line, float* results) {
  Operands operands;
  operands.read_bytes("line", line, 128);
  operands.write_bytes("results", results, 128 * 32 * 4);
  return launch(*queue, {"misuse", {1, 1, 1}, 128, shared_bytes<Shared>()}, operands, misuse, line, results, static_cast<Fault>(fault));
}

}  // extern "C"
