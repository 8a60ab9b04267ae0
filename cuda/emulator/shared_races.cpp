#include "shared_races.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "block.h"

namespace PK_BUILD {

namespace {

struct SiteTable {
  std::mutex mutex;
  std::vector<Site> sites;
};

SiteTable& site_table() {
  static SiteTable& table = *new SiteTable;
  return table;
}

thread_local bool detecting = [] {
  const char* text = std::getenv("PEFT_KERNELS_EMULATOR_RACES");
  return text == nullptr || text[0] != '0';
}();

}  // namespace

bool detects_races() { return detecting; }
void set_detects_races(bool on) { detecting = on; }

uint16_t new_site_number(Site site) {
  SiteTable& table = site_table();
  std::lock_guard<std::mutex> lock(table.mutex);
  for (size_t i = 0; i < table.sites.size(); ++i) {
    if (table.sites[i] == site) return static_cast<uint16_t>(i);
  }
  table.sites.push_back(site);
  return static_cast<uint16_t>(table.sites.size() - 1);
}

Site site_of_number(uint16_t number) {
  SiteTable& table = site_table();
  std::lock_guard<std::mutex> lock(table.mutex);
  return table.sites[number];
}

// Clocks go on from block to block, so that what earlier ones left behind is known to all and need not be wiped out.
void SharedRaces::begin_block(bool on, Block* block, const char* memory, uint32_t threads) {
  on_ = on;
  if (!on_) return;
  constexpr uint32_t near_the_end = 1u << 31;
  const bool anew = threads != threads_ || floor_ > near_the_end || engine_clock_ > near_the_end || under_way_ != 0 || units_.empty();
  block_ = block;
  memory_ = memory;
  objects_.clear();
  if (anew) {
    threads_ = threads;
    units_.assign(arena_bytes / unit_bytes, Unit{});
    clocks_.assign(threads, 0);
    rows_.assign(size_t{threads} * (threads + 1), 0);
    floor_ = engine_floor_ = 0;
    engine_clock_ = 1;
    under_way_ = 0;
  }
  join_block();
  engine_floor_ = engine_clock_++;
}

template <class F>
void SharedRaces::units(const void* address, uint32_t bytes, F visit) {
  const auto begin = static_cast<uint32_t>(static_cast<const char*>(address) - memory_);
  for (uint32_t at = begin, end = begin + bytes; at < end;) {
    const uint32_t offset = at % unit_bytes, count = std::min(unit_bytes - offset, end - at);
    visit(units_[at / unit_bytes], ((1u << count) - 1) << offset);
    at += count;
  }
}

// Drops what all know.
void SharedRaces::refresh(Unit& unit) {
  uint8_t used = 0, writes = 0;
  for (uint32_t i = 0; i < unit.used; ++i) {
    if (known_to_all(unit.of[i])) continue;
    writes = static_cast<uint8_t>(writes + unit.of[i].write);
    unit.of[used++] = unit.of[i];
  }
  unit.used = used;
  unit.writes = writes;
  unit.floor = floor_;
}

// Where to note one more access, if need be by forgetting another: what that would have shown is left to the neighbouring units.
SharedRaces::Entry* SharedRaces::place_for(Unit& unit) {
  if (unit.used < entries) return &unit.of[unit.used++];
  Entry* place = &unit.of[turn_++ % entries];
  if (unit.writes == 0 && place->clock != under_way) return place;
  place = nullptr;
  for (uint32_t i = 0; i < entries; ++i) {
    Entry& entry = unit.of[(turn_ + i) % entries];
    if (entry.clock != under_way && (place == nullptr || place->write > entry.write)) place = &entry;
  }
  if (place != nullptr) unit.writes = static_cast<uint8_t>(unit.writes - place->write);
  return place;
}

// Compares an access by the running thread with those before and notes it. Clock: its own, or under_way.
inline void SharedRaces::note(Unit& unit, uint32_t mask, bool write, uint32_t clock, Site site) {
  const uint32_t self = block_->thread_index();
  if (unit.floor != floor_) refresh(unit);
  Entry* place = nullptr;
  if (write || unit.writes != 0 || clock == under_way) {
    const uint32_t* known = row(self);
    for (uint32_t i = 0; i < unit.used; ++i) {
      Entry& entry = unit.of[i];
      if ((entry.mask & mask) == 0) continue;
      if (entry.clock > known[entry.thread]) {
        if (entry.write || write) report(entry, unit, mask, write, clock == under_way, site);
        if (entry.clock == under_way && clock == under_way && entry.thread == self && entry.mask == mask) {
          ++entry.count;
          return;
        }
      } else if ((entry.mask & ~mask) == 0 && (write || !entry.write)) {
        // Not needed any more: who is ordered after this access is ordered after that one.
        place = &entry;
      }
    }
  } else if (unit.used != 0) {
    // Nothing but reads so far. Neighbouring elements are often read in turn.
    Entry& last = unit.of[unit.used - 1];
    if (last.thread == self && last.clock == clock) {
      last.mask |= static_cast<uint16_t>(mask);
      return;
    }
  }
  if (place != nullptr) unit.writes = static_cast<uint8_t>(unit.writes - place->write);
  else place = place_for(unit);
  if (place == nullptr) return;
  *place = {clock, static_cast<uint16_t>(self), static_cast<uint16_t>(mask), sites_.of(site), write, 1};
  unit.writes = static_cast<uint8_t>(unit.writes + write);
}

void SharedRaces::access(const void* address, uint32_t bytes, bool write, Site site) {
  const uint32_t clock = clocks_[block_->thread_index()];
  units(address, bytes, [&](Unit& unit, uint32_t mask) { note(unit, mask, write, clock, site); });
}

void SharedRaces::begin(const void* address, uint32_t bytes, bool write, Site site) {
  ++under_way_;
  units(address, bytes, [&](Unit& unit, uint32_t mask) { note(unit, mask, write, under_way, site); });
}

void SharedRaces::end(const void* address, uint32_t bytes, bool write, uint32_t issuer) {
  --under_way_;
  units(address, bytes, [&](Unit& unit, uint32_t mask) {
    for (Entry& entry : unit.of) {
      if (entry.clock != under_way || entry.thread != issuer || entry.mask != mask || entry.write != write) continue;
      if (--entry.count == 0) entry.clock = clocks_[issuer];
      return;
    }
  });
}

void SharedRaces::end_for(const void* key, const void* address, uint32_t bytes, bool write, uint32_t issuer) {
  --under_way_;
  units(address, bytes, [&](Unit& unit, uint32_t mask) {
    for (Entry& entry : unit.of) {
      if (entry.clock != under_way || entry.thread != issuer || entry.mask != mask || entry.write != write) continue;
      if (--entry.count != 0) return;
      entry.clock = engine_clock_;
      entry.thread = static_cast<uint16_t>(threads_);
      return;
    }
  });
  uint32_t& known = object(key)[threads_];
  known = std::max(known, engine_clock_++);
}

std::vector<uint32_t>& SharedRaces::object(const void* key) {
  for (auto& entry : objects_) {
    if (entry.first == key) return entry.second;
  }
  objects_.push_back({key, std::vector<uint32_t>(threads_ + 1, 0)});
  return objects_.back().second;
}

void SharedRaces::release(const void* key) {
  const uint32_t self = block_->thread_index();
  std::vector<uint32_t>& clocks = object(key);
  for (uint32_t i = 0; i <= threads_; ++i) clocks[i] = std::max(clocks[i], row(self)[i]);
  advance_clock(self);
}

void SharedRaces::acquire(const void* key) {
  const uint32_t self = block_->thread_index();
  const std::vector<uint32_t>& clocks = object(key);
  for (uint32_t i = 0; i <= threads_; ++i) row(self)[i] = std::max(row(self)[i], clocks[i]);
  knows_others_[self] = true;
}

void SharedRaces::join_block() {
  for (uint32_t thread = 0; thread < threads_; ++thread) {
    floor_ = std::max(floor_, clocks_[thread]);
    engine_floor_ = std::max(engine_floor_, row(thread)[threads_]);
  }
  for (uint32_t thread = 0; thread < threads_; ++thread) row(thread)[thread] = clocks_[thread] = floor_ + 1;
  knows_others_.assign(threads_, false);
}

void SharedRaces::join_warp(uint32_t warp, uint32_t lanes) {
  std::vector<uint32_t> members;
  bool others = false;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    members.push_back(warp * 32 + static_cast<uint32_t>(__builtin_ctz(rest)));
    others = others || knows_others_[members.back()];
  }
  if (others) return join_rows(members);
  // Of other warps they know what all know: only their own part is to be joined.
  const uint32_t first = warp * 32, count = std::min(32u, threads_ - first);
  uint32_t joined[32] = {};
  for (const uint32_t thread : members) {
    for (uint32_t i = 0; i < count; ++i) joined[i] = std::max(joined[i], row(thread)[first + i]);
  }
  for (const uint32_t thread : members) {
    std::copy(joined, joined + count, row(thread) + first);
    advance_clock(thread);
  }
}

