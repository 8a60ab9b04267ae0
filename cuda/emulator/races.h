// Which accesses of memory by the threads of a cluster are ordered, by vector clocks: two of the same byte, of which one writes, and that nothing orders, are a race under every
// schedule. Barriers order; shuffles, votes and matrix instructions do not, as in PTX. An asynchronous access is under way, and ordered with nothing, until somebody learns that it
// has ended.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "site.h"

namespace PK_BUILD {

struct Cluster;
struct Grid;

// Atomic ones race with the others but not with each other.
enum class Access : uint8_t { read, write, atomic };
constexpr uint32_t access_kinds = 3;
inline bool conflict(Access left, Access right) { return left == Access::write || right == Access::write || left != right; }
inline const char* verb_of(Access access) { return access == Access::read ? "reads" : access == Access::write ? "writes" : "updates atomically"; }

// Of memory: 16 bytes, and 64 times as many.
constexpr uint32_t unit_bytes = 16, page_units = 64, page_bytes = unit_bytes * page_units;

// What a cluster did to a unit in one segment.
struct LoggedUnit {
  uint16_t masks[access_kinds];
  struct {
    uint16_t thread, site;
  } last[access_kinds];
};

// How many segments of other clusters are ordered before what a cluster does now.
using KnownSegments = std::unordered_map<uint32_t, uint32_t>;

// Of all faults of a launch the least is reported, the same on any number of OS threads: of the first cluster in the order of clusters, and of races the one with the first other
// cluster, and then the first address.
using FaultOrder = std::tuple<uint64_t, uint64_t, uint64_t>;

// Which accesses of global memory by different clusters of a launch, or of launches that overlap, are ordered. Each cluster keeps a log of the bytes it touched, and hands it over
// when it ends; two that touch the same byte, one of them to write it, race under every schedule, unless one released what the other acquired in between. What lies between two
// such operations of a cluster is a segment.
class GlobalRaces {
 public:
  struct Party {
    uint64_t position, cluster;
    const Grid* grid;
  };
  struct Side {
    Party party;
    Access access;
    uint16_t thread, site;
  };
  struct Race {
    Side sides[2];  // by position
    uintptr_t address;
    uint32_t bytes;
    FaultOrder order() const { return {sides[1].party.position, sides[0].party.position, address}; }
  };

  uint32_t add_party(const Party& party);
  void release(const void* object, uint32_t party, uint32_t segments, const KnownSegments& known);
  void acquire(const void* object, KnownSegments* known);

  struct LoggedPage {
    uint64_t number;
    LoggedUnit log[page_units];
  };
  // Compares what a party did in a segment with all that was handed over before. The first race, if there is one.
  std::optional<Race> add_segment(uint32_t party, uint32_t segment, const KnownSegments& known, const std::vector<LoggedPage*>& pages);

 private:
  struct Entry {
    int32_t next;
    uint32_t party, segment;
    uint16_t mask, site, thread;
    Access access;
  };
  struct Page {
    int32_t heads[page_units];
    std::vector<Entry> entries;
  };
  void add(Page& page, uint64_t unit, Entry entry, const KnownSegments& known, std::optional<Race>* first);

  std::mutex mutex_;
  std::vector<Party> parties_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  std::unordered_map<const void*, KnownSegments> objects_;
};

// Whether launches from this OS thread look for races: what was set last, at first what PEFT_KERNELS_EMULATOR_RACES says.
bool detects_races();
void set_detects_races(bool on);

class Races {
 public:
  static constexpr uint32_t under_way = ~0u;  // as a clock

  // Threads are numbered through the cluster. A launch of a single cluster keeps no log for others.
  void begin(Cluster& cluster, uint32_t threads, bool logs);

  // The running thread accesses shared memory, its own or another block's.
  void access(const void* address, uint32_t bytes, Access access, Site site);
  // The same of global memory, which other clusters may touch as well.
  void access_global(const void* address, uint32_t bytes, Access access, Site site);

  // An asynchronous access of shared memory that the running thread issues: to be called when it is issued. It conflicts with everything that is not ordered before, of this thread
  // as well, until it has ended.
  void begin(const void* address, uint32_t bytes, bool write, Site site);
  // Its issuer has waited for it: from now on it is the issuer's own.
  void end(const void* address, uint32_t bytes, bool write, uint32_t issuer) { end_as(issuer, clocks_[issuer], address, bytes, write, issuer); }
  // It has ended by itself: it is ordered before what acquires `object` from now on. Its clock, as one of the engine's.
  uint32_t end_for(const void* object, const void* address, uint32_t bytes, bool write, uint32_t issuer);

