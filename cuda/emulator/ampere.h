// The instructions of 8.0: ldmatrix, stmatrix and mma.sync, which a warp does together with matrices that are spread over its registers, and cp.async.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../ptx/types.cuh"
#include "site.h"

namespace PK_BUILD {

// Matrices between fragments and rows of 16 bytes, which have been checked; null where a lane names none.
struct MatrixMove {
  bool stores, transposed;
  uint32_t count;
  uint32_t* fragments;
  void* row;
};
void move_matrices(const char* name, MatrixMove move, Site site);

enum class MatrixType : uint8_t { bf16, f16, tf32, f64 };
template <class T>
constexpr MatrixType matrix_type() {
  return std::is_same<T, bf16>::value ? MatrixType::bf16 : std::is_same<T, f16>::value ? MatrixType::f16 : MatrixType::tf32;
}
// sums += a * b, with the registers of this lane. A device sums several products at once and truncates: results agree bit for bit only where all sums are exact.
void multiply_matrices(MatrixType type, void* sums, const void* a, const void* b, Site site);

// cp.async: each copy lands when it is issued, or only when it is waited for. The target has been checked; the source is checked here.
void copy_async(void* target, const void* source, uint32_t bytes, uint32_t valid_bytes, Site site);
void wait_for_copies(uint32_t pending_groups);

}  // namespace PK_BUILD
