#include "matrices.h"

#include <cmath>
#include <cstring>

#include "../ptx/types.cuh"
#include "block.h"

namespace PK_BUILD {

namespace {

constexpr uint32_t lanes = 32;

struct Move {
  uint32_t* fragments;
  uint16_t* row;
  uint32_t count;
  bool transposed;
  Site site;
};

template <class Record>
void require_whole_warp(void* const* records) {
  uint32_t present = 0, missing = 0;
  for (uint32_t lane = 0; lane < lanes; ++lane) (records[lane] != nullptr ? present : missing) = lane;
  if (records[missing] == nullptr) Block::current()->fault(static_cast<const Record*>(records[present])->site, "an instruction of a whole warp, of which lane %u has exited or never was", missing);
}

// Calls move(element of a row in shared memory, its place in a fragment) for all elements of all matrices.
template <class F>
void each_element(void* const* records, F move) {
  require_whole_warp<Move>(records);
  const auto of = [&](uint32_t lane) -> const Move& { return *static_cast<const Move*>(records[lane]); };
  const uint32_t count = of(0).count;
  const bool transposed = of(0).transposed;
  for (uint32_t matrix = 0; matrix < count; ++matrix) {
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      auto* pair = reinterpret_cast<char*>(of(lane).fragments + matrix);
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t row = lane / 4, column = lane % 4 * 2 + i;
        move(of(matrix * 8 + (transposed ? column : row)).row + (transposed ? row : column), pair + 2 * i);
      }
    }
  }
}

// Which of the two it is takes part in the meeting: the function differs.
void load_all(void* const* records) {
  each_element(records, [](const uint16_t* element, char* place) { std::memcpy(place, element, 2); });
}

void store_all(void* const* records) {
  each_element(records, [](uint16_t* element, const char* place) { std::memcpy(element, place, 2); });
}

// ---- products --------------------------------------------------------------------------------------------------------------------------------------------------

typedef float Row __attribute__((vector_size(32)));  // of 8 columns

struct Product {
  void* sums;
  const void *a, *b;
  Site site;
};

void count_product(const char* name) {
  if (BlockCounters* counters = Block::current()->counters()) counters->count(Counted::matrix_instructions, name);
}

template <class T>
float element(uint32_t bits) {
  return to_float(T{static_cast<uint16_t>(bits)});
}

// T, TF32 = float: a k of 8 elements of four bytes. Otherwise 16 of two bytes.
template <class T>
void multiply_all(void* const* records) {
  require_whole_warp<Product>(records);
  constexpr uint32_t depth = sizeof(T) == 2 ? 16 : 8;
  count_product(std::is_same<T, bf16>::value ? "mma.m16n8k16.bf16" : std::is_same<T, f16>::value ? "mma.m16n8k16.f16" : "mma.m16n8k8.tf32");
  float a[16][depth];
  alignas(32) float b[depth][8];
  Row sums[16];
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    const auto& record = *static_cast<const Product*>(records[lane]);
    const auto* as = static_cast<const uint32_t*>(record.a);
    const auto* bs = static_cast<const uint32_t*>(record.b);
    const auto* c = static_cast<const float*>(record.sums);
    const uint32_t g = lane / 4, t = lane % 4;
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t row = g + i % 2 * 8;
      if constexpr (sizeof(T) == 2) {
        a[row][2 * t + i / 2 * 8] = element<T>(as[i]);
        a[row][2 * t + i / 2 * 8 + 1] = element<T>(as[i] >> 16);
      } else {
        a[row][t + i / 2 * 4] = float_of_bits(as[i] & ~0x1fffu);
      }
      sums[g + i / 2 * 8][2 * t + i % 2] = c[i];
    }
    for (uint32_t i = 0; i < 2; ++i) {
      if constexpr (sizeof(T) == 2) {
        b[2 * t + 8 * i][g] = element<T>(bs[i]);
        b[2 * t + 8 * i + 1][g] = element<T>(bs[i] >> 16);
      } else {
        b[t + 4 * i][g] = float_of_bits(bs[i] & ~0x1fffu);
      }
    }
  }
  for (uint32_t row = 0; row < 16; ++row) {
    Row sum = sums[row];
    for (uint32_t k = 0; k < depth; ++k) {
      Row column;
      std::memcpy(&column, b[k], sizeof column);
      sum += a[row][k] * column;
    }
    sums[row] = sum;
  }
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    auto* c = static_cast<float*>(static_cast<const Product*>(records[lane])->sums);
    for (uint32_t i = 0; i < 4; ++i) c[i] = sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

void multiply_all_f64(void* const* records) {
  require_whole_warp<Product>(records);
  count_product("mma.m8n8k4.f64");
  const auto of = [&](uint32_t row, uint32_t column) -> const Product& { return *static_cast<const Product*>(records[row * 4 + column]); };
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    auto* c = static_cast<double*>(static_cast<const Product*>(records[lane])->sums);
    for (uint32_t i = 0; i < 2; ++i) {
      for (uint32_t k = 0; k < 4; ++k) c[i] = std::fma(*static_cast<const double*>(of(lane / 4, k).a), *static_cast<const double*>(of(lane % 4 * 2 + i, k).b), c[i]);
    }
  }
}

}  // namespace

void load_matrices(uint32_t* fragments, uint32_t count, const void* row, bool transposed, Site site) {
  Move record{fragments, static_cast<uint16_t*>(const_cast<void*>(row)), count, transposed, site};
  Block::current()->collective(all_lanes, "load_matrices", load_all, &record, site);
}

void store_matrices(void* row, const uint32_t* fragments, uint32_t count, bool transposed, Site site) {
  Move record{const_cast<uint32_t*>(fragments), static_cast<uint16_t*>(row), count, transposed, site};
  Block::current()->collective(all_lanes, "store_matrices", store_all, &record, site);
}

void multiply_matrices(MatrixKind kind, void* sums, const void* a, const void* b, Site site) {
  Product record{sums, a, b, site};
  const CollectiveFunction function = kind == MatrixKind::f16 ? multiply_all<f16> : kind == MatrixKind::bf16 ? multiply_all<bf16> : kind == MatrixKind::tf32 ? multiply_all<float> : multiply_all_f64;
  Block::current()->collective(all_lanes, "mma", function, &record, site);
}

}  // namespace PK_BUILD
