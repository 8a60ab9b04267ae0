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
PreparedLaunch prepared(const LaunchShape& shape, const Operands& operands, void (*kernel)(P...), const A&... arguments) {
  return {shape, operands, [kernel, values = std::tuple<P...>(arguments...)] { std::apply(kernel, values); }};
}

template <class... L>
int32_t launch_overlapping(const pk_queue& queue, const L&... launches) {
  return run_grids(queue, {launches...});
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

// A kernel with its arguments.
template <class... P>
struct PreparedLaunch {
  LaunchShape shape;
  void (*kernel)(P...);
  std::tuple<P...> arguments;
  static constexpr auto indices() { return std::index_sequence_for<P...>(); }
};

template <class... P, class... A>
PreparedLaunch<P...> prepared(const LaunchShape& shape, const Operands&, void (*kernel)(P...), const A&... arguments) {
  return {shape, kernel, std::tuple<P...>(arguments...)};
}

template <class... P, size_t... I>
int32_t launch_with(std::index_sequence<I...>, const pk_queue& queue, bool overlaps, PreparedLaunch<P...> prepared) {
  const LaunchShape& shape = prepared.shape;
  const CurrentDevice device(queue.device);
  PK_TRY(device.status());
  const void* function = reinterpret_cast<const void*>(prepared.kernel);
  PK_TRY(allow_shared_bytes(shape.kernel, function, queue.device, shape.shared_bytes));
  void* pointers[] = {&std::get<I>(prepared.arguments)..., nullptr};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
  config.blockDim = dim3(shape.block_threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  // PK_STREAM_LEGACY and PK_STREAM_PER_THREAD are the values of cudaStreamLegacy and cudaStreamPerThread.
  config.stream = reinterpret_cast<cudaStream_t>(static_cast<uintptr_t>(queue.stream));
  cudaLaunchAttribute attributes[3] = {};
  config.attrs = attributes;
  if (shape.blocks_wait == BlocksWait::for_all) {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  if (shape.cluster.x * shape.cluster.y * shape.cluster.z > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {shape.cluster.x, shape.cluster.y, shape.cluster.z};
  }
  if (overlaps) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  return check_cuda(shape.kernel, cudaLaunchKernelExC(&config, function, pointers));
}

template <class... L>
int32_t launch_overlapping(const pk_queue& queue, const L&... launches) {
  int32_t status = PK_OK;
  bool overlaps = false;
  const auto start = [&](const auto& prepared) {
    if (status == PK_OK) status = launch_with(prepared.indices(), queue, std::exchange(overlaps, true), prepared);
  };
  (start(launches), ...);
  return status;
}

#endif

// launch_overlapping(queue, prepared(...), prepared(...), ...): each launch but the first may start when the one before lets it, and waits for it where its kernel says so (overlap.cuh).
template <class... P, class... A>
int32_t launch(const pk_queue& queue, const LaunchShape& shape, const Operands& operands, void (*kernel)(P...), const A&... arguments) {
  return launch_overlapping(queue, prepared(shape, operands, kernel, arguments...));
}

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
