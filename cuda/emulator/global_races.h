// Which accesses of global memory by different blocks of a launch are ordered. Each block keeps a log of the bytes it touched, and hands it over when it ends; two blocks that touch the same
// byte, one of them to write it, race under every schedule, unless one released what the other acquired in between. What lies between two such operations of a block is a segment.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "shared_races.h"
#include "site.h"

namespace PK_BUILD {

// Atomic ones race with the others but not with each other.
enum class Access : uint8_t { read, write, atomic };
constexpr uint32_t access_kinds = 3;

constexpr uint32_t page_units = 64, unit_bytes = 16;  // of global memory

// How many segments of other blocks are ordered before what a block does now, by the number of the block in GlobalRaces.
using KnownSegments = std::unordered_map<uint32_t, uint32_t>;

class GlobalRaces;
struct Launch;

// Of one block.
class GlobalLog {
 public:
  bool on() const { return launch_ != nullptr; }
  void begin_block(Launch* launch, uint64_t position, uint64_t block_number);
  void note(const void* address, uint64_t bytes, Access access, uint32_t thread, Site site);
  // Hands over what was noted.
  void end_segment();
  void release(const void* object);
  void acquire(const void* object);

 private:
  friend class GlobalRaces;
  struct Unit {
    uint16_t masks[access_kinds];
    uint16_t sites[access_kinds], threads[access_kinds];  // of the last
  };
  struct Page {
    uint64_t number;
    Unit units[page_units];
  };
  Page& page(uint64_t number);

  Launch* launch_ = nullptr;  // null: off
  uint32_t block_ = 0, segment_ = 0;
  KnownSegments known_;
  std::vector<std::unique_ptr<Page>> pages_;
  size_t used_ = 0;
  std::unordered_map<uint64_t, Page*> by_number_;
  Page* recent_[64] = {};
  SiteNumbers sites_;
};

// Of one launch.
class GlobalRaces {
 public:
  // Of all races, the one of which the later block comes first in the order of blocks, and then the earlier block, and then the address: the same on any number of OS threads.
  struct Race {
    struct Side {
      uint64_t position, block_number;
      Access access;
      uint16_t thread, site;
    } sides[2];  // by position
    uintptr_t address;
    uint32_t bytes;
    bool comes_before(const Race& other) const;
  };

  uint32_t add_block(uint64_t position, uint64_t block_number);
  // Compares a segment with all that were handed over before. False: it races with none.
  bool add_segment(const GlobalLog& log, Race* first);
  void release(const void* object, const GlobalLog& log);
  void acquire(const void* object, KnownSegments* known);
 private:
  struct Entry {
    int32_t next;
    uint32_t block, segment;
    uint16_t mask, site, thread;
    Access access;
  };
  struct Page {
    int32_t heads[page_units];
    std::vector<Entry> entries;
  };
  void add(Page& page, uint64_t page_number, uint32_t unit, Entry entry, const KnownSegments& known, Race* first, bool* any);

  std::mutex mutex_;
  std::vector<std::pair<uint64_t, uint64_t>> blocks_;  // position, block number
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  std::unordered_map<const void*, KnownSegments> objects_;
};

}  // namespace PK_BUILD
