#include <algorithm>

#include "races.h"

namespace PK_BUILD {

namespace {

void join(KnownSegments* known, const KnownSegments& other) {
  for (const auto& [party, segments] : other) {
    uint32_t& mine = (*known)[party];
    mine = std::max(mine, segments);
  }
}

}  // namespace

uint32_t GlobalRaces::add_party(const Party& party) {
  std::lock_guard<std::mutex> lock(mutex_);
  parties_.push_back(party);
  return static_cast<uint32_t>(parties_.size() - 1);
}

std::optional<GlobalRaces::Race> GlobalRaces::add_segment(uint32_t party, uint32_t segment, const KnownSegments& known, const std::vector<LoggedPage*>& pages) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::optional<Race> first;
  for (const LoggedPage* logged : pages) {
    std::unique_ptr<Page>& page = pages_[logged->number];
    if (page == nullptr) {
      page = std::make_unique<Page>();
      std::fill(std::begin(page->heads), std::end(page->heads), -1);
    }
    for (uint32_t unit = 0; unit < page_units; ++unit) {
      const LoggedUnit& of = logged->log[unit];
      for (uint32_t kind = 0; kind < access_kinds; ++kind) {
        if (of.masks[kind] == 0) continue;
        const Entry entry{-1, party, segment, of.masks[kind], of.last[kind].site, of.last[kind].thread, static_cast<Access>(kind)};
        add(*page, logged->number * page_units + unit, entry, known, &first);
      }
    }
  }
  return first;
}

void GlobalRaces::add(Page& page, uint64_t unit, Entry entry, const KnownSegments& known, std::optional<Race>* first) {
  // Of accesses that do not race with each other, these suffice; the earliest clusters, so that which ones does not depend on who comes first.
  constexpr uint32_t most_alike = 4;
  uint32_t alike = 0;
  Entry* last_alike = nullptr;
  int32_t& head = page.heads[unit % page_units];
  const auto position = [&](const Entry& of) { return parties_[of.party].position; };
  for (int32_t i = head; i >= 0; i = page.entries[static_cast<size_t>(i)].next) {
    Entry& other = page.entries[static_cast<size_t>(i)];
    if (other.access == entry.access && entry.access != Access::write) {
      ++alike;
      if (last_alike == nullptr || position(other) > position(*last_alike)) last_alike = &other;
    }
    const uint32_t both = other.mask & entry.mask;
    if (other.party == entry.party || both == 0 || !conflict(other.access, entry.access)) continue;
    const auto found = known.find(other.party);
    if (found != known.end() && found->second > other.segment) continue;
    const bool later = position(entry) > position(other);
    const auto side = [&](const Entry& of) { return Side{parties_[of.party], of.access, of.thread, of.site}; };
    const uint64_t address = unit * unit_bytes + static_cast<uint32_t>(__builtin_ctz(both));
    const Race race{{side(later ? other : entry), side(later ? entry : other)}, address, static_cast<uint32_t>(__builtin_popcount(both))};
    if (!*first || race.order() < (*first)->order()) *first = race;
  }
  if (alike >= most_alike) {
    if (position(*last_alike) > position(entry)) {
      entry.next = last_alike->next;
      *last_alike = entry;
    }
    return;
  }
  entry.next = head;
  head = static_cast<int32_t>(page.entries.size());
  page.entries.push_back(entry);
}

void GlobalRaces::release(const void* object, uint32_t party, uint32_t segments, const KnownSegments& known) {
  std::lock_guard<std::mutex> lock(mutex_);
  KnownSegments& of = objects_[object];
  join(&of, known);
  of[party] = segments;
}

void GlobalRaces::acquire(const void* object, KnownSegments* known) {
  std::lock_guard<std::mutex> lock(mutex_);
  join(known, objects_[object]);
}

}  // namespace PK_BUILD
