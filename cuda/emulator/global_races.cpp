#include "global_races.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "block.h"

namespace PK_BUILD {

namespace {

void join(KnownSegments* known, const KnownSegments& other) {
  for (const auto& [block, segments] : other) {
    uint32_t& mine = (*known)[block];
    mine = std::max(mine, segments);
  }
}

bool conflict(Access left, Access right) { return left == Access::write || right == Access::write || left != right; }

}  // namespace

// ---- the log of a block ----------------------------------------------------------------------------------------------------------------------------------------

void GlobalLog::begin_block(Launch* launch, uint64_t position, uint64_t block_number) {
  launch_ = launch;
  if (launch == nullptr) return;
  block_ = launch->races.add_block(position, block_number);
  segment_ = 0;
  known_.clear();
  used_ = 0;
  by_number_.clear();
  std::fill(std::begin(recent_), std::end(recent_), nullptr);
}

GlobalLog::Page& GlobalLog::page(uint64_t number) {
  Page*& recent = recent_[number % 64];
  if (recent != nullptr && recent->number == number) return *recent;
  Page*& page = by_number_[number];
  if (page == nullptr) {
    if (used_ == pages_.size()) pages_.push_back(std::make_unique<Page>());
    page = pages_[used_++].get();
    page->number = number;
    for (Unit& unit : page->units) std::fill(std::begin(unit.masks), std::end(unit.masks), uint16_t{0});
  }
  return *(recent = page);
}

void GlobalLog::note(const void* address, uint64_t bytes, Access access, uint32_t thread, Site site) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  for (uintptr_t at = begin, end = begin + bytes; at < end;) {
    const auto offset = static_cast<uint32_t>(at % unit_bytes), count = static_cast<uint32_t>(std::min<uint64_t>(unit_bytes - offset, end - at));
    Unit& unit = page(at / (page_units * unit_bytes)).units[at / unit_bytes % page_units];
    const auto kind = static_cast<uint32_t>(access);
    unit.masks[kind] |= static_cast<uint16_t>(((1u << count) - 1) << offset);
    unit.sites[kind] = sites_.of(site);
    unit.threads[kind] = static_cast<uint16_t>(thread);
    at += count;
  }
}

void GlobalLog::end_segment() {
  if (used_ != 0) {
    GlobalRaces::Race first;
    if (launch_->races.add_segment(*this, &first)) launch_->note_race(first);
    used_ = 0;
    by_number_.clear();
    std::fill(std::begin(recent_), std::end(recent_), nullptr);
  }
  ++segment_;
}

void GlobalLog::release(const void* object) {
  end_segment();
  launch_->races.release(object, *this);
}

void GlobalLog::acquire(const void* object) {
  end_segment();
  launch_->races.acquire(object, &known_);
}

// ---- all blocks ------------------------------------------------------------------------------------------------------------------------------------------------

bool GlobalRaces::Race::comes_before(const Race& other) const {
  const auto key = [](const Race& race) { return std::make_tuple(race.sides[1].position, race.sides[0].position, race.address); };
  return key(*this) < key(other);
}

uint32_t GlobalRaces::add_block(uint64_t position, uint64_t block_number) {
  std::lock_guard<std::mutex> lock(mutex_);
  blocks_.push_back({position, block_number});
  return static_cast<uint32_t>(blocks_.size() - 1);
}

bool GlobalRaces::add_segment(const GlobalLog& log, Race* first) {
  std::lock_guard<std::mutex> lock(mutex_);
  bool any = false;
  for (size_t i = 0; i < log.used_; ++i) {
    const GlobalLog::Page& logged = *log.pages_[i];
    std::unique_ptr<Page>& page = pages_[logged.number];
    if (page == nullptr) {
      page = std::make_unique<Page>();
      std::fill(std::begin(page->heads), std::end(page->heads), -1);
    }
    for (uint32_t unit = 0; unit < page_units; ++unit) {
      for (uint32_t kind = 0; kind < access_kinds; ++kind) {
        const GlobalLog::Unit& of = logged.units[unit];
        if (of.masks[kind] == 0) continue;
        add(*page, logged.number, unit, {-1, log.block_, log.segment_, of.masks[kind], of.sites[kind], of.threads[kind], static_cast<Access>(kind)}, log.known_, first, &any);
      }
    }
  }
  return any;
}

void GlobalRaces::add(Page& page, uint64_t page_number, uint32_t unit, Entry entry, const KnownSegments& known, Race* first, bool* any) {
  // Of accesses that do not race with each other, these suffice; the earliest blocks, so that which ones does not depend on who comes first.
  constexpr uint32_t most_alike = 4;
  uint32_t alike = 0;
  Entry* last_alike = nullptr;
  const auto position = [&](const Entry& of) { return blocks_[of.block].first; };
  for (int32_t i = page.heads[unit]; i >= 0; i = page.entries[static_cast<size_t>(i)].next) {
    Entry& other = page.entries[static_cast<size_t>(i)];
    if (other.access == entry.access && entry.access != Access::write) {
      ++alike;
      if (last_alike == nullptr || position(other) > position(*last_alike)) last_alike = &other;
    }
    if (other.block == entry.block || (other.mask & entry.mask) == 0 || !conflict(other.access, entry.access)) continue;
    const auto found = known.find(other.block);
    if (found != known.end() && found->second > other.segment) continue;
    Race race;
    const bool later = position(entry) > position(other);
    const auto side = [&](const Entry& of) { return Race::Side{blocks_[of.block].first, blocks_[of.block].second, of.access, of.thread, of.site}; };
    race.sides[later ? 0 : 1] = side(other);
    race.sides[later ? 1 : 0] = side(entry);
    const uint32_t both = other.mask & entry.mask;
    race.address = (page_number * page_units + unit) * unit_bytes + static_cast<uint32_t>(__builtin_ctz(both));
    race.bytes = static_cast<uint32_t>(__builtin_popcount(both));
    if (!*any || race.comes_before(*first)) *first = race;
    *any = true;
  }
  if (alike >= most_alike) {
    if (position(*last_alike) > position(entry)) {
      entry.next = last_alike->next;
      *last_alike = entry;
    }
    return;
  }
  entry.next = page.heads[unit];
  page.heads[unit] = static_cast<int32_t>(page.entries.size());
  page.entries.push_back(entry);
}

void GlobalRaces::release(const void* object, const GlobalLog& log) {
  std::lock_guard<std::mutex> lock(mutex_);
  KnownSegments& known = objects_[object];
  join(&known, log.known_);
  known[log.block_] = log.segment_;
}

void GlobalRaces::acquire(const void* object, KnownSegments* known) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = objects_.find(object);
  if (found != objects_.end()) join(known, found->second);
}

}  // namespace PK_BUILD
