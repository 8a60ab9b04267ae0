// One block of a running kernel: its threads as fibers on one OS thread, the scheduler that chooses which of them goes on, and what they can wait for.
#pragma once

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../ptx/shape.cuh"
#include "fiber.h"
#include "operands.h"
#include "shared.h"
#include "site.h"

namespace PK_BUILD {

constexpr uint32_t all_lanes = 0xffffffffu;
constexpr uint32_t most_threads = 1024;
constexpr uint32_t most_warps = most_threads / 32;

// What all blocks of one launch have in common.
struct Launch {
  LaunchShape shape;
  const std::vector<Operand>* operands;
  uint64_t seed;
  void (*body)(void*);  // calls the kernel
  void* argument;

  // Blocks are started in an order, 0 first. A fault at one position stops only the later ones, so that the fault which is reported at the end does not depend on the number of OS threads.
  static constexpr uint64_t nowhere = ~uint64_t{0};
  std::atomic<uint64_t> next_position{0};
  std::atomic<uint64_t> fault_position{nowhere};
  std::mutex mutex;
  std::string report;
};

// Called by the last lane to arrive, with the record of every lane, null where a lane takes no part.
using CollectiveFunction = void (*)(void* const* records);

struct Thread {
  Fiber fiber;
  uint32_t index = 0;
  bool finished = false;
  const char* waits_in = nullptr;  // with `site` and `record`: the operation that it waits in
  Site site{};
  void* record = nullptr;
};

// Lanes that are to meet in one collective.
struct Meeting {
  uint32_t mask, arrived;
  CollectiveFunction function;
  const char* name;
  Site site;
};

struct Warp {
  uint32_t alive, ready, at_barrier;
  uint32_t open;  // which of the meetings have begun
  Meeting meetings[32];
};

class Block {
 public:
  // The block that this OS thread runs, or null.
  static Block* current();

  // Runs the block at one position of the launch's order. False: no memory.
  bool run(Launch& launch, uint64_t position, uint64_t block_number);
  // To be called when the launch ends: nothing that was remembered holds for another.
  void forget_launch();

  // ---- what primitives read and call, all on a fiber of the block
  Extent3 index{}, extent{}, grid{};
  uint32_t thread_index() const { return running_->index; }

  void barrier(Site site);
  void collective(uint32_t mask, const char* name, CollectiveFunction function, void* record, Site site);
  // Every access of memory: at times another thread goes on here.
  void access() {
    if (--accesses_until_preemption_ == 0) preempt();
  }
  // All of an access must be elements of one operand with this right.
  void check_global(const void* address, uint64_t bytes, Right wanted, Site site) {
    const RecentRun& recent = recent_[static_cast<uint32_t>(site.line) % recent_count];
    const uint64_t offset = reinterpret_cast<uintptr_t>(address) - recent.begin;
    const bool inside = offset < recent.bytes && bytes <= recent.bytes - offset && ((offset | bytes) & recent.element_mask) == 0;
    if (!inside || reinterpret_cast<uintptr_t>(address) % bytes != 0 || !recent.operand->allows(wanted)) find_operand(address, bytes, wanted, site);
  }

  SharedMemory& shared() { return shared_; }
  size_t shared_bytes() const { return launch_->shape.shared_bytes; }
  // Ends the launch with a report. Never returns: what the fibers of the block were doing is dropped.
  [[noreturn]] __attribute__((format(printf, 3, 4))) void fault(Site site, const char* format, ...);

 private:
  enum class Order { plain, reverse, uniform, priorities };

  static void fiber_entry();
  void thread_finished();
  void note_fault(const std::string& report);
  [[noreturn]] void abandon();
  [[noreturn]] void report_deadlock();
  void find_operand(const void* address, uint64_t bytes, Right wanted, Site site);

  uint32_t random(uint32_t bound);
  void preempt();
  void make_ready(uint32_t warp, uint32_t lanes);
  Thread* next();
  Thread* choose();
  void continue_with(Thread* thread);
  void wait(const char* what, Site site);
  void release_barrier();
  bool complete(uint32_t warp, uint32_t number);

  Launch* launch_ = nullptr;
  uint64_t position_ = 0;
  std::vector<std::unique_ptr<Thread>> threads_;
  Thread* running_ = nullptr;
  Fiber root_;
  Warp warps_[most_warps];
  uint32_t warp_count_ = 0, ready_warps_ = 0, live_ = 0;

  uint32_t barrier_arrived_ = 0;
  Thread* barrier_first_ = nullptr;

  Order order_ = Order::plain;
  uint64_t random_state_ = 1, choices_ = 0, reshuffle_at_ = 0;
  int64_t accesses_until_preemption_ = 0;
  uint32_t preemption_gap_ = 0;
  uint32_t priorities_[most_warps];

  struct RecentRun {
    uintptr_t begin = 0;
    uint64_t bytes = 0, element_mask = 0;
    const Operand* operand = nullptr;
  };
  static constexpr uint32_t recent_count = 64;
  RecentRun recent_[recent_count];  // the last run of elements that each source line touched

  SharedMemory shared_;
};

// Of this model, because every primitive reads it and the general one is a function call in a shared library.
extern __thread Block* current_block __attribute__((tls_model("initial-exec")));
inline Block* Block::current() { return current_block; }

}  // namespace PK_BUILD
