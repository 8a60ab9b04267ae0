#include "bulk_copy.h"

#include <algorithm>
#include <cstring>

#include "../core/status.h"
#include "cluster.h"

namespace PK_BUILD {

namespace {

CopiedBox box_of(uint32_t shared, const TensorMap& map, uint32_t axes, const int32_t* at, const char* name, Site site) {
  Block& block = *Block::current();
  block.access();
  if (map.magic != TensorMap::valid) block.fault(site, "%s: this is no tensor map", name);
  if (map.tensor.axes != axes) block.fault(site, "%s: %u coordinates for a tensor of %u axes", name, axes, map.tensor.axes);
  const uint32_t alignment = map.tensor.swizzle == Swizzle::none ? 128 : 8 * swizzle_bytes(map.tensor.swizzle);
  if (shared % alignment != 0) block.fault(site, "%s: the address in shared memory is %u bytes past a multiple of %u", name, shared % alignment, alignment);
  return CopiedBox(map, at);
}

CopiedBox line_of(uint32_t shared, const void* other, uint32_t bytes, const char* name, Site site) {
  Block& block = *Block::current();
  block.access();
  const auto past = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(other) % 16);
  if (shared % 16 == 0 && past == 0 && bytes % 16 == 0 && bytes != 0) return CopiedBox(other, bytes);
  block.fault(site, "%s: the address in shared memory is %u, the other %u bytes past a multiple of 16, and the number of bytes %u", name, shared % 16, past, bytes);
}

// Where 16 bytes of a packed box in shared memory are.
char* place_of(char* begin, uint32_t offset, Swizzle swizzle) {
  char* memory = Block::current()->cluster.memory;  // as aligned as a page
  return memory + swizzled(static_cast<uint32_t>(begin - memory) + offset, swizzle);
}

// A copy into shared memory, perhaps another block's, that completes bytes of a barrier in the same block.
struct BulkLoad {
  CopiedBox box;
  char* to;
  char* from_shared;  // where it does not read global memory
  BarrierModel* barrier;
  Site site;
  uint32_t bytes = box.bytes(), issuer = Block::current()->running().id;
  bool is_own = rank_of_address(to) == Block::current()->rank;

  void begin(const char* name) const {
    Block& block = *Block::current();
    check_remote(rank_of_address(to), site);
    barrier->copy_issued(bytes, is_own, site);
    for (char* accessed : {to, from_shared}) {
      if (accessed == nullptr) continue;
      block.begin_asynchronous_access(accessed, bytes, accessed == to, site);
      if (!is_own && block.races != nullptr) ++block.cluster.remote_access(accessed, block.races->engine(), site).under_way;
    }
    block.cluster.blocks[rank_of_address(to)]->later(name, [copy = *this] { copy.land(); }, site);
  }

  void land() const {
    move();
    Block& block = *Block::current();
    for (char* accessed : {from_shared, to}) {
      if (accessed == nullptr || block.races == nullptr) continue;
      const uint32_t clock = block.races->end_for(barrier, accessed, bytes, accessed == to, issuer);
      if (is_own) continue;
      Cluster::RemoteAccess& remote = block.cluster.remote_access(accessed, block.races->engine(), site);
      remote.clock = clock;  // before the block whose memory it is exits, it must know of this
      --remote.under_way;
    }
    barrier->copy_landed(bytes, is_own, site);
  }

  void move() const {
    std::vector<char> row(box.tensor.box[0]);
    box.each_row([&](uint32_t begin, const char* global, uint32_t first, uint32_t count) {
      std::fill(row.begin(), row.end(), 0);
      if (count > 0) memcpy(row.data() + first, global, count);
      for (uint32_t i = 0; i < row.size(); i += 16) memcpy(place_of(to, begin + i, box.tensor.swizzle), row.data() + i, 16);
    });
  }
};

void begin_store(uint32_t from, const CopiedBox& box, const char* name, Site site) {
  Block& block = *Block::current();
  char* begin = shared_bytes_at(from, box.bytes(), name, site);
  box.check(Right::write, site);
  block.begin_asynchronous_access(begin, box.bytes(), false, site);
  std::vector<std::shared_ptr<BulkStore>>& stores = block.running().bulk.stores;
  stores.push_back(std::make_shared<BulkStore>(BulkStore{box, begin, block.running().id, site}));
  block.later(name, [store = stores.back().get()] { store->read(); }, site);
}

}  // namespace

