#include "fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

#if PK_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(PK_EMULATOR_UCONTEXT)
// void peft_kernels_emulator_switch(void** save, void* continue_at): pushes what a called function must preserve, leaves the stack pointer in *save and takes the other stack.
extern "C" void peft_kernels_emulator_switch(void** save, void* continue_at);
asm(R"(
.text
.globl peft_kernels_emulator_switch
.hidden peft_kernels_emulator_switch
.type peft_kernels_emulator_switch,@function
peft_kernels_emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size peft_kernels_emulator_switch,.-peft_kernels_emulator_switch
)");
#endif

namespace PK_BUILD {

namespace {

constexpr size_t page_bytes = 65536;  // at least the page of every system we run on
constexpr size_t usable_bytes = PK_EMULATOR_ASAN ? 256 * 1024 : 64 * 1024;

// Each guard page splits a mapping, and Linux allows 65530 mappings per process: past this number, stacks have none.
constexpr int most_guards = 8192;
std::atomic<int> guards{0};

}  // namespace

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
  unpoison(mapping_ + page_bytes, usable_bytes);
  munmap(mapping_, page_bytes + usable_bytes);
}

void Fiber::prepare(void (*entry)()) {
  if (mapping_ == nullptr) {
    void* memory = mmap(nullptr, page_bytes + usable_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mapping_ = static_cast<char*>(memory);
    if (guards.fetch_add(1) < most_guards) mprotect(mapping_, page_bytes, PROT_NONE);
    stack_bottom_ = mapping_ + page_bytes;
    stack_bytes_ = usable_bytes;
  }
  // Frames that never returned left red zones: those of `entry`, or of everything.
  constexpr size_t entry_bytes = 4096;
  if (dropped_) unpoison(stack_bottom_, stack_bytes_);
  else unpoison(mapping_ + page_bytes + usable_bytes - entry_bytes, entry_bytes);
  dropped_ = true;  // until it says that it has finished
  fake_stack_ = nullptr;
#if defined(PK_EMULATOR_UCONTEXT)
  getcontext(&context_);
  context_.uc_stack.ss_sp = mapping_ + page_bytes;
  context_.uc_stack.ss_size = usable_bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#else
  // From the lowest: six registers, the address to return to, which is the entry's, and for the entry one to which it never returns: that leaves the alignment that a called
  // function expects.
  void** frame = reinterpret_cast<void**>(mapping_ + page_bytes + usable_bytes) - 8;
  std::fill(frame, frame + 8, nullptr);
  frame[6] = reinterpret_cast<void*>(entry);
  stack_pointer_ = frame;
#endif
}

void Fiber::switch_to(Fiber& from, Fiber& to, bool from_is_finished) {
  if (from_is_finished) from.dropped_ = false;
#if PK_EMULATOR_ASAN
  __sanitizer_start_switch_fiber(from_is_finished ? nullptr : &from.fake_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
#if defined(PK_EMULATOR_UCONTEXT)
  swapcontext(&from.context_, &to.context_);
#else
  peft_kernels_emulator_switch(&from.stack_pointer_, to.stack_pointer_);
#endif
#if PK_EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::entered(Fiber& caller) {
#if PK_EMULATOR_ASAN
  // The first fiber of a block comes from the OS thread's stack, and here alone can its bounds be learnt.
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (caller.stack_bottom_ == nullptr) {
    caller.stack_bottom_ = bottom;
    caller.stack_bytes_ = bytes;
  }
#else
  (void)caller;
#endif
}

#if PK_EMULATOR_ASAN
void poison(const void* begin, size_t bytes) { __asan_poison_memory_region(begin, bytes); }
void unpoison(const void* begin, size_t bytes) { __asan_unpoison_memory_region(begin, bytes); }
#else
void poison(const void*, size_t) {}
void unpoison(const void*, size_t) {}
#endif

}  // namespace PK_BUILD
