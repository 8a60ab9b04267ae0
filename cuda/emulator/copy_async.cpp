#include "copy_async.h"

#include <cstring>

#include "block.h"

namespace PK_BUILD {

namespace {

void land(PendingCopy& copy) {
  std::memset(copy.target, 0, copy.bytes);
  std::memcpy(copy.target, copy.source, copy.valid_bytes);
  copy.landed = true;
}

}  // namespace

void copy_async(void* target, const void* source, uint32_t bytes, uint32_t valid_bytes, Site site) {
  Block& block = *Block::current();
  if (valid_bytes > bytes) block.fault(site, "copy_async: %u valid bytes of %u", valid_bytes, bytes);
  if (reinterpret_cast<uintptr_t>(source) % bytes != 0) {
    block.fault(site, "copy_async: reads at an address that is %u bytes past a multiple of %u", static_cast<uint32_t>(reinterpret_cast<uintptr_t>(source) % bytes), bytes);
  }
  // The valid bytes, in pieces that are aligned to their size.
  const char* piece = static_cast<const char*>(source);
  for (uint32_t size = bytes; size > 0; size /= 2) {
    if ((valid_bytes & size) == 0) continue;
    block.check_global(piece, size, Right::read, site);
    piece += size;
  }
  if (Races* races = block.races()) races->begin(target, bytes, true, site);
  block.count_shared(target, bytes, true, site);
  Thread& thread = block.running();
  thread.copies.push_back({static_cast<char*>(target), static_cast<const char*>(source), bytes, valid_bytes, thread.copy_groups, false, site});
  if (block.early()) land(thread.copies.back());
  else std::memset(target, 0xff, bytes);  // NaN until it lands
}

void commit_copies() { ++Block::current()->running().copy_groups; }

void wait_for_copies(uint32_t pending_groups) {
  Block& block = *Block::current();
  block.access();
  Thread& thread = block.running();
  size_t done = 0;
  for (; done < thread.copies.size() && thread.copies[done].group + pending_groups < thread.copy_groups; ++done) {
    PendingCopy& copy = thread.copies[done];
    if (!copy.landed) land(copy);
    if (Races* races = block.races()) races->end(copy.target, copy.bytes, true, thread.id);
    block.unfenced_writes().note(copy.target, copy.bytes, thread.id, copy.site);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace PK_BUILD
