// What kernels are written in: one function per instruction, with its body on a device and in the emulator side by side.
#pragma once

#include "copy_async.cuh"
#include "flag.cuh"
#include "math.cuh"
#include "matrix_fragments.cuh"
#include "memory.cuh"
#include "mma.cuh"
#include "reduce.cuh"
#include "thread.cuh"
#include "types.cuh"
