#include "cluster.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>

namespace PK_BUILD {

Cluster::~Cluster() {
  if (memory == nullptr) return;
  unpoison(memory, most_cluster_blocks * shared_arena_bytes);
  munmap(memory, most_cluster_blocks * shared_arena_bytes);
}

void Cluster::begin(Launch& of_launch, Grid& of_grid, uint64_t at_position, uint64_t cluster_number) {
  launch = &of_launch;
  grid = &of_grid;
  position = at_position;
  number = cluster_number;
  size = live = grid->cluster_blocks();
  threads = size * grid->shape.block_threads;
  arrived = phase = 0;
  remote_accesses.clear();
  if (memory == nullptr) {
    void* mapped = mmap(nullptr, most_cluster_blocks * shared_arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    memory = static_cast<char*>(mapped);
  }
  if (launch->detects_races) races.begin(*this, threads, launch->grids.size() > 1 || grid->clusters > 1);
  unfenced.begin(*this, threads);
  while (fibers.size() < threads) fibers.emplace_back();
  for (uint32_t rank = 0; rank < size; ++rank) blocks.push_back(std::make_unique<Block>(*this, rank));
}

Cluster::Text Cluster::describe_thread(uint32_t id) const {
  const uint32_t count = grid->shape.block_threads;
  const Extent3 of = grid->block_index(number, id / count);
  Text text;
  if (size == 1) std::snprintf(text.data(), text.size(), "thread %u", id);
  else std::snprintf(text.data(), text.size(), "thread %u of block (%u,%u,%u)", id % count, of.x, of.y, of.z);
  return text;
}

std::string Cluster::describe_place(uintptr_t address) const {
  const uint64_t offset = address - reinterpret_cast<uintptr_t>(memory);
  if (offset < size * shared_arena_bytes) {
    Block& block = *blocks[offset / shared_arena_bytes];
    const uint32_t array = block.shared.array_at(reinterpret_cast<const void*>(address));
    const uintptr_t begin = reinterpret_cast<uintptr_t>(block.shared.layout.arrays[array].begin);
    const std::string of = size == 1 ? "" : " of block " + std::to_string(block.rank) + " of the cluster";
    return "byte " + std::to_string(address - begin) + " of array " + std::to_string(array) + " of the shared memory" + of;
  }
  return describe_address(grid->operands.all, address);
}

// ---- the barrier of the cluster ------------------------------------------------------------------------------------------------------------------------------

void Cluster::end_phase_if_complete() {
  if (arrived == 0 || arrived < threads) return;
  arrived = 0;
  ++phase;
  Block::current()->changed();
}

void Cluster::thread_exits(Thread& thread) {
  if (thread.at_cluster_barrier && thread.cluster_phase == phase) --arrived;
  --threads;
  end_phase_if_complete();
}

void arrive_at_cluster(bool orders, Site site) {
  Block& block = *Block::current();
  Cluster& cluster = block.cluster;
  block.access();
  Thread& thread = block.running();
  if (thread.at_cluster_barrier) block.fault(site, "arrives at the barrier of the cluster again, and did not wait at it before");
  thread.at_cluster_barrier = true;
  thread.cluster_phase = cluster.phase;
  // Phases in turn, so that who waits for one does not learn what came before the next.
  if (orders && block.races != nullptr) block.races->release(&cluster.phase_keys[cluster.phase % 2]);
  ++cluster.arrived;
  cluster.end_phase_if_complete();
}

void wait_for_cluster(Site site) {
  Block& block = *Block::current();
  Cluster& cluster = block.cluster;
  Thread& thread = block.running();
  if (!thread.at_cluster_barrier) block.fault(site, "waits at the barrier of the cluster, and did not arrive at it");
  block.wait_until("cluster_wait", [&] { return cluster.phase != thread.cluster_phase; }, site);
  thread.at_cluster_barrier = false;
  block.knows_cluster = true;
  if (block.races != nullptr) block.races->acquire(&cluster.phase_keys[thread.cluster_phase % 2]);
}

// ---- the shared memory of other blocks -----------------------------------------------------------------------------------------------------------------------

uint32_t rank_of_address(const void* address) {
  return static_cast<uint32_t>(static_cast<size_t>(static_cast<const char*>(address) - Block::current()->cluster.memory) / shared_arena_bytes);
}

std::ptrdiff_t distance_to_block(uint32_t rank, Site site) {
  Block& block = *Block::current();
  if (rank >= block.cluster.size) block.fault(site, "names block %u of a cluster of %u", rank, block.cluster.size);
  return (static_cast<std::ptrdiff_t>(rank) - static_cast<std::ptrdiff_t>(block.rank)) * static_cast<std::ptrdiff_t>(shared_arena_bytes);
}

void check_remote(uint32_t rank, Site site) {
  Block& block = *Block::current();
  if (rank == block.rank) return;
  const Block& target = *block.cluster.blocks[rank];
  const char* wrong = !block.knows_cluster          ? "and no cluster_wait() says that this one has started"
                      : target.live == 0            ? "which has exited"
                      : target.shared.key == nullptr ? "which has not named it: the emulator wants PK_SHARED before the barrier of the cluster"
                                                    : nullptr;
  if (wrong != nullptr) block.fault(site, "accesses shared memory of block %u of the cluster, %s", rank, wrong);
}

void touch_remote(const void* address, uint32_t bytes, bool write, Site site) {
  Block& block = *Block::current();
  check_remote(rank_of_address(address), site);
  if (write) block.unfenced.note(address, bytes, block.running().id, site);
  if (block.races != nullptr) block.races->access(address, bytes, write ? Access::write : Access::read, site);
  note_remote(address, site);
}

void note_remote(const void* address, Site site) {
  Block& block = *Block::current();
  const uint32_t self = block.running().id;
  if (rank_of_address(address) != block.rank && block.races != nullptr) block.cluster.remote_access(address, self, site).clock = block.races->clock(self);
}

Cluster::RemoteAccess& Cluster::remote_access(const void* address, uint32_t thread, Site site) {
  const uint32_t target = rank_of_address(address);
  const auto same = [&](const RemoteAccess& known) { return known.target == target && known.thread == thread && known.site == site; };
  const auto found = std::find_if(remote_accesses.begin(), remote_accesses.end(), same);
  return found != remote_accesses.end() ? *found : remote_accesses.emplace_back(RemoteAccess{target, thread, site, 0, 0});
}

void Cluster::check_exit(const Block& block) {
  if (size == 1 || !launch->detects_races) return;
  const uint32_t count = grid->shape.block_threads;
  for (const RemoteAccess& access : remote_accesses) {
    if (access.target != block.rank || (access.under_way == 0 && races.known(block.rank * count, count, access.thread) >= access.clock)) continue;
    const bool copy = access.thread == races.engine();
    const Text who = copy ? Text{"a copy"} : describe_thread(access.thread);
    Block::current()->fault(access.site, "exits while %s may still access the shared memory of its block, as it does here: nothing orders the two", who.data());
  }
}

// ---- launches that overlap -----------------------------------------------------------------------------------------------------------------------------------

void Block::let_next_grid_start() {
  if (launch.together && std::exchange(holds_next_grid_, false)) --grid.holding;
}

void wait_for_previous_grid(Site site) {
  Block& block = *Block::current();
  const Grid* previous = block.grid.previous;
  if (previous == nullptr) return;
  block.wait_until("wait_for_previous_launch", [&] { return previous->running == 0; }, site);
  if (block.races != nullptr) block.races->acquire_global(previous);
}

}  // namespace PK_BUILD
