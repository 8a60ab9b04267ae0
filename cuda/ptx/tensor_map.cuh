// Tensor maps: what the host tells the copy unit about a tensor in global memory.
#pragma once

#include <type_traits>

#include "../core/status.h"
#include "tensor_box.cuh"
#include "types.cuh"

#if PK_EMULATED
#include "../emulator/bulk_copy.h"
#else
#include <cuda.h>
#include <cuda_runtime.h>
#endif

// A kernel takes a tensor map as `PK_GRID_CONSTANT const TensorMap map`, and hands on its address.
#if PK_EMULATED
#define PK_GRID_CONSTANT
#else
#define PK_GRID_CONSTANT __grid_constant__
#endif

namespace PK_BUILD {

#if !PK_EMULATED
using TensorMap = CUtensorMap;
#endif

// cuTensorMapEncodeTiled. T: uint8_t, f16, bf16 or float. `what` is for the text of a failure.
template <class T>
int32_t make_tensor_map(const char* what, const TensorBox& box, TensorMap* map) {
  static_assert(std::is_same<T, uint8_t>::value || std::is_same<T, f16>::value || std::is_same<T, bf16>::value || std::is_same<T, float>::value, "no such type of elements");
#if PK_EMULATED
  return map->encode(what, box, sizeof(T));
#else
  // Found when it is needed, so that nothing links the driver.
  static void* const function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? found : nullptr;
  }();
  if (function == nullptr) return fail(PK_ERROR_CUDA, "%s: this driver has no cuTensorMapEncodeTiled", what);
  constexpr CUtensorMapDataType type = std::is_same<T, uint8_t>::value ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                       : std::is_same<T, f16>::value   ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                       : std::is_same<T, bf16>::value  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                       : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  constexpr CUtensorMapSwizzle swizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  const CUresult error = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      map, type, box.axes, const_cast<void*>(box.data), reinterpret_cast<const cuuint64_t*>(box.extents), reinterpret_cast<const cuuint64_t*>(box.stride_bytes), box.box, element_strides,
      CU_TENSOR_MAP_INTERLEAVE_NONE, swizzles[static_cast<uint32_t>(box.swizzle)], CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return error == CUDA_SUCCESS ? PK_OK : fail(PK_ERROR_CUDA, "%s: cuTensorMapEncodeTiled refused the tensor map (error %d)", what, static_cast<int>(error));
#endif
}

}  // namespace PK_BUILD
