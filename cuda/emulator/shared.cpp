#include "shared.h"

#include <algorithm>
#include <cstring>

#include "block.h"

namespace PK_BUILD {

namespace {

constexpr unsigned char guard_byte = 0xa5;

thread_local SharedLayout* noting = nullptr;

}  // namespace

void SharedMemory::begin_block(char* memory) {
  memory_ = memory;
  unpoison(memory_, shared_arena_bytes);
  key_ = nullptr;
  layout_ = SharedLayout();
}

void* SharedMemory::claim(const void* key, size_t bytes) {
  if (bytes > shared_arena_bytes || (key_ != nullptr && key_ != key)) return nullptr;
  key_ = key;
  return memory_;
}

uint32_t SharedMemory::array_at(const void* element) const {
  const auto behind = std::find_if(layout_.arrays.begin(), layout_.arrays.end(), [&](const SharedLayout::Array& array) { return array.begin > element; });
  return static_cast<uint32_t>(behind - layout_.arrays.begin()) - 1;
}

std::string SharedMemory::check_guards() const {
  for (const SharedLayout::Array& array : layout_.arrays) {
    unpoison(array.guard, shared_guard_bytes);
    const unsigned char* end = array.guard + shared_guard_bytes;
    const unsigned char* wrong = std::find_if(array.guard, end, [](unsigned char byte) { return byte != guard_byte; });
    if (wrong == end) continue;
    return "array " + std::to_string(&array - layout_.arrays.data()) + " of the shared memory (" + std::to_string(array.count) + " elements of " + std::to_string(array.element_bytes) +
           " bytes) was overrun by " + std::to_string(wrong - array.guard + 1) + " bytes or more";
  }
  return {};
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
  void* memory = block.shared().claim(key, bytes);
  if (memory == nullptr) block.fault(site, "asks for a second kind of shared memory, or for %zu bytes of it", bytes);
  if (!block.shared().layout().arrays.empty()) return memory;
  note_shared_arrays_in(&block.shared().layout());
  construct(memory);
  if (block.shared().layout().device_bytes > block.shared_bytes()) {
    block.fault(site, "uses %zu bytes of shared memory, the launch gave %zu", block.shared().layout().device_bytes, block.shared_bytes());
  }
  return memory;
}

uint32_t shared_address(const void* element) { return static_cast<uint32_t>(static_cast<const char*>(element) - Block::current()->shared().begin()); }

char* shared_bytes_at(uint32_t address, uint32_t bytes, const char* instruction, Site site) {
  Block& block = *Block::current();
  const auto* first = reinterpret_cast<unsigned char*>(block.shared().begin()) + address;
  const std::vector<SharedLayout::Array>& arrays = block.shared().layout().arrays;
  for (const SharedLayout::Array& array : arrays) {
    const uint64_t end = array.element_bytes * array.count, offset = static_cast<uint64_t>(first - array.begin);  // of what lies before, the offset wraps
    if (offset < end && bytes <= end - offset) return block.shared().begin() + address;
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