CopiedBox::CopiedBox(const TensorMap& map, const int32_t* coordinates) : tensor(map.tensor), at{} {
  std::copy(coordinates, coordinates + tensor.axes, at);
  tensor.extents[0] *= map.element_bytes;
  tensor.box[0] *= map.element_bytes;
  at[0] *= map.element_bytes;
}

uint32_t CopiedBox::bytes() const {
  uint32_t product = 1;
  for (uint32_t axis = 0; axis < tensor.axes; ++axis) product *= tensor.box[axis];
  return product;
}

template <class F>
void CopiedBox::each_row(F visit) const {
  auto* data = static_cast<char*>(const_cast<void*>(tensor.data));
  // Of axis 0, what lies inside the tensor.
  const int64_t first = std::max<int64_t>(-at[0], 0), end = std::min<int64_t>(static_cast<int64_t>(tensor.extents[0]) - at[0], tensor.box[0]);
  for (uint32_t begin = 0, all = bytes(); begin < all; begin += tensor.box[0]) {
    bool inside = first < end;
    int64_t offset = at[0] + first;
    for (uint32_t axis = 1, rows = begin / tensor.box[0]; axis < tensor.axes; rows /= tensor.box[axis++]) {
      const int64_t index = at[axis] + rows % tensor.box[axis];
      inside = inside && index >= 0 && index < static_cast<int64_t>(tensor.extents[axis]);
      offset += index * static_cast<int64_t>(tensor.stride_bytes[axis - 1]);
    }
    visit(begin, inside ? data + offset : nullptr, inside ? static_cast<uint32_t>(first) : 0, inside ? static_cast<uint32_t>(end - first) : 0);
  }
}

void CopiedBox::check(Right wanted, Site site) const {
  each_row([&](uint32_t, const char* global, uint32_t, uint32_t count) { Block::current()->check_run(global, count, wanted, site); });
}

void load_box(uint32_t to, const TensorMap& map, uint32_t axes, const int32_t* at, BarrierModel& barrier, uint32_t ranks, Site site) {
  const CopiedBox box = box_of(to, map, axes, at, "load_tensor", site);
  char* begin = shared_bytes_at(to, box.bytes(), "load_tensor", site);
  box.check(Right::read, site);
  if (ranks == 0) ranks = 1u << Block::current()->rank;
  for (; ranks != 0; ranks &= ranks - 1) {
    const auto rank = static_cast<uint32_t>(__builtin_ctz(ranks));
    BulkLoad{box, in_block(begin, rank, site), nullptr, in_block(&barrier, rank, site), site}.begin("load_tensor");
  }
}

void load_line(uint32_t to, const void* from, uint32_t bytes, BarrierModel& barrier, Site site) {
  const CopiedBox box = line_of(to, from, bytes, "load_bulk", site);
  char* begin = shared_bytes_at(to, bytes, "load_bulk", site);
  box.check(Right::read, site);
  BulkLoad{box, begin, nullptr, &barrier, site}.begin("load_bulk");
}

void copy_line(char* to, uint32_t from, uint32_t bytes, BarrierModel& barrier, Site site) {
  line_of(from, to, bytes, "copy_bulk", site);
  char* source = shared_bytes_at(from, bytes, "copy_bulk", site);
  if (rank_of_address(&barrier) != rank_of_address(to)) Block::current()->fault(site, "copy_bulk: the barrier is not in the block that is copied to");
  BulkLoad{CopiedBox(source, bytes), to, source, &barrier, site}.begin("copy_bulk");
}

