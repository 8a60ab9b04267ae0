#include "bulk_copy.h"

#include <algorithm>
#include <cstring>

#include "../ptx/tensor_map.cuh"
#include "cluster.h"
#include "hopper.h"

namespace PK_BUILD {

namespace {

// As check_global, of any number of bytes.
void check_run(const char* address, uint32_t bytes, Right wanted, Site site) {
  BlockCounters* counters = Block::current()->counters();
  if (counters != nullptr) counters->begin_run();
  while (bytes > 0) {
    uint32_t step = 16;
    while (reinterpret_cast<uintptr_t>(address) % step != 0 || step > bytes) step /= 2;
    Block::current()->check_global(address, step, wanted, site);
    address += step;
    bytes -= step;
  }
  if (counters != nullptr) counters->end_run();
}

void check_box(uint32_t shared, const TensorGeometry& map, uint32_t axes, const int32_t* at, Right wanted, const char* name, Site site) {
  Block& block = *Block::current();
  block.access();
  if (!map.valid()) block.fault(site, "%s: this is no tensor map", name);
  if (map.axes() != axes) block.fault(site, "%s: %u coordinates for a tensor of %u axes", name, axes, map.axes());
  const uint32_t alignment = map.swizzle() == Swizzle::none ? 128 : 8 * swizzle_bytes(map.swizzle());
  if (shared % alignment != 0) block.fault(site, "%s: the address in shared memory is %u bytes past a multiple of %u", name, shared % alignment, alignment);
  shared_bytes_at(shared, map.box_bytes(), name, site);
  map.each_row(at, [&](uint32_t, const char* global, uint32_t, uint32_t count) { check_run(global, count * map.element_bytes(), wanted, site); });
}

void check_line(uint32_t shared, const void* other, uint32_t bytes, const char* name, Site site) {
  Block& block = *Block::current();
  block.access();
  if (shared % 16 != 0 || reinterpret_cast<uintptr_t>(other) % 16 != 0 || bytes % 16 != 0 || bytes == 0) {
    block.fault(site, "%s: the address in shared memory is %u, the other %u bytes past a multiple of 16, and the number of bytes %u", name, shared % 16,
                static_cast<uint32_t>(reinterpret_cast<uintptr_t>(other) % 16), bytes);
  }
  shared_bytes_at(shared, bytes, name, site);
}

char* own(uint32_t address) { return Block::current()->shared().begin() + address; }

// A copy into shared memory, perhaps another block's, that completes bytes of a barrier in the same block.
struct BulkLoad {
  char* to;
  BarrierModel* barrier;
  uint32_t bytes, issuer;
  bool is_own;
  Site site;

  BulkLoad(char* target, BarrierModel& of, uint32_t count, Site here)
      : to(target), barrier(&of), bytes(count), issuer(Block::current()->running().id), is_own(rank_of_address(target) == Block::current()->rank()), site(here) {}
  Block& target() const { return *Block::current()->cluster().blocks[rank_of_address(to)]; }

