// How host code starts a kernel, on a CUDA stream or in the emulator.
#pragma once

#include <tuple>
#include <utility>

#include "../core/status.h"
#include "shape.cuh"

#if PK_EMULATED
#include "../emulator/launch.h"
#else
#include <algorithm>
#include <mutex>
#include <vector>

#include "../device/current_device.h"
#endif

namespace PK_BUILD {

#if PK_EMULATED

template <class... P, class... A>
int32_t launch(const pk_queue& queue, const LaunchShape& shape, const Operands& operands, void (*kernel)(P...), const A&... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
  } call{kernel, std::tuple<P...>(arguments...)};
  const auto body = [](void* pointer) {
    const Call& of = *static_cast<const Call*>(pointer);
    std::apply(of.kernel, of.arguments);
  };
  return run_grid(queue, shape, operands, body, &call);
}

#else

// What a launch may touch: for the emulator, which checks it. Here it costs nothing.
class Operands {
 public:
  void read(const char*, const pk_matrix&, int64_t) {}
  void write(const char*, const pk_matrix&, int64_t) {}
  void read_write(const char*, const pk_matrix&, int64_t) {}
  void read_bytes(const char*, const void*, uint64_t) {}
  void write_bytes(const char*, const void*, uint64_t) {}
  void read_write_bytes(const char*, const void*, uint64_t) {}
  template <class T>
  const T* visible(const T*) const {
    return nullptr;
  }
};

// More than 48 KiB of shared memory must be asked for, once per kernel and device.
inline int32_t allow_shared_bytes(const char* name, const void* kernel, int device, size_t bytes) {
  if (bytes <= 48 * 1024) return PK_OK;
  struct Allowed {
    const void* kernel;
    int device;
    size_t bytes;
  };
  static std::mutex mutex;
  static std::vector<Allowed> allowed;
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = std::find_if(allowed.begin(), allowed.end(), [&](const Allowed& entry) { return entry.kernel == kernel && entry.device == device; });
  if (found != allowed.end() && found->bytes >= bytes) return PK_OK;
  PK_TRY(check_cuda(name, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes))));
  if (found != allowed.end()) found->bytes = bytes;
  else allowed.push_back({kernel, device, bytes});
  return PK_OK;
}

template <class... P, size_t... I, class... A>
int32_t launch_with(std::index_sequence<I...>, const pk_queue& queue, const LaunchShape& shape, void (*kernel)(P...), const A&... arguments) {
  const CurrentDevice device(queue.device);
  PK_TRY(device.status());
  const void* function = reinterpret_cast<const void*>(kernel);
  PK_TRY(allow_shared_bytes(shape.kernel, function, queue.device, shape.shared_bytes));
  std::tuple<P...> values(arguments...);
  void* pointers[] = {&std::get<I>(values)..., nullptr};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
  config.blockDim = dim3(shape.block_threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  // PK_STREAM_LEGACY and PK_STREAM_PER_THREAD are the values of cudaStreamLegacy and cudaStreamPerThread.
  config.stream = reinterpret_cast<cudaStream_t>(static_cast<uintptr_t>(queue.stream));
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  config.attrs = &cooperative;
  config.numAttrs = shape.blocks_wait == BlocksWait::for_all ? 1 : 0;
  return check_cuda(shape.kernel, cudaLaunchKernelExC(&config, function, pointers));
}

template <class... P, class... A>
int32_t launch(const pk_queue& queue, const LaunchShape& shape, const Operands&, void (*kernel)(P...), const A&... arguments) {
  return launch_with(std::index_sequence_for<P...>(), queue, shape, kernel, arguments...);
}

#endif

// Loads a kernel on the current device, so that its first launch loads nothing.
template <class... P>
int32_t prepare(void (*kernel)(P...)) {
#if PK_EMULATED
  static_cast<void>(kernel);
  return PK_OK;
#else
  cudaFuncAttributes attributes;
  return check_cuda("pk_prepare", cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)));
#endif
}

}  // namespace PK_BUILD
