#include "shared.h"

#include <algorithm>
#include <cstring>

#include "block.h"

namespace PK_BUILD {

namespace {

constexpr unsigned char guard_byte = 0xa5;

thread_local SharedLayout* noting = nullptr;

}  // namespace

SharedMemory::SharedMemory(char* memory) : begin(memory) { unpoison(memory, shared_arena_bytes); }

uint32_t SharedMemory::array_at(const void* element) const {
  const auto behind = std::find_if(layout.arrays.begin(), layout.arrays.end(), [&](const SharedLayout::Array& array) { return array.begin > element; });
  return static_cast<uint32_t>(behind - layout.arrays.begin()) - 1;
}

void SharedMemory::check_guards() const {
  for (const SharedLayout::Array& array : layout.arrays) {
    unpoison(array.guard, shared_guard_bytes);
    const unsigned char* end = array.guard + shared_guard_bytes;
    const unsigned char* wrong = std::find_if(array.guard, end, [](unsigned char byte) { return byte != guard_byte; });
    if (wrong == end) continue;
    const auto number = static_cast<size_t>(&array - layout.arrays.data()), overrun = static_cast<size_t>(wrong - array.guard + 1);
    Block::current()->fault(site, "array %zu of the shared memory (%zu elements of %zu bytes) was overrun by %zu bytes or more", number, array.count, array.element_bytes, overrun);
  }
}

void note_shared_arrays_in(SharedLayout* layout) { noting = layout; }

void note_shared_array(void* values, size_t element_bytes, size_t count, size_t alignment, unsigned char* guard) {
  noting->device_bytes = (noting->device_bytes + alignment - 1) / alignment * alignment + element_bytes * count;
  noting->device_alignment = std::max(noting->device_alignment, alignment);
  noting->arrays.push_back({static_cast<unsigned char*>(values), guard, element_bytes, count});
  // Unwritten shared memory reads as NaN in every float format.
  std::memset(values, 0xff, element_bytes * count);
  std::memset(guard, guard_byte, shared_guard_bytes);
  poison(guard, shared_guard_bytes);
}

void* shared_struct(const void* key, size_t bytes, void (*construct)(void*), Site site) {
  Block& block = *Block::current();
  SharedMemory& shared = block.shared;
  if (bytes > shared_arena_bytes || (shared.key != nullptr && shared.key != key)) block.fault(site, "asks for a second kind of shared memory, or for %zu bytes of it", bytes);
  if (shared.key == key) return shared.begin;
  shared.key = key;
  shared.site = site;
  note_shared_arrays_in(&shared.layout);
  construct(shared.begin);
  const size_t needed = shared.layout.device_bytes, given = block.grid.shape.shared_bytes;
  if (needed > given) block.fault(site, "uses %zu bytes of shared memory, the launch gave %zu", needed, given);
  return shared.begin;
}

uint32_t shared_address(const void* element) { return static_cast<uint32_t>(static_cast<const char*>(element) - Block::current()->shared.begin); }

char* shared_bytes_at(uint32_t address, uint32_t bytes, const char* instruction, Site site) {
  Block& block = *Block::current();
  const auto* first = reinterpret_cast<unsigned char*>(block.shared.begin) + address;
  const std::vector<SharedLayout::Array>& arrays = block.shared.layout.arrays;
  for (const SharedLayout::Array& array : arrays) {
    const uint64_t end = array.element_bytes * array.count, offset = static_cast<uint64_t>(first - array.begin);  // of what lies before, the offset wraps
    if (offset < end && bytes <= end - offset) return block.shared.begin + address;
    if (first < array.guard + shared_guard_bytes) {
      block.fault(site, "%s touches %u bytes at byte %lld of array %zu of the shared memory, which has %zu elements of %zu bytes", instruction, bytes,
                  static_cast<long long>(first - array.begin), static_cast<size_t>(&array - arrays.data()), array.count, array.element_bytes);
    }
  }
  block.fault(site, "%s touches %u bytes past the end of the shared memory", instruction, bytes);
}

void shared_index_fault(uint64_t index, size_t count, size_t elements, Site site) {
  Block::current()->fault(site, "accesses %zu element%s at index %lld of a shared array of %zu%s", count, count == 1 ? "" : "s", static_cast<long long>(index), elements,
                          count > 1 && index % count != 0 ? ", which is not aligned" : "");
}

}  // namespace PK_BUILD
