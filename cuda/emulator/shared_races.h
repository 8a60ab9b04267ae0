// Which accesses of a block's shared memory are ordered, by vector clocks: two of the same byte, of which one writes, and that nothing orders, are a race under every schedule.
// Barriers order; shuffles, votes and matrix instructions do not, as in PTX. An asynchronous access is under way, and ordered with nothing, until somebody learns that it has ended.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "site.h"

namespace PK_BUILD {

class Block;

// Whether launches from this OS thread look for races: what was set last, at first what PEFT_KERNELS_EMULATOR_RACES says.
bool detects_races();
void set_detects_races(bool on);

// Places in kernels as small numbers, the same in all blocks.
uint16_t new_site_number(Site site);
Site site_of_number(uint16_t number);

class SiteNumbers {
 public:
  uint16_t of(Site site) {
    Known& known = known_[static_cast<uint32_t>(site.line) % count];
    if (known.site.line != site.line || known.site.file != site.file) known = {site, new_site_number(site)};
    return known.number;
  }

 private:
  struct Known {
    Site site;
    uint16_t number;
  };
  static constexpr uint32_t count = 256;
  Known known_[count] = {};
};

class SharedRaces {
 public:
  bool on() const { return on_; }
  void begin_block(bool on, Block* block, const char* memory, uint32_t threads);

  // The running thread reads or writes.
  void access(const void* address, uint32_t bytes, bool write, Site site);

  // An asynchronous access that the running thread issues: to be called when it is issued. It conflicts with everything that is not ordered before, of this thread as well, until it has ended.
  void begin(const void* address, uint32_t bytes, bool write, Site site);
  // Its issuer has waited for it: from now on it is the issuer's own.
  void end(const void* address, uint32_t bytes, bool write, uint32_t issuer);
  // It has ended by itself: it is ordered before what acquires `object` from now on.
  void end_for(const void* object, const void* address, uint32_t bytes, bool write, uint32_t issuer);

  // What the running thread did is ordered before what any thread does that acquires the same object later.
  void release(const void* object);
  void acquire(const void* object);
  // All of the block meet, or some of it: those whose bits are set, a word a warp.
  void join_block();
  void join_warp(uint32_t warp, uint32_t lanes);
  void join(const uint32_t* lanes_of_warps);

 private:
  static constexpr uint32_t unit_bytes = 16, entries = 4, arena_bytes = 512 * 1024;
  static constexpr uint32_t under_way = ~0u;  // as a clock

  // An access of some bytes of a unit.
  struct Entry {
    uint32_t clock;
    uint16_t thread, mask, site;
    uint8_t write, count;  // count: of asynchronous accesses that are the same
  };
  // Those that some thread may not know of. When the floor has risen since, they are the asynchronous ones among these.
  struct alignas(64) Unit {
    Entry of[entries];
    uint32_t floor;
    uint8_t used, writes;
  };

  uint32_t* row(uint32_t thread) { return rows_.data() + size_t{thread} * (threads_ + 1); }
  void advance_clock(uint32_t thread) { clocks_[thread] = ++row(thread)[thread]; }
  bool known_to_all(const Entry& entry) const { return entry.clock <= (entry.thread == threads_ ? engine_floor_ : floor_); }
  template <class F>
  void units(const void* address, uint32_t bytes, F visit);
  void note(Unit& unit, uint32_t mask, bool write, uint32_t clock, Site site);
  void refresh(Unit& unit);
  Entry* place_for(Unit& unit);
  [[noreturn]] void report(const Entry& other, const Unit& unit, uint32_t mask, bool write, bool asynchronous, Site site);
  std::vector<uint32_t>& object(const void* key);
  void join_rows(const std::vector<uint32_t>& members);

  bool on_ = false;
  Block* block_ = nullptr;
  const char* memory_ = nullptr;
  uint32_t threads_ = 0;
  std::vector<Unit> units_;
  // What each thread knows of every other, the engine of the asynchronous accesses being the last; what all know is not written out: clocks up to the floor.
  std::vector<uint32_t> rows_;
  std::vector<uint32_t> clocks_;  // the diagonal of these, for it is read most
  std::vector<bool> knows_others_;  // than its own warp
  uint32_t floor_ = 0, engine_floor_ = 0, engine_clock_ = 1;
  uint64_t under_way_ = 0;
  uint32_t turn_ = 0;
  std::vector<std::pair<const void*, std::vector<uint32_t>>> objects_;
  SiteNumbers sites_;
};

}  // namespace PK_BUILD
