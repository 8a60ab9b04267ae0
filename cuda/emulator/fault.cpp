// What is reported, and how the block ends then.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "cluster.h"

namespace PK_BUILD {

namespace {

std::string text_of(const char* format, va_list arguments) {
  char text[1024];
  std::vsnprintf(text, sizeof text, format, arguments);
  return text;
}

__attribute__((format(printf, 1, 2))) std::string text_of(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const std::string text = text_of(format, arguments);
  va_end(arguments);
  return text;
}

std::string text_of(Extent3 block) { return text_of("block (%u,%u,%u)", block.x, block.y, block.z); }

std::string text_at(const Grid* grid, Site site) { return text_of("%s at %s:%d: ", grid->shape.kernel, site.file, site.line); }

// Never destroyed: a kernel may still run when the process ends.
std::mutex& sites_mutex = *new std::mutex;
std::vector<Site>& sites = *new std::vector<Site>;

}  // namespace

bool operator==(const Site& left, const Site& right) {
  return left.line == right.line && (left.file == right.file || std::strcmp(left.file, right.file) == 0);
}

uint16_t new_site_number(Site site) {
  std::lock_guard<std::mutex> lock(sites_mutex);
  const auto number = static_cast<size_t>(std::find(sites.begin(), sites.end(), site) - sites.begin());
  if (number == sites.size()) sites.push_back(site);
  return static_cast<uint16_t>(number);
}

Site site_of_number(uint16_t number) {
  std::lock_guard<std::mutex> lock(sites_mutex);
  return sites[number];
}

void Launch::note(const FaultOrder& order, const std::string& text) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!(order < first_fault)) return;
  first_fault = order;
  fault_position.store(std::get<0>(order), std::memory_order_relaxed);
  report = text;
}

void Launch::note_race(const GlobalRaces::Race& race) {
  const auto who = [&](const GlobalRaces::Side& side) {
    const uint32_t threads = side.party.grid->shape.block_threads;
    return text_of(side.party.grid->block_index(side.party.cluster, side.thread / threads)) + text_of(" thread (%u,0,0)", side.thread % threads);
  };
  const auto &first = race.sides[0], &second = race.sides[1];
  const Grid &here = *second.party.grid, &there = *first.party.grid;
  const Site of_first = site_of_number(first.site);
  note(race.order(), text_at(second.party.grid, site_of_number(second.site)) + who(second) +
                         text_of(" seed %llu %s %u byte%s at ", static_cast<unsigned long long>(seed), verb_of(second.access), race.bytes, race.bytes == 1 ? "" : "s") +
                         describe_address(here.operands.all, race.address) + ", which " + (&here == &there ? "" : there.shape.kernel + std::string(" ")) + who(first) +
                         text_of(" %s at %s:%d: a race, for nothing orders the two blocks", verb_of(first.access), of_first.file, of_first.line));
}

void Block::abandon() {
  Fiber::switch_to(*running_->fiber, root_, false);
  __builtin_trap();
}

std::string Block::place(const Thread* thread) const {
  return text_of(index) + (thread != nullptr ? text_of(" thread (%u,0,0)", thread->index) : "") + text_of(" seed %llu", static_cast<unsigned long long>(launch.seed));
}

void Block::fault(Site site, const char* format, ...) {
  {
    va_list arguments;
    va_start(arguments, format);
    launch.note({cluster.position, 0, 0}, text_at(&grid, site) + place(ending_ ? nullptr : issuer_ != nullptr ? issuer_ : running_) + " " + text_of(format, arguments));
    va_end(arguments);
  }  // the stack is dropped, not unwound: no text may be left
  abandon();
}

void Cluster::note_deadlock() {
  std::vector<std::pair<const Thread*, uint32_t>> groups;  // the first of each, and how many
  const auto block_of = [&](const Thread& thread) { return thread.id / grid->shape.block_threads; };
  for (const auto& block : blocks) {
    for (const Thread& thread : block->threads) {
      if (thread.finished) continue;
      const auto same = [&](const auto& group) {
        return block_of(*group.first) == block_of(thread) && group.first->site == thread.site && std::strcmp(group.first->waits_in, thread.waits_in) == 0;
      };
      const auto found = std::find_if(groups.begin(), groups.end(), same);
      if (found != groups.end()) ++found->second;
      else groups.push_back({&thread, 1});
    }
  }
  std::string text = grid->shape.kernel + (": " + blocks[0]->place(nullptr)) + text_of(": deadlock, none of %u threads can go on:", threads);
  for (const auto& [first, count] : groups) {
    const std::string of = size == 1 ? "" : " of " + text_of(blocks[block_of(*first)]->index);
    text += text.back() == ':' ? "" : ",";
    text += text_of(" %u%s (the first is %u) in %s at %s:%d", count, of.c_str(), first->index, first->waits_in, first->site.file, first->site.line);
  }
  launch->note({position, 0, 0}, text);
}

const Operand& Block::find_operand(const void* address, uint64_t bytes, Right wanted, Site site) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes == 0) {
    for (const Operand& operand : grid.operands.all) {
      uintptr_t run = 0;
      if (!operand.allows(wanted) || !operand.find_run(begin, bytes, &run)) continue;
      if (((begin - run) | bytes) % operand.element_bytes != 0) continue;
      recent_[static_cast<uint32_t>(site.line) % recent_count] = {run, operand.run_bytes, operand.element_bytes - 1, &operand};
      return operand;
    }
  }
  char text[1024];  // no string here: the stack is dropped, not unwound
  std::snprintf(text, sizeof text, "%s", describe_access(grid.operands.all, begin, bytes, wanted).c_str());
  fault(site, "%s", text);
}

}  // namespace PK_BUILD
