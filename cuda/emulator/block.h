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
#include "launch.h"
#include "races.h"
#include "shared.h"
#include "site.h"

namespace PK_BUILD {

constexpr uint32_t most_threads = 1024;
constexpr uint32_t most_warps = most_threads / 32;

struct Cluster;
struct Hopper;

// Called by the last lane to arrive, with the record of every lane, null where a lane takes no part.
using CollectiveFunction = void (*)(void* const* records);

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
};

struct Thread {
  Fiber fiber;
  uint32_t index = 0, id = 0;  // in the block, and in the cluster
  bool finished = false, at_cluster_barrier = false;
  uint32_t cluster_phase = 0;  // in which it arrived there
  const char* waits_in = nullptr;  // with `site` and `record`: the operation that it waits in
  Site site{};
  void* record = nullptr;
  bool (*condition)(void*) = nullptr;  // of record: that it waits for, outside collectives
  std::vector<PendingCopy> copies;
  uint32_t copy_groups = 0;  // committed so far
  BulkGroups bulk;
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
  bool orders;  // what its lanes did before is ordered before what they do after
};

struct Warp {
  uint32_t alive, ready, at_barrier, waiting;  // waiting: for a condition
  uint32_t open;  // which of the meetings have begun
  Meeting meetings[32];
};

class Block {
 public:
  // The block that this OS thread runs, or null.
  static Block* current();

  // Prepares one block of a cluster. False: no memory.
  bool begin(Cluster& cluster, uint32_t rank);
  enum class State { ended, stalled, interrupted, faulty };  // stalled: until another block has gone on
  // Lets its threads go on. All until the end, unless the launch says that blocks meet.
  State go_on();
  // Whether a thread has gone on since it was asked last.
  bool has_moved() { return std::exchange(moved_, false); }
  void forget_launch();

  // ---- what primitives read and call, all on a fiber of the block
  Extent3 index{}, extent{}, grid{};
  Thread& running() { return *running_; }
  uint32_t thread_index() const { return running_->index; }
  const std::vector<std::unique_ptr<Thread>>& threads() const { return threads_; }
  Cluster& cluster() { return *cluster_; }
  Grid& of_grid() { return *grid_; }
  uint32_t rank() const { return rank_; }
  uint32_t live() const { return live_; }  // threads that have not exited
  void let_next_grid_start();
  bool knows_cluster = false;  // that the other blocks of its cluster have started

  void barrier(Site site);
  void collective(uint32_t mask, const char* name, CollectiveFunction function, void* record, Site site, bool orders = false);
  // Every access of memory: at times another thread goes on here.
  void access() {
    if (--accesses_until_preemption_ == 0) preempt();
  }
  // All of an access must be elements of one operand with this right. Accesses that read and write are atomic.
  void check_global(const void* address, uint64_t bytes, Right wanted, Site site, bool atomic = false) {
    const RecentRun& recent = recent_[static_cast<uint32_t>(site.line) % recent_count];
    const uint64_t offset = reinterpret_cast<uintptr_t>(address) - recent.begin;
    const bool inside = offset < recent.bytes && bytes <= recent.bytes - offset && ((offset | bytes) & recent.element_mask) == 0;
    const bool found = inside && reinterpret_cast<uintptr_t>(address) % bytes == 0 && recent.operand->allows(wanted);
    const Operand& operand = found ? *recent.operand : find_operand(address, bytes, wanted, site);
    if (operand.watched) watch_global(operand, address, bytes, wanted, site, atomic);
  }

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

  SharedMemory& shared() { return shared_; }
  Hopper& hopper() { return hopper_ != nullptr ? *hopper_ : begin_hopper(); }
  Races* races() { return races_; }  // null: nobody looks for them
  // The running thread reads or writes shared memory.
  void touch_shared(const void* address, uint32_t bytes, bool write, Site site) {
    if (watched_) watch_shared(address, bytes, write, site);
    if (write) unfenced_->note(address, bytes, running_->id, site);
  }
  // What the running thread does, where it is counted.
  void count_shared(const void* address, uint32_t bytes, bool write, Site site) {
    if (counters_ != nullptr) counters_->shared(running_->index, shared_.array_at(address), address, bytes, write, site);
  }
  BlockCounters* counters() { return counters_.get(); }
  UnfencedWrites& unfenced_writes() { return *unfenced_; }
  // It issues an access by the asynchronous proxy.
  void begin_asynchronous_access(const void* address, uint32_t bytes, bool write, Site site) {
    unfenced_->check(address, bytes, write, site);
    if (races_ != nullptr) races_->begin(address, bytes, write, site);
  }
  size_t shared_bytes() const { return grid_->shape.shared_bytes; }
  // Ends the launch with a report. Never returns: what the fibers of the block were doing is dropped.
  [[noreturn]] __attribute__((format(printf, 3, 4))) void fault(Site site, const char* format, ...);

 private:
  enum class Order { plain, reverse, uniform, priorities };

  // block.cpp
  void watch_shared(const void* address, uint32_t bytes, bool write, Site site);
  void watch_global(const Operand& operand, const void* address, uint64_t bytes, Right wanted, Site site, bool atomic);
  static void fiber_entry();
  void thread_finished();
  bool check_end();
  Hopper& begin_hopper();

  // fault.cpp
  std::string place(const Thread* thread) const;
  std::string describe_unfinished() const;
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

  // asynchronous.cpp
  void begin_operation(const char* what, Operation& operation, Site site);
  void wait_for_condition(const char* what, bool (*condition)(void*), void* argument, Site site);
  void land(size_t number);
  void wake();
  void advance();

  // meeting.cpp
  void release_barrier();
  bool complete(uint32_t warp, uint32_t number);

  Launch* launch_ = nullptr;
  Grid* grid_ = nullptr;
  Cluster* cluster_ = nullptr;
  uint32_t rank_ = 0;
  bool watched_ = false;  // there are detectors of races, or counters
  bool holds_next_grid_ = false;
  std::vector<std::unique_ptr<Thread>> threads_;
  Thread* running_ = nullptr;
  Fiber root_;
  Warp warps_[most_warps];
  uint32_t warp_count_ = 0, ready_warps_ = 0, live_ = 0;

  uint32_t barrier_arrived_ = 0;
  Thread* barrier_first_ = nullptr;

  std::vector<Operation> operations_;
  uint64_t next_due_ = 0;  // the earliest of them
  uint32_t waiting_ = 0;   // threads that wait for a condition
  bool changed_ = false;
  const Thread* issuer_ = nullptr;  // of the operation that is landing: a fault is of this thread

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
  UnfencedWrites* unfenced_ = nullptr;
  std::shared_ptr<Hopper> hopper_;  // null in blocks that use none of its instructions
  Races* races_ = nullptr;
  std::unique_ptr<BlockCounters> counters_;  // null where nobody counts
  State state_ = State::ended;
  bool moved_ = false;
};

// Of this model, because every primitive reads it and the general one makes that a function call. A shared library cannot have it together with the CUDA runtime, whose own memory of a thread
// is larger than what a program that runs has left for such libraries.
#if defined(PK_SHARED_LIBRARY)
extern __thread Block* current_block;
#else
extern __thread Block* current_block __attribute__((tls_model("initial-exec")));
#endif
inline Block* Block::current() { return current_block; }

}  // namespace PK_BUILD
