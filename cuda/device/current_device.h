// The device that CUDA calls of this thread go to, and what a refused call leaves behind.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "../core/status.h"

namespace PK_BUILD {

// The status of a call that was made for `what`.
inline int32_t check_cuda(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return PK_OK;
  cudaGetLastError();  // takes this error, which was just returned to us, from what the next caller of the runtime sees
  const bool no_device = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver || error == cudaErrorInvalidDevice;
  const char* hint = "";
  if (error == cudaErrorInsufficientDriver) hint = " (or there is no driver: install NVIDIA's for CUDA 13 or later)";
  if (error == cudaErrorNoKernelImageForDevice) hint = " (build with this chip in PEFT_KERNELS_ARCH)";
  if (error == cudaErrorUnsupportedPtxVersion) hint = " (the driver is older than the compiler: build with machine code for this chip in PEFT_KERNELS_ARCH)";
  return fail(no_device ? PK_ERROR_NO_DEVICE : PK_ERROR_CUDA, "%s: cuda error %d %s: %s%s", what, static_cast<int>(error), cudaGetErrorName(error), cudaGetErrorString(error), hint);
}

// Makes a device's primary context current for as long as this lives, then the context that was current before, be it one of the driver's or none.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    const Driver& driver = Driver::get();
    status_ = check_cuda("driver", driver.error);
    if (status_ != PK_OK) return;
    driver.get_current(&before_);
    status_ = check_cuda("device", cudaSetDevice(device));
    changed_ = true;
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() {
    if (changed_) Driver::get().set_current(before_);
  }
  int32_t status() const { return status_; }

 private:
  // The runtime cannot restore a context that it did not make. The driver is asked for at run time: nothing links it.
  struct Driver {
    CUresult (*get_current)(CUcontext*) = nullptr;
    CUresult (*set_current)(CUcontext) = nullptr;
    cudaError_t error = cudaSuccess;

    Driver() {
      find("cuCtxGetCurrent", reinterpret_cast<void**>(&get_current));
      find("cuCtxSetCurrent", reinterpret_cast<void**>(&set_current));
    }
    void find(const char* name, void** function) {
      cudaDriverEntryPointQueryResult found;
      if (error == cudaSuccess) error = cudaGetDriverEntryPointByVersion(name, function, 12000, cudaEnableDefault, &found);
      if (error == cudaSuccess && found != cudaDriverEntryPointSuccess) error = cudaErrorInsufficientDriver;
    }
    static const Driver& get() {
      static const Driver driver;
      return driver;
    }
  };

  CUcontext before_ = nullptr;
  bool changed_ = false;
  int32_t status_ = PK_OK;
};

}  // namespace PK_BUILD
