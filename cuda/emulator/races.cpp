#include "races.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "cluster.h"

namespace PK_BUILD {

namespace {

thread_local bool detecting = [] {
  const char* text = std::getenv("PEFT_KERNELS_EMULATOR_RACES");
  return text == nullptr || text[0] != '0';
}();

void raise(uint32_t* clocks, const uint32_t* others, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) clocks[i] = std::max(clocks[i], others[i]);
}

}  // namespace

bool detects_races() { return detecting; }
void set_detects_races(bool on) { detecting = on; }

// Clocks go on from block to block, so that what earlier ones left behind is known to all and need not be wiped out.
void Races::begin(Cluster& cluster, uint32_t threads, bool logs) {
  constexpr uint32_t near_the_end = 1u << 31;
  const size_t unit_count = cluster.size * shared_arena_bytes / unit_bytes;
  const bool anew = threads != threads_ || floor_ > near_the_end || engine_clock_ > near_the_end || under_way_ != 0 || units_.size() < unit_count;
  cluster_ = &cluster;
  memory_ = reinterpret_cast<uintptr_t>(cluster.memory);
  if (anew) {
    threads_ = threads;
    units_.assign(unit_count, Unit{});
    clocks_.assign(threads, 0);
    rows_.assign(size_t{threads} * (threads + 1), 0);
    floor_ = engine_floor_ = 0;
    engine_clock_ = 1;
    under_way_ = 0;
  }
  join_block(0, threads);
  engine_floor_ = engine_clock_++;
  run_ = Run();  // what is found, and what is forgotten, does not depend on the clusters before
  run_.logs = logs;
  if (logs) run_.party = cluster.launch->races.add_party({cluster.position, cluster.number, cluster.grid});
}

// ---- accesses -------------------------------------------------------------------------------------------------------------------------------------------------

Races::Page& Races::page(uint64_t number) {
  Page*& recent = run_.recent[number % 64];
  if (recent != nullptr && recent->number == number) return *recent;
  std::unique_ptr<Page>& page = run_.pages[number];
  if (page == nullptr) {
    page = std::make_unique<Page>();
    page->number = number;
  }
  return *(recent = page.get());
}

// Calls visit(unit, the address of its first byte, which of its bytes).
template <class F>
void Races::units(const void* address, uint32_t bytes, F visit) {
  for (auto at = reinterpret_cast<uintptr_t>(address), end = at + bytes; at < end;) {
    const auto offset = static_cast<uint32_t>(at % unit_bytes), count = static_cast<uint32_t>(std::min<uint64_t>(unit_bytes - offset, end - at));
    const uint64_t number = (at - memory_) / unit_bytes;  // of what lies elsewhere, a large one
    Unit& unit = number < units_.size() ? units_[number] : page(at / page_bytes).units[at / unit_bytes % page_units];
    visit(unit, at - offset, ((1u << count) - 1) << offset);
    at += count;
  }
}

// Drops what all know.
void Races::refresh(Unit& unit) {
  uint8_t used = 0, writes = 0;
  for (uint32_t i = 0; i < unit.used; ++i) {
    if (known_to_all(unit.of[i])) continue;
    writes = static_cast<uint8_t>(writes + unit.of[i].writes());
    unit.of[used++] = unit.of[i];
  }
  unit.used = used;
  unit.writes = writes;
  unit.floor = floor_;
}

// Where to note one more access, if need be by forgetting another: what that would have shown is left to the neighbouring units.
Races::Entry* Races::place_for(Unit& unit) {
  if (unit.used < entries) return &unit.of[unit.used++];
  Entry* place = &unit.of[run_.turn++ % entries];
  if (unit.writes == 0 && place->clock != under_way) return place;
  place = nullptr;
  for (uint32_t i = 0; i < entries; ++i) {
    Entry& entry = unit.of[(run_.turn + i) % entries];
    if (entry.clock != under_way && (place == nullptr || place->writes() > entry.writes())) place = &entry;
  }
  if (place != nullptr) unit.writes = static_cast<uint8_t>(unit.writes - place->writes());
  return place;
}

