// What the C interface asks of a queue, for CUDA devices.
#include "../core/operations.h"
#include "../core/status.h"
#include "../ptx/launch.cuh"

using namespace PK_BUILD;

namespace {

cudaStream_t stream_of(const pk_queue& queue) { return reinterpret_cast<cudaStream_t>(static_cast<uintptr_t>(queue.stream)); }

}  // namespace

extern "C" {

int32_t pk_device_device_count(int32_t* count) {
  int found = 0;
  PK_TRY(check_cuda("pk_device_count", cudaGetDeviceCount(&found)));
  *count = found;
  return PK_OK;
}

int32_t pk_device_queue_chip(const pk_queue* queue, pk_chip* chip) {
  int32_t count = 0;
  PK_TRY(pk_device_device_count(&count));
  if (queue->device < 0 || queue->device >= count) return fail(PK_ERROR_NO_DEVICE, "device %d of %d", queue->device, count);
  int major = 0, minor = 0, multiprocessors = 0, shared_bytes = 0;
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } attributes[] = {{&major, cudaDevAttrComputeCapabilityMajor},
                    {&minor, cudaDevAttrComputeCapabilityMinor},
                    {&multiprocessors, cudaDevAttrMultiProcessorCount},
                    {&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin}};
  for (const auto& attribute : attributes) PK_TRY(check_cuda("pk_queue_chip", cudaDeviceGetAttribute(attribute.value, attribute.attribute, queue->device)));
  chip->compute_capability = 10 * major + minor;
  chip->multiprocessors = multiprocessors;
  chip->shared_memory_per_block = shared_bytes;
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
