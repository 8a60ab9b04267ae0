#include "counters.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

namespace PK_BUILD {

namespace {

thread_local std::unique_ptr<CounterRows> active;

Counted global_kind(Right right) { return right == Right::read ? Counted::global_read : right == Right::write ? Counted::global_write : Counted::global_atomic; }

// The numbers of the different pieces of memory of this size that these lanes touch.
std::vector<uintptr_t> pieces_of(const uintptr_t* addresses, uint32_t lanes, uint64_t bytes, uint64_t size) {
  std::vector<uintptr_t> pieces;
  for (; lanes != 0; lanes &= lanes - 1) {
    const uintptr_t address = addresses[__builtin_ctz(lanes)];
    for (uintptr_t piece = address / size; piece <= (address + bytes - 1) / size; ++piece) pieces.push_back(piece);
  }
  std::sort(pieces.begin(), pieces.end());
  pieces.erase(std::unique(pieces.begin(), pieces.end()), pieces.end());
  return pieces;
}

}  // namespace

void CounterRow::add(uint64_t more, uint64_t of_bytes, uint64_t of_parts, uint64_t of_least) {
  count += more;
  bytes += of_bytes;
  parts += of_parts;
  least += of_least;
}

CounterRows* active_counters() { return active.get(); }

CounterRow& CounterRows::at(Counted kind, const char* kernel, const char* operand) {
  for (CounterRow& row : rows) {
    if (row.kind == kind && std::strncmp(row.kernel, kernel, sizeof row.kernel - 1) == 0 && std::strncmp(row.operand, operand, sizeof row.operand - 1) == 0) return row;
  }
  CounterRow& row = rows.emplace_back();
  row.kind = kind;
  std::snprintf(row.kernel, sizeof row.kernel, "%s", kernel);
  std::snprintf(row.operand, sizeof row.operand, "%s", operand);
  return row;
}

void CounterRows::add(const CounterRows& other) {
  for (const CounterRow& row : other.rows) at(row.kind, row.kernel, row.operand).add(row.count, row.bytes, row.parts, row.least);
}

void BlockCounters::global(uint32_t thread, const Operand& operand, const void* address, uint64_t bytes, Right right, Site site) {
  note(thread, global_kind(right), &operand, operand.name.c_str(), address, bytes, site);
}

void BlockCounters::run(const Operand& operand, const void* address, uint64_t bytes, Right right) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  rows_.at(global_kind(right), kernel_, operand.name.c_str()).add(1, bytes, (begin + bytes - 1) / 32 - begin / 32 + 1, (bytes + 31) / 32);
}

void BlockCounters::shared(uint32_t thread, uint32_t array, const void* address, uint32_t bytes, bool write, Site site) {
  // Only the number of the array goes into the key: no struct has as many as there are addresses below its own.
  char name[16];
  std::snprintf(name, sizeof name, "shared %u", array);
  note(thread, write ? Counted::shared_write : Counted::shared_read, reinterpret_cast<const void*>(uintptr_t{array}), name, address, bytes, site);
}

void BlockCounters::note(uint32_t thread, Counted kind, const void* of, const char* name, const void* address, uint64_t bytes, Site site) {
  const uint32_t lane = thread % 32;
  std::vector<Stream>& streams = streams_[thread / 32];
  const auto same = [&](const Stream& stream) {
    return stream.site.line == site.line && stream.kind == kind && stream.of == of && stream.bytes == bytes && stream.site.file == site.file;
  };
  auto found = std::find_if(streams.begin(), streams.end(), same);
  if (found == streams.end()) {
    streams.push_back({site, kind, of, bytes, &rows_.at(kind, kernel_, name), {}, 0, {}});
    found = streams.end() - 1;
  }
  Stream& stream = *found;
  const uint32_t number = stream.times[lane]++ - stream.first;
  while (stream.requests.size() <= number) stream.requests.emplace_back();
  Request& request = stream.requests[number];
  request.lanes |= 1u << lane;
  request.addresses[lane] = reinterpret_cast<uintptr_t>(address);
  while (!stream.requests.empty() && stream.requests.front().lanes == 0xffffffffu) {
    close(stream, stream.requests.front());
    stream.requests.pop_front();
    ++stream.first;
  }
}

void BlockCounters::close(Stream& stream, const Request& request) {
  const uint64_t bytes = stream.bytes, of_lanes = static_cast<uint64_t>(__builtin_popcount(request.lanes)) * bytes;
  if (stream.kind != Counted::shared_read && stream.kind != Counted::shared_write) {
    const uint64_t different = pieces_of(request.addresses, request.lanes, bytes, bytes).size() * bytes;  // all are aligned to their size
    return stream.row->add(1, of_lanes, pieces_of(request.addresses, request.lanes, bytes, 32).size(), (different + 31) / 32);
  }
  stream.row->add(1, of_lanes, 0, 0);
  // 128 bytes at a time: half of a warp of accesses of 8 bytes, a quarter of those of 16. What takes long is the bank with the most different words.
  const uint32_t lanes_at_a_time = bytes <= 4 ? 32 : static_cast<uint32_t>(128 / bytes);
  for (uint32_t begin = 0; begin < 32; begin += lanes_at_a_time) {
    const uint32_t lanes = request.lanes & static_cast<uint32_t>(((uint64_t{1} << lanes_at_a_time) - 1) << begin);
    uint32_t of_bank[32] = {}, most = 0;
    for (const uintptr_t word : pieces_of(request.addresses, lanes, bytes, 4)) most = std::max(most, ++of_bank[word % 32]);
    stream.row->add(0, 0, most, lanes != 0 ? 1 : 0);
  }
}

void BlockCounters::lanes_met(uint32_t warp) {
  for (Stream& stream : streams_[warp]) {
    for (const Request& request : stream.requests) close(stream, request);
    stream.requests.clear();
    std::fill(std::begin(stream.times), std::end(stream.times), 0);
    stream.first = 0;
  }
}

void BlockCounters::threads_met() {
  for (uint32_t warp = 0; warp < 32; ++warp) lanes_met(warp);
}

}  // namespace PK_BUILD

// For src/counters.rs; in no header, because it is no part of the C interface. It concerns launches from the calling thread alone.
extern "C" {

PK_API void pk_emulator_counters_begin(void) { PK_BUILD::active = std::make_unique<PK_BUILD::CounterRows>(); }

// How many rows there are; where they fit, copies them and counts from zero again.
PK_API uint64_t pk_emulator_counters_take(PK_BUILD::CounterRow* rows, uint64_t capacity) {
  if (PK_BUILD::active == nullptr) return 0;
  const std::deque<PK_BUILD::CounterRow>& all = PK_BUILD::active->rows;
  const uint64_t count = all.size();
  if (count > capacity) return count;
  std::copy(all.begin(), all.end(), rows);
  *PK_BUILD::active = PK_BUILD::CounterRows();
  return count;
}

PK_API void pk_emulator_counters_end(void) { PK_BUILD::active.reset(); }

}  // extern "C"
