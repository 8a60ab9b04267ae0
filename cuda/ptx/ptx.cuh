// What kernels are written in: one function per instruction, with its body on a device and in the emulator side by side.
#pragma once

#include "math.cuh"
#include "memory.cuh"
#include "thread.cuh"
#include "types.cuh"
