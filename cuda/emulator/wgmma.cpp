#include "wgmma.h"

#include <algorithm>
#include <limits>

#include "../ptx/swizzle.cuh"
#include "block.h"
#include "product.h"

namespace PK_BUILD {

namespace {

Warpgroup& warpgroup_of_running_thread(Site site) {
  Block& block = *Block::current();
  const uint32_t number = block.thread_index() / 128;
  if (number * 128 + 128 > block.extent.x) block.fault(site, "uses wgmma in a warpgroup that the block has only %u threads of", block.extent.x - number * 128);
  std::shared_ptr<Warpgroup>& group = block.hopper.warpgroups[number];
  if (group == nullptr) group = std::make_shared<Warpgroup>();
  return *group;
}

uint32_t warp_in_warpgroup() { return Block::current()->thread_index() / 32 % 4; }

// Where the records of a collective are its sites.
Warpgroup::Warp& running_warp(void* const* sites) { return warpgroup_of_running_thread(of_lane<Site>(sites, 0)).warps[warp_in_warpgroup()]; }

// An operand in shared memory as lines of 16-byte chunks: of 2 (k-major) along k, else along the rows.
struct Operand16 {
  char name;
  uint64_t bits;  // of its descriptor
  bool mn_major;
  uint32_t rows;

  uint32_t field(uint32_t at) const { return static_cast<uint32_t>(bits >> at & 0x3fff) << 4; }
  uint32_t start = field(0), leading = field(16), stride = field(32);
  Swizzle swizzle = static_cast<Swizzle>((4 - (bits >> 62)) % 4);
  uint32_t lines = mn_major ? 16 : rows, chunks = mn_major ? rows / 8 : 2;

  uint32_t address(uint32_t line, uint32_t chunk) const {
    if (swizzle == Swizzle::none) return start + line % 8 * 16 + line / 8 * (mn_major ? leading : stride) + chunk * (mn_major ? stride : leading);
    const uint32_t bytes = swizzle_bytes(swizzle), chunks_of_line = bytes / 16;
    const uint32_t along = mn_major ? chunk % chunks_of_line * 16 + chunk / chunks_of_line * leading : chunk * 16;
    return swizzled(start + line % 8 * bytes + line / 8 * stride + along, swizzle);
  }

  // What a descriptor must be for the formula above to hold, and what no descriptor of ours is.
  void check(Site site) const {
    Block& block = *Block::current();
    if ((bits >> 49 & 7) != 0) block.fault(site, "wgmma: the descriptor of %c has a base offset, which the emulator does not know", name);
    if (swizzle == Swizzle::none) return;
    const uint32_t bytes = swizzle_bytes(swizzle), piece = 8 * bytes, into_line = mn_major ? 0 : start % bytes;
    if ((start - into_line) % piece != 0) {
      block.fault(site, "wgmma: %c begins %u bytes past a multiple of %u, where the pieces of its swizzle begin", name, (start - into_line) % piece, piece);
    }
    if (into_line % 32 != 0) block.fault(site, "wgmma: %c begins %u bytes into a line, which is no multiple of the 32 bytes of one step of k", name, into_line);
    if ((lines > 8 && stride % piece != 0) || (mn_major && chunks * 16 > bytes && leading % piece != 0)) {
      block.fault(site, "wgmma: the next piece of %c is %u or %u bytes further, which must be multiples of %u", name, leading, stride, piece);
    }
  }