// Compares an access by the running thread with those before and notes it. Clock: its own, or under_way.
inline void Races::note(Unit& unit, uintptr_t begin, uint32_t mask, Access access, uint32_t self, uint32_t clock, Site site) {
  if (unit.floor != floor_) refresh(unit);
  Entry* place = nullptr;
  if (access != Access::read || unit.writes != 0 || clock == under_way) {
    const uint32_t* known = row(self);
    for (uint32_t i = 0; i < unit.used; ++i) {
      Entry& entry = unit.of[i];
      if ((entry.mask & mask) == 0) continue;
      if (entry.clock > known[entry.thread]) {
        if (conflict(entry.access, access)) report(entry, begin, mask, access, clock == under_way, site);
        if (entry.clock == under_way && clock == under_way && entry.thread == self && entry.mask == mask) {
          ++entry.count;
          return;
        }
      } else if ((entry.mask & ~mask) == 0 && (access == Access::write || !entry.writes())) {
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
  if (place != nullptr) unit.writes = static_cast<uint8_t>(unit.writes - place->writes());
  else place = place_for(unit);
  if (place == nullptr) return;
  *place = {clock, static_cast<uint16_t>(self), static_cast<uint16_t>(mask), cluster_->sites.of(site), access, 1};
  unit.writes = static_cast<uint8_t>(unit.writes + place->writes());
}

void Races::access(const void* address, uint32_t bytes, Access access, Site site) {
  const uint32_t self = Block::current()->running().id, clock = clocks_[self];
  units(address, bytes, [&](Unit& unit, uintptr_t begin, uint32_t mask) { note(unit, begin, mask, access, self, clock, site); });
}

void Races::access_global(const void* address, uint32_t bytes, Access kind, Site site) {
  access(address, bytes, kind, site);
  if (!run_.logs) return;
  units(address, bytes, [&](Unit&, uintptr_t begin, uint32_t mask) {
    Page& of = page(begin / page_bytes);
    if (!of.logged) run_.logged.push_back(&of);
    of.logged = true;
    LoggedUnit& unit = of.log[begin / unit_bytes % page_units];
    unit.masks[static_cast<uint32_t>(kind)] |= static_cast<uint16_t>(mask);
    unit.last[static_cast<uint32_t>(kind)] = {static_cast<uint16_t>(Block::current()->running().id), cluster_->sites.of(site)};
  });
}

void Races::begin(const void* address, uint32_t bytes, bool write, Site site) {
  ++under_way_;
  const uint32_t self = Block::current()->running().id;
  units(address, bytes, [&](Unit& unit, uintptr_t begin, uint32_t mask) { note(unit, begin, mask, write ? Access::write : Access::read, self, under_way, site); });
}

void Races::end_as(uint32_t thread, uint32_t clock, const void* address, uint32_t bytes, bool write, uint32_t issuer) {
  --under_way_;
  units(address, bytes, [&](Unit& unit, uintptr_t, uint32_t mask) {
    const auto same = [&](const Entry& entry) { return entry.clock == under_way && entry.thread == issuer && entry.mask == mask && entry.writes() == write; };
    Entry* entry = std::find_if(unit.of, unit.of + entries, same);
    if (entry == unit.of + entries || --entry->count > 0) return;
    entry->clock = clock;
    entry->thread = static_cast<uint16_t>(thread);
  });
}

uint32_t Races::end_for(const void* key, const void* address, uint32_t bytes, bool write, uint32_t issuer) {
  end_as(engine(), engine_clock_, address, bytes, write, issuer);
  uint32_t& known = object(key)[engine()];
  known = std::max(known, engine_clock_);
  return engine_clock_++;
}

// ---- order ----------------------------------------------------------------------------------------------------------------------------------------------------

std::vector<uint32_t>& Races::object(const void* key) {
  std::vector<uint32_t>& known = run_.objects[key];
  known.resize(threads_ + 1);
  return known;
}

void Races::release(const void* key) {
  const uint32_t self = Block::current()->running().id;
  raise(object(key).data(), row(self), threads_ + 1);
  advance_clock(self);
}

void Races::acquire(const void* key) {
  const uint32_t self = Block::current()->running().id;
  raise(row(self), object(key).data(), threads_ + 1);
  knows_others_[self] = true;
}

void Races::end_segment() {
  if (!run_.logs) return;
  if (const auto first = cluster_->launch->races.add_segment(run_.party, run_.segment, run_.known_segments, run_.logged)) cluster_->launch->note_race(*first);
  for (GlobalRaces::LoggedPage* page : run_.logged) {
    std::fill(std::begin(page->log), std::end(page->log), LoggedUnit{});
    static_cast<Page*>(page)->logged = false;
  }
  run_.logged.clear();
  ++run_.segment;
}

void Races::release_global(const void* object) {
  if (Block::current() != nullptr) release(object);
  if (!run_.logs) return;
  end_segment();
  cluster_->launch->races.release(object, run_.party, run_.segment, run_.known_segments);
}

void Races::acquire_global(const void* object) {
  acquire(object);
  if (!run_.logs) return;
  end_segment();
  cluster_->launch->races.acquire(object, &run_.known_segments);
}

void Races::join_block(uint32_t first, uint32_t count) {
  if (count < threads_) {
    std::vector<uint32_t> members(count);
    std::iota(members.begin(), members.end(), first);
    return join(members, 0, threads_ + 1);
  }
  // All of them: one floor rises.
  for (uint32_t thread = 0; thread < threads_; ++thread) {
    floor_ = std::max(floor_, clocks_[thread]);
    engine_floor_ = std::max(engine_floor_, row(thread)[engine()]);
  }
  for (uint32_t thread = 0; thread < threads_; ++thread) row(thread)[thread] = clocks_[thread] = floor_ + 1;
  knows_others_.assign(threads_, false);
}

void Races::join_warp(uint32_t first, uint32_t lanes) {
  std::vector<uint32_t> members;
  bool others = false;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    members.push_back(first + static_cast<uint32_t>(__builtin_ctz(rest)));
    others = others || knows_others_[members.back()];
  }
  // Of other warps they may know no more than what all know: then only their own part is to be joined.
  if (others) join(members, 0, threads_ + 1);
  else join(members, first, std::min(first + 32, threads_));
}

// Each learns what any of them knows of threads begin ... end.
void Races::join(const std::vector<uint32_t>& members, uint32_t begin, uint32_t end) {
  std::vector<uint32_t> joined(end - begin, 0);
  for (const uint32_t thread : members) raise(joined.data(), row(thread) + begin, end - begin);
  for (const uint32_t thread : members) {
    std::copy(joined.begin(), joined.end(), row(thread) + begin);
    advance_clock(thread);
    if (begin == 0 && end > threads_) knows_others_[thread] = true;
  }
}

uint32_t Races::known(uint32_t first, uint32_t count, uint32_t of) {
  uint32_t most = of == engine() ? engine_floor_ : floor_;
  for (uint32_t thread = first; thread < first + count; ++thread) most = std::max(most, row(thread)[of]);
  return most;
}

void Races::report(const Entry& other, uintptr_t begin, uint32_t mask, Access access, bool asynchronous, Site site) {
  const uint32_t both = other.mask & mask;
  const uintptr_t first = begin + static_cast<uint32_t>(__builtin_ctz(both));
  char place[256];  // no string here: the stack is dropped, not unwound
  std::snprintf(place, sizeof place, "%s", cluster_->describe_place(first).c_str());
  char who[128];
  if (other.thread == engine()) std::snprintf(who, sizeof who, "an asynchronous access");
  else std::snprintf(who, sizeof who, "%s%s", other.clock == under_way ? "an asynchronous access of " : "", cluster_->describe_thread(other.thread).data());
  const Site there = site_of_number(other.site);
  const char* does = !asynchronous ? verb_of(access) : access == Access::read ? "issues a read of" : "issues a copy to";
  Block::current()->fault(site, "%s %d bytes at %s, which %s %s at %s:%d: %s", does, __builtin_popcount(both), place, who, verb_of(other.access), there.file, there.line,
                          other.clock == under_way ? "a race, for nobody has waited for it" : "a race, for nothing orders the two");
}

// ---- ordinary writes before asynchronous accesses --------------------------------------------------------------------------------------------------------------

void UnfencedWrites::begin(Cluster& cluster, uint32_t threads) {
  cluster_ = &cluster;
  sites_ = &cluster.sites;
  memory_ = reinterpret_cast<uintptr_t>(cluster.memory);
  units_.resize(std::max(units_.size(), cluster.size * shared_arena_bytes / unit_bytes));
  if (fences_.size() < threads) fences_.resize(threads);
  for (uint32_t& fences : fences_) ++fences;
}

void UnfencedWrites::check(const void* address, uint32_t bytes, bool write, Site site) {
  const uint64_t begin = reinterpret_cast<uintptr_t>(address) - memory_;
  for (uint64_t number = begin / unit_bytes; number <= (begin + bytes - 1) / unit_bytes; ++number) {
    Unit& unit = units_[number];
    if (unit.fences == fences_[unit.thread] && unit.fences != 0) {
      const Site there = site_of_number(unit.site);
      Block::current()->fault(site, "%s shared memory asynchronously that %s wrote at %s:%d, and no fence_proxy_async() of that thread came after it", write ? "writes" : "reads",
                              cluster_->describe_thread(unit.thread).data(), there.file, there.line);
    }
    if (write) unit.fences = 0;
  }
}

}  // namespace PK_BUILD
