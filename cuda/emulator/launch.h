// Runs grids on the cores of this machine.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "../include/peft_kernels.h"
#include "../ptx/shape.cuh"
#include "counters.h"
#include "operands.h"
#include "races.h"

namespace PK_BUILD {

// A kernel with its arguments: call() is one CUDA thread.
struct PreparedLaunch {
  LaunchShape shape;
  Operands operands;
  std::function<void()> call;
};

// One after the other, or where there are several: each may start when the one before lets it.
int32_t run_grids(const pk_queue& queue, std::vector<PreparedLaunch> prepared);

// What is known of the chip that a queue imitates.
int32_t imitated_chip(const pk_queue& queue, const char* what, pk_chip* chip);

// A kernel that runs.
struct Grid : PreparedLaunch {
  const Grid* previous;        // that this one overlaps, or null
  Extent3 in_clusters;         // its extent
  uint64_t clusters, position; // of the first among the clusters of the launch
  // Where another grid overlaps it:
  uint64_t holding = 0, running = 0;  // blocks that have neither let the next grid start nor ended; that have not ended

  uint32_t cluster_blocks() const { return shape.cluster.x * shape.cluster.y * shape.cluster.z; }
  Extent3 block_index(uint64_t cluster, uint32_t rank) const;
};

// What all blocks of one launch have in common.
struct Launch {
  std::vector<Grid> grids;
  uint64_t seed;
  bool detects_races, counts;
  bool blocks_meet;  // one may wait for another: blocks take turns
  bool together;     // and for one of another cluster: all on one OS thread

  // Clusters of blocks are started in an order, 0 first. A fault at one position stops only the later ones, so that the fault which is reported at the end does not depend on the
  // number of OS threads.
  static constexpr uint64_t nowhere = ~uint64_t{0};
  std::atomic<uint64_t> next_position{0};
  std::atomic<uint64_t> fault_position{nowhere};
  std::mutex mutex;
  FaultOrder first_fault{nowhere, 0, 0};
  std::string report;  // of it
  void note(const FaultOrder& order, const std::string& text);
  void note_race(const GlobalRaces::Race& race);

  GlobalRaces races;

  CounterRows counters;
};

}  // namespace PK_BUILD
