// What the C interface asks of a queue, for CUDA devices.
#include <mutex>
#include <vector>

#include "../core/operations.h"
#include "../core/status.h"
#include "../ptx/launch.cuh"

using namespace PK_BUILD;

namespace {

int32_t ask_chip(int device, pk_chip* chip) {
  int major = 0, minor = 0, multiprocessors = 0, shared_bytes = 0;
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } attributes[] = {{&major, cudaDevAttrComputeCapabilityMajor},
                    {&minor, cudaDevAttrComputeCapabilityMinor},
                    {&multiprocessors, cudaDevAttrMultiProcessorCount},
                    {&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin}};
  for (const auto& attribute : attributes) PK_TRY(check_cuda("pk_queue_chip", cudaDeviceGetAttribute(attribute.value, attribute.attribute, device)));
  *chip = {sizeof(pk_chip), 10 * major + minor, multiprocessors, shared_bytes};
  return PK_OK;
}

cudaStream_t stream_of(const pk_queue& queue) { return reinterpret_cast<cudaStream_t>(static_cast<uintptr_t>(queue.stream)); }

}  // namespace

extern "C" {

int32_t pk_device_device_count(int32_t* count) {
  int found = 0;
  PK_TRY(check_cuda("pk_device_count", cudaGetDeviceCount(&found)));
  *count = found;
  return PK_OK;
}

// Every operation picks its kernel by it: each device is asked once.
int32_t pk_device_queue_chip(const pk_queue* queue, pk_chip* chip) {
  static std::mutex mutex;
  static std::vector<pk_chip> known;
  std::lock_guard<std::mutex> lock(mutex);
  if (known.empty()) {
    int32_t count = 0;
    PK_TRY(pk_device_device_count(&count));
    known.resize(static_cast<size_t>(count));
  }
  if (queue->device < 0 || static_cast<size_t>(queue->device) >= known.size()) return fail(PK_ERROR_NO_DEVICE, "device %d of %zu", queue->device, known.size());
  pk_chip& found = known[static_cast<size_t>(queue->device)];
  if (found.size == 0) PK_TRY(ask_chip(queue->device, &found));
  const uint64_t size = chip->size;
  *chip = found;
  chip->size = size;
  return PK_OK;
}

int32_t pk_device_prepare(const pk_queue* queue) {
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY(pk_device_queue_chip(queue, &chip));
  const CurrentDevice device(queue->device);
  PK_TRY(device.status());
  PK_TRY(pk_device_haar_prepare());
  return pk_device_lora_prepare();
}

int32_t pk_device_status_read(const pk_queue* queue, const pk_status_record* status, pk_status_record* host) {
  const CurrentDevice device(queue->device);
  PK_TRY(device.status());
  PK_TRY(check_cuda("pk_status_read", cudaMemcpyAsync(host, status, sizeof *host, cudaMemcpyDeviceToHost, stream_of(*queue))));
  return check_cuda("pk_status_read", cudaStreamSynchronize(stream_of(*queue)));
}

}  // extern "C"
