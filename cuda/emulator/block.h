// One block of a running kernel: its threads as fibers on one OS thread, the scheduler that chooses which of them goes on, and what they can wait for.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../ptx/shape.cuh"
#include "counters.h"
#include "fiber.h"
#include "hopper.h"
#include "launch.h"
#include "races.h"

namespace PK_BUILD {

constexpr uint32_t most_threads = 1024;
constexpr uint32_t most_warps = most_threads / 32;

struct Cluster;

// What lanes did before a collective is ordered before what they do after it; all lanes of the warp must be there.
enum class Meets : uint8_t { plain, orders, whole };
// Called by the last lane to arrive, with the record of every lane, null where a lane takes no part.
using CollectiveFunction = void (*)(void* const* records);
template <class Record>
Record& of_lane(void* const* records, uint32_t lane) {
  return *static_cast<Record*>(records[lane]);
}

// A copy that a thread issued and has not waited for.
struct PendingCopy {
  char* target;
  const char* source;
  uint32_t bytes, valid_bytes, group;
  bool landed;
  Site site;
};

// The bulk copies out of shared memory of a thread, and the groups of them.
struct BulkStore;
struct BulkGroups {
  std::vector<std::shared_ptr<BulkStore>> stores;
  std::vector<size_t> groups;  // how many stores were issued when each was committed
  size_t reads_waited_for = 0, written = 0;  // stores
  void commit() { groups.push_back(stores.size()); }
};

struct Thread {
  Fiber* fiber;
  uint32_t index, id;  // in the block, and in the cluster
  bool finished = false, at_cluster_barrier = false;
  uint32_t cluster_phase = 0;  // in which it arrived there
  const char* waits_in = nullptr;  // with `site` and `record`: the operation that it waits in
  Site site{};
  void* record = nullptr;
  bool (*condition)(void*) = nullptr;  // of record: that it waits for, outside collectives
  std::vector<PendingCopy> copies{};
  uint32_t copy_groups = 0;     // committed so far
  uint32_t barrier_fences = 0;  // fence_barrier_initialization()
  BulkGroups bulk{};
};

// An operation under way that nobody has to wait for in order that it lands: a function and what it is called with.
struct Operation {
  static constexpr size_t most_bytes = 256;
  const char* what;
  Site site;
  const Thread* issuer;
  uint64_t due;  // the choice of the scheduler at which it lands, if it does not earlier because nothing else can go on
  void (*land)(void* record);
  alignas(16) unsigned char record[most_bytes];
};

// Lanes that are to meet in one collective.
struct Meeting {
  uint32_t mask, arrived;
  CollectiveFunction function;
  const char* name;
  Site site;
  Meets kind;
};

struct Warp {
  uint32_t alive = 0, ready = 0, at_barrier = 0, waiting = 0;  // waiting: for a condition
  uint32_t open = 0;                                           // which of the meetings have begun
  Meeting meetings[32];
};

class Block {
 public:
  // The block that this OS thread runs, or null.
  static Block* current();

  Block(Cluster& cluster, uint32_t rank);
  enum class State { ended, stalled, interrupted, faulty };  // stalled: until another block has gone on
  // Lets its threads go on. All until the end, unless the launch says that blocks meet.
  State go_on();
  bool stalled = false;  // and no other has gone on since
  // Whether a thread has gone on since it was asked last.
  bool has_moved() { return std::exchange(moved_, false); }

  // ---- what primitives read and call, all on a fiber of the block
  Cluster& cluster;
  Launch& launch;
  Grid& grid;
  const uint32_t rank;  // in the cluster
  const Extent3 index, extent{grid.shape.block_threads, 1, 1};
  std::vector<Thread> threads;
  uint32_t live = extent.x;    // threads that have not exited
  bool knows_cluster = false;  // that the other blocks of its cluster have started
  SharedMemory shared;
  Hopper hopper;
  UnfencedWrites& unfenced;
  Races* const races;  // null: nobody looks for them
  const std::unique_ptr<BlockCounters> counters{launch.counts ? std::make_unique<BlockCounters>(grid.shape.kernel) : nullptr};  // null: nobody counts

  Thread& running() { return *running_; }
  uint32_t thread_index() const { return running_->index; }
  void let_next_grid_start();
  void barrier(Site site);
  void collective(uint32_t mask, const char* name, CollectiveFunction function, void* record, Site site, Meets kind = Meets::plain);
  // Every access of memory: at times another thread goes on here.
  void access() {
    if (--accesses_until_preemption_ == 0) preempt();
  }
  // All of an access must be elements of one operand with this right. Accesses that read and write are atomic.
  void check_global(const void* address, uint64_t bytes, Right wanted, Site site, bool atomic = false) {
    const Operand& operand = operand_of(address, bytes, wanted, site);
    if (operand.watched) watch_global(operand, address, bytes, wanted, site, atomic);
  }
  // The same of any number of bytes, which count as one request.
  void check_run(const char* address, uint32_t bytes, Right wanted, Site site);

