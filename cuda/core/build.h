// The build a translation unit belongs to. Device and emulator builds of one source live in one program, so that every C++ entity of ours sits in a namespace named after its build: the
// linker could otherwise merge an inline function of one with that of the other.
#pragma once

#if defined(__CUDACC__)
#define PK_EMULATED 0
#define PK_BUILD peft_kernels_device
#define PK_KERNEL __global__
#define PK_DEVICE __device__ __forceinline__
#define PK_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PK_EMULATED 1
#define PK_BUILD peft_kernels_emulator
#define PK_KERNEL
#define PK_DEVICE inline
#define PK_HOST_DEVICE inline
#endif
