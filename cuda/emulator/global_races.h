// Which accesses of global memory by different clusters of a launch are ordered. Each keeps a log of the bytes it touched, and hands it over when it ends; two that touch the same
// byte, one of them to write it, race under every schedule, unless one released what the other acquired in between. What lies between two such operations of a cluster is a
// segment.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
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

// Of one launch, or of several that overlap.
class GlobalRaces {
 public:
  // Of all races, the one of which the later cluster comes first in the order of clusters, and then the earlier one, and then the address: the same on any number of OS threads.
  struct Race {
    struct Side {
      uint64_t position, cluster;
      const Grid* grid;
      Access access;
      uint16_t thread, site;
    } sides[2];  // by position
    uintptr_t address;
    uint32_t bytes;
    bool comes_before(const Race& other) const;
  };

  uint32_t add_party(const Cluster& cluster);
  void release(const void* object, uint32_t party, uint32_t segments, const KnownSegments& known);
  void acquire(const void* object, KnownSegments* known);

  // Compares what a party did in a segment with all that was handed over before. Whether it races, and the first of the races.
  struct LoggedPage {
    uint64_t number;
    const LoggedUnit* units;
  };
  bool add_segment(uint32_t party, uint32_t segment, const KnownSegments& known, const std::vector<LoggedPage>& log, Race* first);

 private:
  struct Party {
    uint64_t position, cluster;
    const Grid* grid;
  };
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
  void add(Page& page, uint64_t unit, Entry entry, const KnownSegments& known, Race* first, bool* any);

  std::mutex mutex_;
  std::vector<Party> parties_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  std::unordered_map<const void*, KnownSegments> objects_;
};

}  // namespace PK_BUILD
