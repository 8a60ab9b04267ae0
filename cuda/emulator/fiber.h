// A fiber: a stack of its own and the point at which it was left. One fiber runs one CUDA thread.
#pragma once

#include <cstddef>

#include "../core/build.h"

// Define PK_EMULATOR_UCONTEXT to use the portable switch where there is a faster one.
#if !defined(PK_EMULATOR_UCONTEXT) && !(defined(__ELF__) && defined(__x86_64__))
#define PK_EMULATOR_UCONTEXT
#endif
#if defined(PK_EMULATOR_UCONTEXT)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define PK_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PK_EMULATOR_ASAN 1
#endif
#endif
#if !defined(PK_EMULATOR_ASAN)
#define PK_EMULATOR_ASAN 0
#endif

namespace PK_BUILD {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // Makes the next switch to this fiber call `entry`, which must not return. Whatever the fiber was doing is dropped. Throws where there is no memory for its stack.
  void prepare(void (*entry)());

  // Leaves the running fiber `from` and continues in `to`. A default-constructed fiber stands for the stack that the OS thread came with.
  static void switch_to(Fiber& from, Fiber& to, bool from_is_finished);

  // The first thing `entry` does; `caller` is the fiber of the OS thread's own stack.
  static void entered(Fiber& caller);

 private:
#if defined(PK_EMULATOR_UCONTEXT)
  ucontext_t context_;
#else
  void* stack_pointer_ = nullptr;
#endif
  char* mapping_ = nullptr;
  bool dropped_ = false;  // left in the middle: frames on the stack still have red zones
  // For AddressSanitizer: what it must be told at a switch.
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

// Red zones: they do nothing unless built with AddressSanitizer.
void poison(const void* begin, size_t bytes);
void unpoison(const void* begin, size_t bytes);

}  // namespace PK_BUILD
