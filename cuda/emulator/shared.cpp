#include "shared.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "block.h"

namespace PK_BUILD {

namespace {

constexpr size_t arena_bytes = 512 * 1024;  // the largest shared memory of a chip, and guards
constexpr unsigned char guard_byte = 0xa5;

thread_local SharedLayout* noting = nullptr;

}  // namespace

SharedMemory::~SharedMemory() {
  if (memory_ == nullptr) return;
  unpoison(memory_, arena_bytes);
  munmap(memory_, arena_bytes);
}

bool SharedMemory::reserve() {
  if (memory_ != nullptr) return true;
  void* memory = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  memory_ = static_cast<char*>(memory);
  return true;
}

void SharedMemory::begin_block() {
  unpoison(memory_, arena_bytes);
  key_ = nullptr;
  layout_ = SharedLayout();
}

void* SharedMemory::claim(const void* key, size_t bytes) {
  if (bytes > arena_bytes || (key_ != nullptr && key_ != key)) return nullptr;
  key_ = key;
  return memory_;
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
  noting->arrays.push_back({guard, element_bytes, count});
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

void shared_index_fault(uint64_t index, size_t count, size_t elements, Site site) {
  Block::current()->fault(site, "accesses %zu element%s at index %lld of a shared array of %zu%s", count, count == 1 ? "" : "s", static_cast<long long>(index), elements,
                          count > 1 && index % count != 0 ? ", which is not aligned" : "");
}

}  // namespace PK_BUILD