  // Calls land() at a random later moment, with a tail of long delays; under seed 0 at once. It runs between two steps of the threads and must not wait for anything.
  template <class F>
  void later(const char* what, F land, Site site) {
    static_assert(std::is_trivially_copyable<F>::value && sizeof(F) <= Operation::most_bytes, "an operation is copied as bytes");
    Operation operation;
    operation.land = [](void* record) { (*static_cast<F*>(record))(); };
    new (operation.record) F(land);
    begin_operation(what, operation, site);
  }
  // Whether an operation that its issuer will wait for lands at once instead. Under seed 0 it does.
  bool early() { return order_ == Order::plain || random(2) == 0; }
  // Returns once condition() holds: asked at once, and again whenever an operation has landed, changed() was called, or another block has gone on.
  template <class F>
  void wait_until(const char* what, F condition, Site site) {
    access();
    if (!condition()) wait_for_condition(what, [](void* argument) { return (*static_cast<F*>(argument))(); }, &condition, site);
  }
  // Something that a condition may look at has changed.
  void changed() { changed_ = true; }

  // The running thread reads or writes shared memory.
  void touch_shared(const void* address, uint32_t bytes, bool write, Site site) {
    if (watched_) watch_shared(address, bytes, write, site);
    if (write) unfenced.note(address, bytes, running_->id, site);
  }
  // What the running thread does, where it is counted.
  void count_shared(const void* address, uint32_t bytes, bool write, Site site) {
    if (counters != nullptr) counters->shared(running_->index, shared.array_at(address), address, bytes, write, site);
  }
  // It issues an access by the asynchronous proxy.
  void begin_asynchronous_access(const void* address, uint32_t bytes, bool write, Site site) {
    unfenced.check(address, bytes, write, site);
    if (races != nullptr) races->begin(address, bytes, write, site);
  }
  // Ends the launch with a report. Never returns: what the fibers of the block were doing is dropped.
  [[noreturn]] __attribute__((format(printf, 3, 4))) void fault(Site site, const char* format, ...);

 private:
  enum class Order { plain, reverse, uniform, priorities };

  // block.cpp
  const Operand& operand_of(const void* address, uint64_t bytes, Right wanted, Site site) {
    const RecentRun& recent = recent_[static_cast<uint32_t>(site.line) % recent_count];
    const uint64_t offset = reinterpret_cast<uintptr_t>(address) - recent.begin;
    const bool inside = offset < recent.bytes && bytes <= recent.bytes - offset && ((offset | bytes) & recent.element_mask) == 0;
    const bool found = inside && reinterpret_cast<uintptr_t>(address) % bytes == 0 && recent.operand->allows(wanted);
    return found ? *recent.operand : find_operand(address, bytes, wanted, site);
  }
  void watch_shared(const void* address, uint32_t bytes, bool write, Site site);
  void watch_global(const Operand& operand, const void* address, uint64_t bytes, Right wanted, Site site, bool atomic);
  static void run_thread();
  void exit_thread();
  void check_end();

  // fault.cpp
  std::string place(const Thread* thread) const;
  friend struct Cluster;
  [[noreturn]] void abandon();
  const Operand& find_operand(const void* address, uint64_t bytes, Right wanted, Site site);

  // scheduler.cpp
  uint32_t random(uint32_t bound);
  void preempt();
  void make_ready(uint32_t warp, uint32_t lanes);
  Thread* next();
  Thread* choose();
  void leave(State state);
  void continue_with(Thread* thread);
  void wait(const char* what, Site site);
  void release_barrier();
  bool complete(uint32_t warp, uint32_t number);
  void begin_operation(const char* what, Operation& operation, Site site);
  void wait_for_condition(const char* what, bool (*condition)(void*), void* argument, Site site);
  void land(size_t number);
  void wake();
  void advance();

  const bool watched_ = races != nullptr || counters != nullptr;  // there are detectors of races, or counters
  bool holds_next_grid_ = true;
  Thread* running_;
  Fiber root_;
  State state_ = State::interrupted;
  bool moved_ = true;

  Warp warps_[most_warps];
  const uint32_t warp_count_ = (extent.x + 31) / 32;
  uint32_t ready_warps_ = 0;
  uint32_t barrier_arrived_ = 0;
  Thread* barrier_first_ = nullptr;

  static constexpr uint64_t never = ~uint64_t{0};
  std::vector<Operation> operations_;
  uint64_t next_due_ = never;  // the earliest of them
  uint32_t waiting_ = 0;       // threads that wait for a condition
  bool changed_ = false;
  const Thread* issuer_ = nullptr;  // of the operation that is landing: a fault is of this thread
  bool ending_ = false;             // a fault is of no thread

  Order order_;
  uint64_t random_state_, choices_ = 0, reshuffle_at_ = 0;
  uint32_t preemption_gap_;
  int64_t accesses_until_preemption_;
  uint32_t priorities_[most_warps];

  struct RecentRun {
    uintptr_t begin = 0;
    uint64_t bytes = 0, element_mask = 0;
    const Operand* operand = nullptr;
  };
  static constexpr uint32_t recent_count = 64;
  RecentRun recent_[recent_count];  // the last run of elements that each source line touched
};

// Of this model, because every primitive reads it and the general one makes that a function call. A shared library cannot have it together with the CUDA runtime, whose own memory
// of a thread is larger than what a program that runs has left for such libraries.
#if defined(PK_SHARED_LIBRARY)
extern __thread Block* current_block;
#else
extern __thread Block* current_block __attribute__((tls_model("initial-exec")));
#endif
inline Block* Block::current() { return current_block; }

}  // namespace PK_BUILD
