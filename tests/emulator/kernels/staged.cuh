// What a kernel of these tests works on: in the emulator the caller's own memory, on a GPU copies of it, which go back when the kernel is through.
#pragma once

#include <type_traits>
#include <vector>

#include "ptx/launch.cuh"

// A kernel's entry is there once for each build.
#if PK_EMULATED
#define CONFORMANCE(name) emulator_test_##name
#else
#define CONFORMANCE(name) device_test_##name
#endif

namespace PK_BUILD {

#if PK_EMULATED

class Staged : public Operands {
 public:
  explicit Staged(const pk_queue&) {}

  // What the kernel is to be given in the place of `data`.
  template <class T>
  T* read_bytes(const char* name, T* data, uint64_t bytes) {
    Operands::read_bytes(name, data, bytes);
    return data;
  }
  template <class T>
  T* write_bytes(const char* name, T* data, uint64_t bytes) {
    Operands::write_bytes(name, data, bytes);
    return data;
  }
  template <class T>
  T* read_write_bytes(const char* name, T* data, uint64_t bytes) {
    Operands::read_write_bytes(name, data, bytes);
    return data;
  }

  int32_t status() const { return PK_OK; }
  int32_t finish(const char*) { return PK_OK; }
};

#else

class Staged : public Operands {
 public:
  explicit Staged(const pk_queue& queue) : device_(queue.device), status_(device_.status()) {}
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  ~Staged() {
    for (const Copy& copy : copies_) cudaFree(copy.device);
  }

  template <class T>
  T* read_bytes(const char* name, T* data, uint64_t bytes) {
    return stage(name, data, bytes, false);
  }
  // What a kernel leaves alone must come back as it was.
  template <class T>
  T* write_bytes(const char* name, T* data, uint64_t bytes) {
    return stage(name, data, bytes, true);
  }
  template <class T>
  T* read_write_bytes(const char* name, T* data, uint64_t bytes) {
    return stage(name, data, bytes, true);
  }

  int32_t status() const { return status_; }

  // Waits for the kernel, and takes back what it wrote.
  int32_t finish(const char* kernel) {
    PK_TRY(check_cuda(kernel, cudaDeviceSynchronize()));
    for (const Copy& copy : copies_) {
      if (copy.comes_back) PK_TRY(check_cuda(kernel, cudaMemcpy(copy.host, copy.device, copy.bytes, cudaMemcpyDeviceToHost)));
    }
    return PK_OK;
  }

 private:
  struct Copy {
    void *host, *device;
    uint64_t bytes;
    bool comes_back;
  };

  template <class T>
  T* stage(const char* name, T* data, uint64_t bytes, bool comes_back) {
    void* device = nullptr;
    if (status_ == PK_OK) status_ = check_cuda(name, cudaMalloc(&device, bytes > 0 ? bytes : 1));
    if (status_ != PK_OK) return data;
    auto* host = const_cast<std::remove_const_t<T>*>(data);
    copies_.push_back({host, device, bytes, comes_back});
    status_ = check_cuda(name, cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    return static_cast<T*>(device);
  }

  CurrentDevice device_;
  int32_t status_;
  std::vector<Copy> copies_;
};

#endif

template <class... P, class... A>
int32_t launch_staged(const pk_queue& queue, const LaunchShape& shape, Staged& operands, void (*kernel)(P...), const A&... arguments) {
  PK_TRY(operands.status());
  PK_TRY(launch(queue, shape, operands, kernel, arguments...));
  return operands.finish(shape.kernel);
}

}  // namespace PK_BUILD
