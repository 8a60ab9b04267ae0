#include "ampere.h"

#include <cmath>
#include <cstring>

#include "block.h"
#include "product.h"

namespace PK_BUILD {

namespace {

constexpr uint32_t lanes = 32;

void move_all(void* const* records) {
  const auto of = [&](uint32_t lane) -> const MatrixMove& { return of_lane<MatrixMove>(records, lane); };
  const bool stores = of(0).stores, transposed = of(0).transposed;
  for (uint32_t i = 0; i < of(0).count * lanes; ++i) {
    const uint32_t matrix = i / lanes, lane = i % lanes, row = lane / 4;
    auto* pair = reinterpret_cast<char*>(of(lane).fragments + matrix);
    for (uint32_t column = lane % 4 * 2, end = column + 2; column < end; ++column, pair += 2) {
      char* in_row = static_cast<char*>(of(matrix * 8 + (transposed ? column : row)).row) + (transposed ? row : column) * 2;
      if (stores) std::memcpy(in_row, pair, 2);
      else std::memcpy(pair, in_row, 2);
    }
  }
}

// ---- products --------------------------------------------------------------------------------------------------------------------------------------------------

struct Product {
  void* sums;
  const void *a, *b;
};

template <MatrixType TYPE>
void multiply_all(void* const* records) {
  count_product("mma.m16n8", TYPE);
  constexpr uint32_t count = 4 / bytes_of(TYPE), depth = 8 * count;
  float a[16 * 16], b[16 * 8], sums[16 * 8];
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    const auto& record = of_lane<Product>(records, lane);
    unpack_a<TYPE>(static_cast<const uint32_t*>(record.a), lane, a);
    const auto* words = static_cast<const char*>(record.b);
    for (uint32_t i = 0; i < 2 * count; ++i) b[(i / count * 4 * count + lane % 4 * count + i % count) * 8 + lane / 4] = element_at<TYPE>(words + i * bytes_of(TYPE));
    for (uint32_t i = 0; i < 4; ++i) sums[place_of_sum(lane, i, 8)] = static_cast<const float*>(record.sums)[i];
  }
  multiply(sums, a, b, 8, 8, depth, true);
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    for (uint32_t i = 0; i < 4; ++i) static_cast<float*>(of_lane<Product>(records, lane).sums)[i] = sums[place_of_sum(lane, i, 8)];
  }
}

void multiply_all_f64(void* const* records) {
  count_product("mma.m8n8", MatrixType::f64);
  const auto of = [&](uint32_t row, uint32_t column) -> const Product& { return of_lane<Product>(records, row * 4 + column); };
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    auto* c = static_cast<double*>(of_lane<Product>(records, lane).sums);
    for (uint32_t i = 0; i < 2; ++i) {
      for (uint32_t k = 0; k < 4; ++k) c[i] = std::fma(*static_cast<const double*>(of(lane / 4, k).a), *static_cast<const double*>(of(lane % 4 * 2 + i, k).b), c[i]);
    }
  }
}

// ---- copies ----------------------------------------------------------------------------------------------------------------------------------------------------

void land(PendingCopy& copy) {
  std::memset(copy.target, 0, copy.bytes);
  std::memcpy(copy.target, copy.source, copy.valid_bytes);
  copy.landed = true;
}

}  // namespace

void count_product(const char* shape, MatrixType type) {
  static constexpr const char* kinds[] = {"k16.bf16", "k16.f16", "k8.tf32", "k4.f64"};
  if (const auto& counters = Block::current()->counters) counters->count(Counted::matrix_instructions, (std::string(shape) + kinds[static_cast<int>(type)]).c_str());
}

void move_matrices(const char* name, MatrixMove move, Site site) { Block::current()->collective(all_lanes, name, move_all, &move, site, Meets::whole); }

void multiply_matrices(MatrixType type, void* sums, const void* a, const void* b, Site site) {
  static constexpr CollectiveFunction functions[] = {multiply_all<MatrixType::bf16>, multiply_all<MatrixType::f16>, multiply_all<MatrixType::tf32>, multiply_all_f64};
  Product record{sums, a, b};
  Block::current()->collective(all_lanes, "mma", functions[static_cast<int>(type)], &record, site, Meets::whole);
}

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
  if (Races* races = block.races) races->begin(target, bytes, true, site);
  block.count_shared(target, bytes, true, site);
  Thread& thread = block.running();
  thread.copies.push_back({static_cast<char*>(target), static_cast<const char*>(source), bytes, valid_bytes, thread.copy_groups, false, site});
  if (block.early()) land(thread.copies.back());
  else std::memset(target, 0xff, bytes);  // NaN until it lands
}

void wait_for_copies(uint32_t pending_groups) {
  Block& block = *Block::current();
  block.access();
  Thread& thread = block.running();
  size_t done = 0;
  for (; done < thread.copies.size() && thread.copies[done].group + pending_groups < thread.copy_groups; ++done) {
    PendingCopy& copy = thread.copies[done];
    if (!copy.landed) land(copy);
    if (Races* races = block.races) races->end(copy.target, copy.bytes, true, thread.id);
    block.unfenced.note(copy.target, copy.bytes, thread.id, copy.site);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace PK_BUILD