  template <class F>
  void each_chunk(F visit) const {
    for (uint32_t line = 0; line < lines; ++line) {
      for (uint32_t chunk = 0; chunk < chunks; ++chunk) visit(line, chunk, address(line, chunk));
    }
  }
};

// Visits what an operation reads of shared memory.
template <class F>
void each_operand(const WgmmaCall& call, F visit) {
  if (!call.a_in_registers) visit(Operand16{'A', call.a, call.a_is_mn_major, 64});
  visit(Operand16{'B', call.b, call.b_is_mn_major, call.columns});
}

// values[row * row_step + k * k_step]
template <MatrixType TYPE>
void unpack(const Operand16& operand, float* values, uint32_t row_step, uint32_t k_step) {
  const char* memory = Block::current()->shared.begin;
  constexpr uint32_t width = bytes_of(TYPE), count = 16 / width;
  const uint32_t line_step = operand.mn_major ? k_step : row_step, element_step = operand.mn_major ? row_step : k_step;
  operand.each_chunk([&](uint32_t line, uint32_t chunk, uint32_t address) {
    float* out = values + line * line_step + chunk * count * element_step;
    for (uint32_t i = 0; i < count; ++i) out[i * element_step] = element_at<TYPE>(memory + address + i * width);
  });
}

template <MatrixType TYPE>
void run_operation(const WgmmaOperation& operation) {
  const WgmmaCall& call = operation.call;
  float a[64 * 16], b[16 * 256];
  each_operand(call, [&](const Operand16& operand) {
    if (operand.name == 'A') unpack<TYPE>(operand, a, 16, 1);
    else unpack<TYPE>(operand, b, 1, 256);
  });
  for (uint32_t thread = 0; call.a_in_registers && thread < 128; ++thread) unpack_a<TYPE>(&operation.a[thread * 4], thread % 32, a + thread / 32 * 16 * 16);
  for (uint32_t warp = 0; warp < 4; ++warp) {
    multiply(operation.tiles[warp]->values.data(), a + warp * 16 * 16, b, 256, call.columns, 32 / bytes_of(TYPE), call.accumulate);
  }
}

}  // namespace

// ---- accumulators -------------------------------------------------------------------------------------------------------------------------------------------

AccumulatorModel::AccumulatorModel(float* registers, uint32_t register_count, Site created) : values(registers), count(register_count), site(created) {
  fences = &warpgroup_of_running_thread(created).warps[warp_in_warpgroup()].fences;
  touched_after_fence = *fences;
  std::fill(values, values + count, std::numeric_limits<float>::quiet_NaN());
}

AccumulatorModel::~AccumulatorModel() {
  if (tile != nullptr) Block::current()->fault(site, "wgmma: its accumulators end before a wgmma_wait for it");
}

void AccumulatorModel::touch(int i, Site here) {
  if (static_cast<uint32_t>(i) >= count) Block::current()->fault(here, "accesses accumulator %d of %u", i, count);
  if (tile != nullptr) Block::current()->fault(here, "accesses an accumulator of the wgmma at %s:%d, which this thread has not waited for", site.file, site.line);
  touched_after_fence = *fences;
}

// ---- operations ---------------------------------------------------------------------------------------------------------------------------------------------

void Warpgroup::issue(void* const* calls) {
  Block& block = *Block::current();
  const uint32_t warp_index = warp_in_warpgroup();
  Warp& warp = warps[warp_index];
  const WgmmaCall& call = of_lane<WgmmaCall>(calls, 0);
  const uint64_t number = warp.issued++;
  if (number - first_ == operations_.size()) {
    operations_.emplace_back();
    operations_.back().call = call;
    if (call.a_in_registers) operations_.back().a.resize(128 * 4);
  }
  WgmmaOperation& operation = operations_[number - first_];
  if (operation.call != call) {
    block.fault(call.site, "wgmma: its warps are in different ones, another is at %s:%d or has other operands", operation.call.site.file, operation.call.site.line);
  }
  AccumulatorModel* accumulators[32];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const WgmmaCall& of = of_lane<WgmmaCall>(calls, lane);
    if (of != call) block.fault(call.site, "wgmma: lane %u of the warp has other descriptors than lane 0", lane);
    accumulators[lane] = of.accumulator;
    if (accumulators[lane]->touched_after_fence == warp.fences) block.fault(call.site, "wgmma: no wgmma_fence() since lane %u accessed its accumulators", lane);
    if (call.a_in_registers) std::copy(of.a_registers, of.a_registers + 4, operation.a.begin() + (warp_index * 32 + lane) * 4);
  }
  if (call.a_in_registers && warp.fences == warp.fences_before_group) block.fault(call.site, "wgmma: no wgmma_fence() in this group, and A is in registers");

