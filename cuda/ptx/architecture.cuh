// Instructions that not every architecture has. A kernel that is compiled for all, and launched only where they exist, traps elsewhere.
#pragma once

#include "../core/build.h"

#if !PK_EMULATED
// 9.0 and later: mbarrier, bulk copies, tensor maps.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define PK_ASM_90(...) asm volatile(__VA_ARGS__)
#else
#define PK_ASM_90(...) __trap()
#endif
// 9.0 alone, compiled as sm_90a: wgmma, setmaxnreg.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PK_ASM_90A(...) asm volatile(__VA_ARGS__)
#else
#define PK_ASM_90A(...) __trap()
#endif
#endif
