// What launches did, counted where somebody asks for it: bytes and sectors of global memory, wavefronts of shared memory, barriers, matrix instructions.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "operands.h"
#include "site.h"

namespace PK_BUILD {

enum class Counted : int32_t { launches, global_read, global_write, global_atomic, shared_read, shared_write, barriers, matrix_instructions };

// What launches of one kernel did of one kind with one operand, or array of shared memory. src/counters.rs declares the same.
struct CounterRow {
  char kernel[64], operand[32];
  Counted kind;
  uint32_t reserved;
  uint64_t count;  // launches, requests, barriers, instructions
  uint64_t bytes;  // of all lanes, as often as they were asked for
  uint64_t parts;  // sectors of 32 bytes that the requests touched, or wavefronts that they take
  uint64_t least;  // of these, what requests for as many different bytes, or of as many lanes, take at best

  void add(uint64_t more, uint64_t of_bytes, uint64_t of_parts, uint64_t of_least);
};

struct CounterRows {
  CounterRow& at(Counted kind, const char* kernel, const char* operand);
  void add(const CounterRows& other);

  std::deque<CounterRow> rows;  // which stay where they are
};

// Where launches from this OS thread are counted, or null.
CounterRows* active_counters();

// The counts of one block. A request is what the lanes of a warp access at one line, of one operand and size, at their first, second, ... time there since all of them
// met last (a barrier, a collective of all lanes). So it does not depend on the schedule.
class BlockCounters {
 public:
  explicit BlockCounters(const char* kernel) : kernel_(kernel) {}

  void global(uint32_t thread, const Operand& operand, const void* address, uint64_t bytes, Right right, Site site);
  void shared(uint32_t thread, uint32_t array, const void* address, uint32_t bytes, bool write, Site site);
  void count(Counted kind, const char* what) { ++rows_.at(kind, kernel_, what).count; }
  // A run of bytes is one request.
  void run(const Operand& operand, const void* address, uint64_t bytes, Right right);
  void lanes_met(uint32_t warp);
  void threads_met();
  const CounterRows& rows() const { return rows_; }

 private:
  struct Request {
    uint32_t lanes = 0;
    uintptr_t addresses[32];
  };
  // The requests of a warp at one line that some lanes have not come to.
  struct Stream {
    Site site;
    Counted kind;
    const void* of;
    uint64_t bytes;
    CounterRow* row;
    uint32_t times[32];
    uint32_t first;  // the number of the first of these
    std::deque<Request> requests;
  };
  void note(uint32_t thread, Counted kind, const void* of, const char* name, const void* address, uint64_t bytes, Site site);
  static void close(Stream& stream, const Request& request);

  const char* kernel_;
  CounterRows rows_;
  std::vector<Stream> streams_[32];  // of each warp
};

}  // namespace PK_BUILD