  AccumulatorTile* tile = accumulators[0]->tile;
  operation.tiles[warp_index] = tile != nullptr ? tile->shared_from_this() : std::make_shared<AccumulatorTile>();
  if (tile == nullptr) {
    tile = operation.tiles[warp_index].get();
    tile->values.resize(16 * call.columns);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      AccumulatorModel& of = *accumulators[lane];
      tile->of_lane[lane] = &of;
      of.tile = tile;
      for (uint32_t i = 0; i < of.count; ++i) tile->values[place_of_sum(lane, i, call.columns)] = of.values[i];
      std::fill(of.values, of.values + of.count, std::numeric_limits<float>::quiet_NaN());
    }
  }
  for (AccumulatorModel* of : tile->of_lane) of->site = call.site;
  ++tile->under_way;
  if (++operation.warps < 4) return;

  operation.issuer = block.running().id;
  count_product(("wgmma.m64n" + std::to_string(call.columns)).c_str(), call.type);
  each_operand(call, [&](const Operand16& operand) {
    operand.check(call.site);
    operand.each_chunk([&](uint32_t, uint32_t, uint32_t address) {
      block.begin_asynchronous_access(shared_bytes_at(address, 16, "wgmma", call.site), 16, false, call.site);
    });
  });
  block.changed();
  if (block.early()) run_before(number + 1);
}

uint64_t Warpgroup::least(uint64_t Warp::*count) const { return std::min({warps[0].*count, warps[1].*count, warps[2].*count, warps[3].*count}); }

void Warpgroup::run_before(uint64_t end) {
  static constexpr void (*runs[])(const WgmmaOperation&) = {run_operation<MatrixType::bf16>, run_operation<MatrixType::f16>, run_operation<MatrixType::tf32>};
  for (; run_ < end; ++run_) runs[static_cast<int>(operations_[run_ - first_].call.type)](operations_[run_ - first_]);
}

// A warp has waited for the operations before this one.
void Warpgroup::retire(uint64_t end) {
  Block& block = *Block::current();
  run_before(end);
  const uint32_t warp_index = warp_in_warpgroup();
  Warp& warp = warps[warp_index];
  while (!warp.groups.empty() && warp.groups.front() <= end) warp.groups.pop_front();
  for (; warp.retired < end; ++warp.retired) {
    AccumulatorTile& tile = *operations_[warp.retired - first_].tiles[warp_index];
    if (--tile.under_way > 0) continue;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      AccumulatorModel& of = *tile.of_lane[lane];
      of.tile = nullptr;
      for (uint32_t i = 0; i < of.count; ++i) of.values[i] = tile.values[place_of_sum(lane, i, of.count * 2)];
    }
  }
  // Their reads of shared memory have ended for all four warps when one of them has waited.
  for (; ended_ < end; ++ended_) {
    const WgmmaOperation& operation = operations_[ended_ - first_];
    if (block.races == nullptr) continue;
    each_operand(operation.call, [&](const Operand16& operand) {
      operand.each_chunk([&](uint32_t, uint32_t, uint32_t address) { block.races->end_for(this, block.shared.begin + address, 16, false, operation.issuer); });
    });
  }
  for (; first_ < least(&Warp::retired); ++first_) operations_.pop_front();
}

// ---- what the primitives call -------------------------------------------------------------------------------------------------------------------------------

void issue_wgmma(WgmmaCall call) {
  Block::current()->access();
  Block::current()->collective(
      all_lanes, "wgmma", [](void* const* calls) { warpgroup_of_running_thread(of_lane<WgmmaCall>(calls, 0).site).issue(calls); }, &call, call.site, Meets::whole);
}

void fence_wgmma(Site site) {
  Block::current()->collective(
      all_lanes, "wgmma_fence", [](void* const* sites) { ++running_warp(sites).fences; }, &site, site, Meets::whole);
}

void commit_wgmma(Site site) {
  Block::current()->collective(
      all_lanes, "wgmma_commit",
      [](void* const* sites) {
        Warpgroup::Warp& warp = running_warp(sites);
        warp.groups.push_back(warp.issued);
        warp.fences_before_group = warp.fences;
      },
      &site, site, Meets::whole);
}

void wait_for_wgmma(uint32_t pending, Site site) {
  Block& block = *Block::current();
  Warpgroup& group = warpgroup_of_running_thread(site);
  const std::deque<uint64_t>& groups = group.warps[warp_in_warpgroup()].groups;
  uint64_t end = groups.size() > pending ? groups[groups.size() - pending - 1] : 0;
  block.wait_until("wgmma_wait", [&] { return group.least(&Warpgroup::Warp::issued) >= end; }, site);
  block.collective(
      all_lanes, "wgmma_wait",
      [](void* const* ends) { warpgroup_of_running_thread({}).retire(of_lane<uint64_t>(ends, 0)); }, &end, site, Meets::whole);
  if (block.races != nullptr) block.races->acquire(&group);
}

}  // namespace PK_BUILD