void SharedRaces::join(const uint32_t* lanes_of_warps) {
  std::vector<uint32_t> members;
  for (uint32_t thread = 0; thread < threads_; ++thread) {
    if ((lanes_of_warps[thread / 32] >> thread % 32 & 1) != 0) members.push_back(thread);
  }
  join_rows(members);
}

void SharedRaces::join_rows(const std::vector<uint32_t>& members) {
  std::vector<uint32_t> joined(threads_ + 1, 0);
  for (const uint32_t thread : members) {
    for (uint32_t i = 0; i <= threads_; ++i) joined[i] = std::max(joined[i], row(thread)[i]);
  }
  for (const uint32_t thread : members) {
    std::copy(joined.begin(), joined.end(), row(thread));
    advance_clock(thread);
    knows_others_[thread] = true;
  }
}

void SharedRaces::report(const Entry& other, const Unit& unit, uint32_t mask, bool write, bool asynchronous, Site site) {
  const uint32_t both = other.mask & mask;
  const auto* first = reinterpret_cast<const unsigned char*>(memory_) + static_cast<size_t>(&unit - units_.data()) * unit_bytes + __builtin_ctz(both);
  size_t number = 0;
  const std::vector<SharedLayout::Array>& arrays = block_->shared().layout().arrays;
  while (number + 1 < arrays.size() && arrays[number + 1].begin <= first) ++number;
  const Site there = site_of_number(other.site);
  const char* by = other.thread == threads_ || other.clock == under_way ? "an asynchronous access" : "thread";
  char who[64];
  if (other.thread == threads_) std::snprintf(who, sizeof who, "%s", by);
  else std::snprintf(who, sizeof who, "%s %s%u", by, other.clock == under_way ? "of thread " : "", other.thread);
  block_->fault(site, "%s %d bytes at byte %zu of array %zu of the shared memory, which %s %s at %s:%d: %s", asynchronous ? (write ? "issues a copy to" : "issues a read of") : write ? "writes" : "reads",
                __builtin_popcount(both), static_cast<size_t>(first - arrays[number].begin), number, who, other.write ? "writes" : "reads", there.file, there.line,
                other.clock == under_way ? "a race, for nobody has waited for it" : "a race, for nothing orders the two");
}

}  // namespace PK_BUILD
