// Blocks that run together, may touch each other's shared memory and have a barrier of their own. In a launch without clusters each block is one.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "block.h"

namespace PK_BUILD {

constexpr uint32_t most_cluster_blocks = 8;  // on every chip that has clusters

struct Cluster {
  ~Cluster();
  // Makes the blocks at one position of the launch's order. Throws where there is no memory.
  void begin(Launch& launch, Grid& grid, uint64_t position, uint64_t number);
  // None of its threads can go on.
  void note_deadlock();

  Launch* launch = nullptr;
  Grid* grid = nullptr;
  uint64_t position = 0, number = 0;
  uint32_t size = 0, live = 0;  // blocks; that have not ended
  std::vector<std::unique_ptr<Block>> blocks;
  // What stays from one use to the next:
  std::deque<Fiber> fibers;  // of the threads of all blocks
  char* memory = nullptr;    // the shared memory of all, an arena each
  Races races;
  UnfencedWrites unfenced;
  SiteNumbers sites;

  // The barrier of the cluster, of all threads that have not exited.
  uint32_t threads = 0, arrived = 0, phase = 0;
  char phase_keys[2] = {};  // by which the detector of races knows its phases
  void end_phase_if_complete();
  void thread_exits(Thread& thread);

  // A text of its own on the stack of whoever asks.
  using Text = std::array<char, 96>;
  Text describe_thread(uint32_t id) const;
  std::string describe_place(uintptr_t address) const;

  // What threads and copies did to the shared memory of other blocks: before these exit, they must know of it.
  struct RemoteAccess {
    uint32_t target, thread;  // the block it is in; the number of the thread, or the engine
    Site site;
    uint32_t clock, under_way;  // of the last; copies that have not landed
  };
  std::vector<RemoteAccess> remote_accesses;
  RemoteAccess& remote_access(const void* address, uint32_t thread, Site site);
  // The running thread is the last of its block: what others may still do to its memory is a fault.
  void check_exit(const Block& block);
};

// ---- what the primitives call --------------------------------------------------------------------------------------------------------------------------------

void arrive_at_cluster(bool orders, Site site);
void wait_for_cluster(Site site);
// Where the block of this rank has what this block has at `element`.
std::ptrdiff_t distance_to_block(uint32_t rank, Site site);
template <class T>
T* in_block(T* element, uint32_t rank, Site site) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(element) + distance_to_block(rank, site));
}
// That block must be running, and the running thread's must know that it has started.
void check_remote(uint32_t rank, Site site);
// The running thread touches shared memory of any block of the cluster.
void touch_remote(const void* address, uint32_t bytes, bool write, Site site);
// It did, and that block must know of it before it exits.
void note_remote(const void* address, Site site);
uint32_t rank_of_address(const void* address);

void wait_for_previous_grid(Site site);

}  // namespace PK_BUILD
