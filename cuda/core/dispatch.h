// From element types by value to template arguments.
#pragma once

#include "../include/peft_kernels.h"
#include "../ptx/ptx.cuh"

namespace PK_BUILD {

template <class T>
struct Type {
  using type = T;
};

// Calls run(Type<T>) for activations of type T.
template <class Run>
int32_t dispatch_type(int32_t element_type, Run run) {
  switch (element_type) {
    case PK_F16: return run(Type<f16>());
    case PK_BF16: return run(Type<bf16>());
    default: return run(Type<float>());
  }
}

// Calls run(Type<T>, Type<P>) for activations of type T and adapters of type P. The C interface has checked that the combination exists.
template <class Run>
int32_t dispatch_types(int32_t element_type, int32_t adapter_element_type, Run run) {
  const bool mixed = element_type != PK_F32 && adapter_element_type == PK_F32;
  switch (element_type) {
    case PK_F16: return mixed ? run(Type<f16>(), Type<float>()) : run(Type<f16>(), Type<f16>());
    case PK_BF16: return mixed ? run(Type<bf16>(), Type<float>()) : run(Type<bf16>(), Type<bf16>());
    default: return run(Type<float>(), Type<float>());
  }
}

}  // namespace PK_BUILD
