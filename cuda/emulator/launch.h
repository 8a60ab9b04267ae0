// Runs a grid on the cores of this machine.
#pragma once

#include "../include/peft_kernels.h"
#include "../ptx/shape.cuh"
#include "operands.h"

namespace PK_BUILD {

// Calls body(argument) once per CUDA thread.
int32_t run_grid(const pk_queue& queue, const LaunchShape& shape, const Operands& operands, void (*body)(void*), void* argument);

// What is known of the chip that a queue imitates. False: no such chip.
bool imitated_chip(const pk_queue& queue, pk_chip* chip);

}  // namespace PK_BUILD