void store_box(uint32_t from, const TensorMap& map, uint32_t axes, const int32_t* at, Site site) {
  begin_store(from, box_of(from, map, axes, at, "store_tensor", site), "store_tensor", site);
}

void store_line(void* to, uint32_t from, uint32_t bytes, Site site) { begin_store(from, line_of(from, to, bytes, "store_bulk", site), "store_bulk", site); }

void BulkStore::read() {
  data.resize(box.bytes());
  for (uint32_t i = 0; i < data.size(); i += 16) memcpy(data.data() + i, place_of(from, i, box.tensor.swizzle), 16);
  is_read = true;
  if (Block::current()->early()) write();
}

void BulkStore::write() {
  if (std::exchange(is_written, true)) return;
  box.each_row([&](uint32_t begin, char* global, uint32_t first, uint32_t count) {
    if (count > 0) memcpy(global, data.data() + begin + first, count);
  });
}

void wait_for_stores(uint32_t pending, bool only_reads, Site site) {
  Block& block = *Block::current();
  BulkGroups& groups = block.running().bulk;
  const size_t end = groups.groups.size() > pending ? groups.groups[groups.groups.size() - pending - 1] : 0;
  for (; groups.reads_waited_for < end; ++groups.reads_waited_for) {
    BulkStore* store = groups.stores[groups.reads_waited_for].get();
    block.wait_until(only_reads ? "wait_for_bulk_reads" : "wait_for_bulk_stores", [store] { return store->is_read; }, site);
    if (block.races != nullptr) block.races->end(store->from, store->box.bytes(), false, store->issuer);
  }
  if (only_reads) return;
  for (; groups.written < end; ++groups.written) groups.stores[groups.written]->write();
}

int32_t TensorMap::encode(const char* what, const TensorBox& from, uint32_t element_size) {
  const auto refuse = [&](const char* reason, uint64_t value) {
    return fail(PK_ERROR_CUDA, "%s: the driver would refuse this tensor map: %s (%llu)", what, reason, static_cast<unsigned long long>(value));
  };
  magic = 0;
  if (from.axes < 1 || from.axes > 4) return refuse("not 1 to 4 axes", from.axes);
  if (from.data == nullptr || reinterpret_cast<uintptr_t>(from.data) % 16 != 0) return refuse("the data are not aligned to 16 bytes", reinterpret_cast<uintptr_t>(from.data) % 16);
  for (uint32_t axis = 0; axis < from.axes; ++axis) {
    if (from.extents[axis] < 1 || from.extents[axis] > uint64_t{1} << 32) return refuse("an extent is not 1 to 2^32", from.extents[axis]);
    if (from.box[axis] < 1 || from.box[axis] > 256) return refuse("an extent of the box is not 1 to 256", from.box[axis]);
    const uint64_t stride = axis > 0 ? from.stride_bytes[axis - 1] : 0;
    if (stride % 16 != 0 || stride >= uint64_t{1} << 40) return refuse("a stride is not a multiple of 16 bytes below 2^40", stride);
  }
  const uint32_t row = from.box[0] * element_size;
  if (row % 16 != 0) return refuse("the rows of the box are no multiple of 16 bytes", row);
  if (from.swizzle != Swizzle::none && row > swizzle_bytes(from.swizzle)) return refuse("the rows of the box are longer than the lines of the swizzle, in bytes", row);
  if (from.swizzle != Swizzle::none && row < swizzle_bytes(from.swizzle)) {
    return fail(PK_ERROR_CUDA, "%s: rows of %u bytes in a swizzle of %u: the emulator knows only whole lines", what, row, swizzle_bytes(from.swizzle));
  }
  tensor = from;
  element_bytes = element_size;
  magic = valid;
  return PK_OK;
}

}  // namespace PK_BUILD
