// What is reported, and how the block ends then.
#include "block.h"

#include <cstdio>
#include <cstring>

namespace PK_BUILD {

namespace {

std::string text_of(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string text_of(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

}  // namespace

bool operator==(const Site& left, const Site& right) {
  return left.line == right.line && (left.file == right.file || std::strcmp(left.file, right.file) == 0);
}

void Block::note_fault(const std::string& report) {
  std::lock_guard<std::mutex> lock(launch_->mutex);
  if (position_ >= launch_->fault_position.load(std::memory_order_relaxed)) return;
  launch_->fault_position.store(position_, std::memory_order_relaxed);
  launch_->report = report;
  launch_->reports_race = false;
}

void Launch::note_race(const GlobalRaces::Race& race) {
  const uint64_t at = race.sides[1].position;
  std::lock_guard<std::mutex> lock(mutex);
  const uint64_t known = fault_position.load(std::memory_order_relaxed);
  if (at > known || (at == known && !(reports_race && race.comes_before(first_race)))) return;
  fault_position.store(at, std::memory_order_relaxed);
  first_race = race;
  reports_race = true;
  const auto who = [&](const GlobalRaces::Race::Side& side) {
    const uint64_t number = side.block_number;
    return text_of("block (%llu,%llu,%llu) thread (%u,0,0)", static_cast<unsigned long long>(number % shape.grid.x), static_cast<unsigned long long>(number / shape.grid.x % shape.grid.y),
                   static_cast<unsigned long long>(number / shape.grid.x / shape.grid.y), side.thread);
  };
  const auto does = [](const GlobalRaces::Race::Side& side) { return side.access == Access::read ? "reads" : side.access == Access::write ? "writes" : "updates atomically"; };
  const auto &first = race.sides[0], &second = race.sides[1];
  const Site here = site_of_number(second.site), there = site_of_number(first.site);
  std::string operand = "global memory";
  for (const Operand& candidate : *operands) {
    uintptr_t run = 0;
    if (!candidate.find_run(race.address, 1, &run)) continue;
    operand = text_of("byte %llu of ", static_cast<unsigned long long>(race.address - candidate.begin)) + candidate.name + candidate.shape;
    break;
  }
  report = text_of("%s at %s:%d: ", shape.kernel, here.file, here.line) + who(second) + text_of(" seed %llu %s %u byte%s at ", static_cast<unsigned long long>(seed), does(second), race.bytes, race.bytes == 1 ? "" : "s") +
           operand + ", which " + who(first) + text_of(" %s at %s:%d: a race, for nothing orders the two blocks", does(first), there.file, there.line);
}

void Block::abandon() {
  Fiber::switch_to(running_->fiber, root_, false);
  __builtin_trap();
}

std::string Block::place(const Thread* thread) const {
  return text_of("block (%u,%u,%u)", index.x, index.y, index.z) + (thread != nullptr ? text_of(" thread (%u,0,0)", thread->index) : "") +
         text_of(" seed %llu", static_cast<unsigned long long>(launch_->seed));
}

void Block::fault(Site site, const char* format, ...) {
  {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    note_fault(text_of("%s at %s:%d: ", launch_->shape.kernel, site.file, site.line) + place(issuer_ != nullptr ? issuer_ : running_) + " " + text);
  }
  abandon();
}

std::string Block::describe_unfinished() const {
  const Operation& first = operations_.front();
  return launch_->shape.kernel + text_of(" at %s:%d: ", first.site.file, first.site.line) + place(first.issuer) +
         text_of(" ends with the block while its %s is under way", first.what);
}

void Block::note_deadlock() {
  struct Group {
    const Thread* first;
    uint32_t count;
  };
  std::vector<Group> groups;
  for (uint32_t i = 0; i < extent.x; ++i) {
    const Thread* thread = threads_[i].get();
    if (thread->finished) continue;
    Group* found = nullptr;
    for (Group& group : groups) {
      if (group.first->site == thread->site && std::strcmp(group.first->waits_in, thread->waits_in) == 0) found = &group;
    }
    if (found != nullptr) ++found->count;
    else groups.push_back({thread, 1});
  }
  std::string report = launch_->shape.kernel + (": " + place(nullptr)) + text_of(": deadlock, none of %u threads can go on:", live_);
  for (const Group& group : groups) {
    report += text_of("%s %u (the first is %u) in %s at %s:%d", &group == groups.data() ? "" : ",", group.count, group.first->index, group.first->waits_in, group.first->site.file,
                      group.first->site.line);
  }
  note_fault(report);
}

const Operand& Block::find_operand(const void* address, uint64_t bytes, Right wanted, Site site) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes == 0) {
    for (const Operand& operand : *launch_->operands) {
      uintptr_t run = 0;
      if (!operand.allows(wanted) || !operand.find_run(begin, bytes, &run)) continue;
      if (((begin - run) | bytes) % operand.element_bytes != 0) continue;
      recent_[static_cast<uint32_t>(site.line) % recent_count] = {run, operand.run_bytes, operand.element_bytes - 1, &operand};
      return operand;
    }
  }
  char text[1024];  // no string here: the stack is dropped, not unwound
  std::snprintf(text, sizeof text, "%s", describe_access(*launch_->operands, begin, bytes, wanted).c_str());
  fault(site, "%s", text);
}

}  // namespace PK_BUILD
