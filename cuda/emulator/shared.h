// The shared memory of a block, and the arrays that a kernel's struct of shared memory consists of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "site.h"

namespace PK_BUILD {

constexpr size_t shared_guard_bytes = 64;
constexpr size_t shared_arena_bytes = 512 * 1024;  // of a block: the largest shared memory of a chip, and guards

// The arrays of one struct, noted by their constructors.
struct SharedLayout {
  struct Array {
    const unsigned char *begin, *guard;
    size_t element_bytes, count;
  };
  std::vector<Array> arrays;
  size_t device_bytes = 0;  // of the same arrays without guards
  size_t device_alignment = 1;
};

struct SharedMemory {
  explicit SharedMemory(char* memory);
  // The number of the array that holds an element.
  uint32_t array_at(const void* element) const;
  // At the end of a block.
  void check_guards() const;

  char* const begin;
  const void* key = nullptr;  // of the kernel's struct, once it is named
  Site site{};                // where
  SharedLayout layout;
};

// Called by the constructor of an array: fills it with NaN and writes its guard.
void note_shared_array(void* values, size_t element_bytes, size_t count, size_t alignment, unsigned char* guard);
// Where those calls go, on this OS thread.
void note_shared_arrays_in(SharedLayout* layout);

// The shared memory of the running block as a struct of arrays; construct(memory) makes them.
void* shared_struct(const void* key, size_t bytes, void (*construct)(void*), Site site);

// What instructions take for an address in shared memory: the distance from its first byte. All of an access must lie in one array.
uint32_t shared_address(const void* element);
char* shared_bytes_at(uint32_t address, uint32_t bytes, const char* instruction, Site site);

[[noreturn]] void shared_index_fault(uint64_t index, size_t count, size_t elements, Site site);

}  // namespace PK_BUILD