  // What the running thread did is ordered before what any thread of the cluster does that acquires the same object later.
  void release(const void* object);
  void acquire(const void* object);
  // Of any cluster: by a thread of this one, or by all of it.
  void release_global(const void* object);
  void acquire_global(const void* object);
  void end_segment();
  // The threads first ... first + count of a block meet, or those lanes of a warp of which `first` is the first.
  void join_block(uint32_t first, uint32_t count);
  void join_warp(uint32_t first, uint32_t lanes);

  uint32_t clock(uint32_t thread) const { return clocks_[thread]; }
  uint32_t engine() const { return threads_; }
  // The latest clock of `of` that one of these threads knows.
  uint32_t known(uint32_t first, uint32_t count, uint32_t of);

 private:
  static constexpr uint32_t entries = 4;

  // An access of some bytes of a unit.
  struct Entry {
    uint32_t clock;
    uint16_t thread, mask, site;
    Access access;
    uint8_t count;  // of asynchronous accesses that are the same
    bool writes() const { return access != Access::read; }
  };
  // Those that some thread may not know of. When the floor has risen since, they are the asynchronous ones among these.
  struct alignas(64) Unit {
    Entry of[entries];
    uint32_t floor;
    uint8_t used, writes;
  };
  // Of global memory that the cluster has touched.
  struct Page : GlobalRaces::LoggedPage {
    bool logged;  // in this segment
    Unit units[page_units];
  };

  uint32_t* row(uint32_t thread) { return rows_.data() + size_t{thread} * (threads_ + 1); }
  void advance_clock(uint32_t thread) { clocks_[thread] = ++row(thread)[thread]; }
  bool known_to_all(const Entry& entry) const { return entry.clock <= (entry.thread == threads_ ? engine_floor_ : floor_); }
  Page& page(uint64_t number);
  template <class F>
  void units(const void* address, uint32_t bytes, F visit);
  void note(Unit& unit, uintptr_t begin, uint32_t mask, Access access, uint32_t self, uint32_t clock, Site site);
  void end_as(uint32_t thread, uint32_t clock, const void* address, uint32_t bytes, bool write, uint32_t issuer);
  void refresh(Unit& unit);
  Entry* place_for(Unit& unit);
  [[noreturn]] void report(const Entry& other, uintptr_t begin, uint32_t mask, Access access, bool asynchronous, Site site);
  std::vector<uint32_t>& object(const void* key);
  void join(const std::vector<uint32_t>& members, uint32_t begin, uint32_t end);

  Cluster* cluster_ = nullptr;
  uintptr_t memory_ = 0;  // the shared memory of the cluster
  uint32_t threads_ = 0;
  std::vector<Unit> units_;  // of it
  // What each thread knows of every other, the engine of the asynchronous accesses being the last; what all know is not written out: clocks up to the floor.
  std::vector<uint32_t> rows_;
  std::vector<uint32_t> clocks_;  // the diagonal of these, for it is read most
  std::vector<bool> knows_others_;  // than its own warp
  uint32_t floor_ = 0, engine_floor_ = 0, engine_clock_ = 1;
  uint64_t under_way_ = 0;
  // Of one cluster:
  struct Run {
    bool logs = false;
    uint32_t party = 0, segment = 0;
    uint32_t turn = 0;  // which accesses are forgotten
    KnownSegments known_segments{};
    std::unordered_map<const void*, std::vector<uint32_t>> objects{};
    std::unordered_map<uint64_t, std::unique_ptr<Page>> pages{};
    Page* recent[64] = {};
    std::vector<GlobalRaces::LoggedPage*> logged{};  // pages of this segment
  } run_;
};

// Which bytes of the shared memory of a cluster threads have written without a fence between that and an asynchronous access: bulk copies and wgmma reach memory another way, and
// may find what was there before.
class UnfencedWrites {
 public:
  void begin(Cluster& cluster, uint32_t threads);

  // An ordinary write. Of those of one unit, the last counts.
  void note(const void* address, uint32_t bytes, uint32_t thread, Site site) {
    const uint64_t begin = reinterpret_cast<uintptr_t>(address) - memory_;
    for (uint64_t unit = begin / unit_bytes; unit <= (begin + bytes - 1) / unit_bytes; ++unit) units_[unit] = {fences_[thread], static_cast<uint16_t>(thread), sites_->of(site)};
  }
  void fence(uint32_t thread) { ++fences_[thread]; }

  // An asynchronous access is issued. After a write, what is there has come the other way.
  void check(const void* address, uint32_t bytes, bool write, Site site);

 private:
  struct Unit {
    uint32_t fences;  // of the thread when it wrote; 0: not written
    uint16_t thread, site;
  };
  Cluster* cluster_ = nullptr;
  SiteNumbers* sites_ = nullptr;
  uintptr_t memory_ = 0;
  std::vector<Unit> units_;
  std::vector<uint32_t> fences_;  // of each thread; they go on from block to block, so that what earlier ones left behind counts as fenced
};

}  // namespace PK_BUILD
