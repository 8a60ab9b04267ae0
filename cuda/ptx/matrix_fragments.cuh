// Matrices of 8 x 8 elements of two bytes between shared memory and the registers of a warp: lane i holds, of each, elements 2 * (i % 4) and the next of row i / 4.
#pragma once

#include "architecture.cuh"
#include "memory.cuh"
#include "thread.cuh"
#if PK_EMULATED
#include "../emulator/ampere.h"
#endif

namespace PK_BUILD {

// ldmatrix of 1, 2 or 4 matrices by a whole warp. Lane i names row i % 8 of matrix i / 8: 16 bytes from array[index] on, a multiple of them. With TRANSPOSED, fragments are those of the
// transposed matrices. Lanes past 8 * COUNT name rows that are not read.
template <bool TRANSPOSED = false, int COUNT, class T, int N, int ALIGNMENT>
PK_DEVICE void load_matrices(uint32_t (&fragments)[COUNT], const SharedArray<T, N, ALIGNMENT>& array, uint32_t index PK_COMMA_SITE) {
  static_assert((COUNT == 1 || COUNT == 2 || COUNT == 4) && ALIGNMENT % 16 == 0, "one, two or four matrices");
#if PK_EMULATED
  const T* row = lane() < 8 * COUNT ? array.at(index, 16 / sizeof(T), pk_site) : nullptr;
  if (row != nullptr) Block::current()->touch_shared(row, 16, false, pk_site);
  move_matrices("load_matrices", {false, TRANSPOSED, COUNT, fragments, const_cast<T*>(row)}, pk_site);
#else
#define PK_LDMATRIX(count, outputs, ...)                                                                                                       \
  if constexpr (TRANSPOSED) asm volatile("ldmatrix.sync.aligned.m8n8." count ".trans.shared.b16 " outputs ";" : __VA_ARGS__ : "r"(array.address(index)) : "memory"); \
  else asm volatile("ldmatrix.sync.aligned.m8n8." count ".shared.b16 " outputs ";" : __VA_ARGS__ : "r"(array.address(index)) : "memory")
  if constexpr (COUNT == 1) {
    PK_LDMATRIX("x1", "{%0}, [%1]", "=r"(fragments[0]));
  } else if constexpr (COUNT == 2) {
    PK_LDMATRIX("x2", "{%0, %1}, [%2]", "=r"(fragments[0]), "=r"(fragments[1]));
  } else {
    PK_LDMATRIX("x4", "{%0, %1, %2, %3}, [%4]", "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3]));
  }
#undef PK_LDMATRIX
#endif
}

// stmatrix, on chips from 9.0 on: the opposite.
template <bool TRANSPOSED = false, int COUNT, class T, int N, int ALIGNMENT>
PK_DEVICE void store_matrices(SharedArray<T, N, ALIGNMENT>& array, uint32_t index, const uint32_t (&fragments)[COUNT] PK_COMMA_SITE) {
  static_assert((COUNT == 1 || COUNT == 2 || COUNT == 4) && ALIGNMENT % 16 == 0, "one, two or four matrices");
#if PK_EMULATED
  void* row = lane() < 8 * COUNT ? array.at(index, 16 / sizeof(T), pk_site) : nullptr;
  if (row != nullptr) Block::current()->touch_shared(row, 16, true, pk_site);
  move_matrices("store_matrices", {true, TRANSPOSED, COUNT, const_cast<uint32_t*>(fragments), row}, pk_site);
#else
#define PK_STMATRIX(count, inputs, ...)                                                                                                          \
  if constexpr (TRANSPOSED) PK_ASM_90("stmatrix.sync.aligned.m8n8." count ".trans.shared.b16 [%0], " inputs ";" ::"r"(array.address(index)), __VA_ARGS__ : "memory"); \
  else PK_ASM_90("stmatrix.sync.aligned.m8n8." count ".shared.b16 [%0], " inputs ";" ::"r"(array.address(index)), __VA_ARGS__ : "memory")
  if constexpr (COUNT == 1) {
    PK_STMATRIX("x1", "{%1}", "r"(fragments[0]));
  } else if constexpr (COUNT == 2) {
    PK_STMATRIX("x2", "{%1, %2}", "r"(fragments[0]), "r"(fragments[1]));
  } else {
    PK_STMATRIX("x4", "{%1, %2, %3, %4}", "r"(fragments[0]), "r"(fragments[1]), "r"(fragments[2]), "r"(fragments[3]));
  }
#undef PK_STMATRIX
#endif
}

}  // namespace PK_BUILD
