// Which device there is to run the kernels of these tests on.
#include "staged.cuh"

extern "C" int32_t CONFORMANCE(compute_capability)(const pk_queue* queue, int32_t* capability) {
#if PK_EMULATED
  *capability = queue->device == 0 ? 90 : queue->device;
  return PK_OK;
#else
  int count = 0, major = 0, minor = 0;
  PK_TRY(PK_BUILD::check_cuda("devices", cudaGetDeviceCount(&count)));
  if (queue->device >= count) return PK_BUILD::fail(PK_ERROR_NO_DEVICE, "device %d of %d", queue->device, count);
  PK_TRY(PK_BUILD::check_cuda("device", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, queue->device)));
  PK_TRY(PK_BUILD::check_cuda("device", cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, queue->device)));
  *capability = 10 * major + minor;
  return PK_OK;
#endif
}