  void begin() const {
    if (!is_own) check_remote(rank_of_address(to), site);
    barrier->copy_issued(bytes, is_own, site);
    Block::current()->begin_asynchronous_access(to, bytes, true, site);
    if (!is_own) note_remote(to, Races::under_way);
  }
  void end() const {
    if (Races* races = Block::current()->races()) {
      const uint32_t clock = races->end_for(barrier, to, bytes, true, issuer);
      if (!is_own) note_remote(to, clock);
    }
    barrier->copy_landed(bytes, is_own, site);
  }
  // The block whose memory is accessed must know before it exits that this has ended.
  void note_remote(const char* accessed, uint32_t clock) const {
    Block& block = *Block::current();
    if (block.races() != nullptr) block.cluster().note_remote_copy(rank_of_address(accessed), clock, site);
  }
};

void begin_store(const BulkStore& store, const char* name) {
  Block::current()->begin_asynchronous_access(own(store.from), store.bytes, false, store.site);
  std::vector<std::shared_ptr<BulkStore>>& stores = Block::current()->running().bulk.stores;
  stores.push_back(std::make_shared<BulkStore>(store));
  BulkStore* begun = stores.back().get();
  Block::current()->later(name, [begun] { begun->read(); }, store.site);
}

}  // namespace

void load_box(uint32_t to, const TensorMap& map, uint32_t axes, const int32_t* at, BarrierModel& barrier, uint32_t ranks, Site site) {
  check_box(to, map, axes, at, Right::read, "load_tensor", site);
  if (ranks == 0) ranks = 1u << Block::current()->rank();
  for (uint32_t rest = ranks; rest != 0; rest &= rest - 1) {
    const auto rank = static_cast<uint32_t>(__builtin_ctz(rest));
    struct Copy {
      BulkLoad load;
      uint32_t place;  // in that block's shared memory
      TensorGeometry map;
      int32_t at[4];
    } copy{BulkLoad(in_block(own(to), rank, site), *in_block(&barrier, rank, site), map.box_bytes(), site), to, map, {}};
    std::copy(at, at + axes, copy.at);
    copy.load.begin();
    copy.load.target().later(
        "load_tensor",
        [copy] {
          char* shared = copy.load.to - copy.place;
          const uint32_t row_bytes = copy.map.row_bytes(), element = copy.map.element_bytes();
          copy.map.each_row(copy.at, [&](uint32_t row, const char* global, uint32_t first, uint32_t count) {
            char bytes[1024] = {};
            if (count > 0) memcpy(bytes + first * element, global, count * element);
            for (uint32_t i = 0; i < row_bytes; i += 16) memcpy(shared + swizzled(copy.place + row * row_bytes + i, copy.map.swizzle()), bytes + i, 16);
          });
          copy.load.end();
        },
        site);
  }
}

void load_line(uint32_t to, const void* from, uint32_t bytes, BarrierModel& barrier, Site site) {
  check_line(to, from, bytes, "load_bulk", site);
  check_run(static_cast<const char*>(from), bytes, Right::read, site);
  const BulkLoad load(own(to), barrier, bytes, site);
  load.begin();
  Block::current()->later(
      "load_bulk",
      [load, from] {
        memcpy(load.to, from, load.bytes);
        load.end();
      },
      site);
}

void copy_line(char* to, uint32_t from, uint32_t bytes, BarrierModel& barrier, Site site) {
  Block& block = *Block::current();
  check_line(from, to, bytes, "copy_bulk", site);
  if (rank_of_address(&barrier) != rank_of_address(to)) block.fault(site, "copy_bulk: the barrier is not in the block that is copied to");
  const BulkLoad load(to, barrier, bytes, site);
  load.begin();
  const char* source = own(from);
  block.begin_asynchronous_access(source, bytes, false, site);
  load.note_remote(source, Races::under_way);
  load.target().later(
      "copy_bulk",
      [load, source] {
        memcpy(load.to, source, load.bytes);
        if (Races* races = Block::current()->races()) load.note_remote(source, races->end_for(load.barrier, source, load.bytes, false, load.issuer));
        load.end();
      },
      site);
}

void store_box(uint32_t from, const TensorMap& map, uint32_t axes, const int32_t* at, Site site) {
  check_box(from, map, axes, at, Right::write, "store_tensor", site);
  BulkStore store{map, {}, nullptr, from, map.box_bytes(), Block::current()->running().id, site};
  std::copy(at, at + axes, store.at);
  begin_store(store, "store_tensor");
}

void store_line(void* to, uint32_t from, uint32_t bytes, Site site) {
  check_line(from, to, bytes, "store_bulk", site);
  check_run(static_cast<const char*>(to), bytes, Right::write, site);
  begin_store({{}, {}, static_cast<char*>(to), from, bytes, Block::current()->running().id, site}, "store_bulk");
}

void BulkStore::read() {
  const char* shared = Block::current()->shared().begin();
  data.resize(bytes);
  for (uint32_t i = 0; i < bytes; i += 16) memcpy(data.data() + i, shared + (to != nullptr ? from + i : swizzled(from + i, map.swizzle())), 16);
  is_read = true;
  if (Block::current()->early()) write();
}

void BulkStore::write() {
  if (is_written) return;
  is_written = true;
  if (to != nullptr) {
    memcpy(to, data.data(), bytes);
    return;
  }
  map.each_row(at, [&](uint32_t row, char* global, uint32_t first, uint32_t count) {
    if (count > 0) memcpy(global, data.data() + row * map.row_bytes() + first * map.element_bytes(), count * map.element_bytes());
  });
}

void commit_stores(Site) {
  BulkGroups& groups = Block::current()->running().bulk;
  groups.groups.push_back(groups.stores.size());
}

void wait_for_stores(uint32_t pending, bool only_reads, Site site) {
  Block& block = *Block::current();
  BulkGroups& groups = block.running().bulk;
  const size_t end = groups.groups.size() > pending ? groups.groups[groups.groups.size() - pending - 1] : 0;
  for (; groups.reads_waited_for < end; ++groups.reads_waited_for) {
    BulkStore* store = groups.stores[groups.reads_waited_for].get();
    block.wait_until(only_reads ? "wait_for_bulk_reads" : "wait_for_bulk_stores", [store] { return store->is_read; }, site);
    if (Races* races = block.races()) races->end(own(store->from), store->bytes, false, store->issuer);
  }
  if (only_reads) return;
  for (; groups.written < end; ++groups.written) groups.stores[groups.written]->write();
}

int32_t TensorGeometry::encode(const char* what, const TensorBox& from, uint32_t element_size) {
  const auto refuse = [&](const char* reason, uint64_t value) {
    return fail(PK_ERROR_CUDA, "%s: the driver would refuse this tensor map: %s (%llu)", what, reason, static_cast<unsigned long long>(value));
  };
  *this = TensorGeometry();
  if (from.axes < 1 || from.axes > 4) return refuse("not 1 to 4 axes", from.axes);
  if (from.data == nullptr || reinterpret_cast<uintptr_t>(from.data) % 16 != 0) return refuse("the data are not aligned to 16 bytes", reinterpret_cast<uintptr_t>(from.data) % 16);
  for (uint32_t axis = 0; axis < 4; ++axis) {
    const bool used = axis < from.axes;
    if (used && (from.extents[axis] < 1 || from.extents[axis] > uint64_t{1} << 32)) return refuse("an extent is not 1 to 2^32", from.extents[axis]);
    if (used && (from.box[axis] < 1 || from.box[axis] > 256)) return refuse("an extent of the box is not 1 to 256", from.box[axis]);
    last_[axis] = used ? static_cast<uint32_t>(from.extents[axis] - 1) : 0;
    box_[axis] = used ? static_cast<uint16_t>(from.box[axis]) : 1;
    if (axis == 0 || !used) continue;
    const uint64_t stride = from.stride_bytes[axis - 1];
    if (stride % 16 != 0 || stride >= uint64_t{1} << 40) return refuse("a stride is not a multiple of 16 bytes below 2^40", stride);
    strides_[axis - 1] = stride;
  }
  const uint32_t row = from.box[0] * element_size;
  if (row % 16 != 0) return refuse("the rows of the box are no multiple of 16 bytes", row);
  if (from.swizzle != Swizzle::none && row > swizzle_bytes(from.swizzle)) return refuse("the rows of the box are longer than the lines of the swizzle, in bytes", row);
  if (from.swizzle != Swizzle::none && row < swizzle_bytes(from.swizzle)) {
    return fail(PK_ERROR_CUDA, "%s: rows of %u bytes in a swizzle of %u: the emulator knows only whole lines", what, row, swizzle_bytes(from.swizzle));
  }
  data_ = static_cast<char*>(const_cast<void*>(from.data));
  axes_ = from.axes;
  element_bytes_ = element_size;
  swizzle_ = from.swizzle;
  magic_ = magic;
  return PK_OK;
}

}  // namespace PK_BUILD
