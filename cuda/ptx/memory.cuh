// Global and shared memory. Kernels touch neither except through these functions, so that the emulator sees every access.
#pragma once

#include <new>
#include <type_traits>
#include <utility>

#include "site.cuh"
#include "types.cuh"

namespace PK_BUILD {

#if !PK_EMULATED
// The integer that an instruction moves: with it, a struct of small members is one access and not one for each.
template <int BYTES>
struct Word;
template <>
struct Word<1> { using type = uint8_t; };
template <>
struct Word<2> { using type = uint16_t; };
template <>
struct Word<4> { using type = uint32_t; };
template <>
struct Word<8> { using type = uint2; };
template <>
struct Word<16> { using type = uint4; };

template <class T>
PK_DEVICE T load_word(const T* address) {
  const auto word = *reinterpret_cast<const typename Word<sizeof(T)>::type*>(address);
  T value;
  memcpy(&value, &word, sizeof value);
  return value;
}

template <class T>
PK_DEVICE void store_word(T* address, T value) {
  typename Word<sizeof(T)>::type word;
  memcpy(&word, &value, sizeof value);
  *reinterpret_cast<typename Word<sizeof(T)>::type*>(address) = word;
}
#endif

#define PK_REQUIRE_MOVABLE(T)                                                                                                                         \
  static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0, "an access moves 1, 2, 4, 8 or 16 bytes")

// ---- global memory ------------------------------------------------------------------------------------------------------------------------------------------

// ld.global of 1, 2, 4, 8 or 16 bytes, aligned to its size.
template <class T>
PK_DEVICE T load_global(const T* address PK_COMMA_SITE) {
  PK_REQUIRE_MOVABLE(T);
#if PK_EMULATED
  Block::current()->access();
  Block::current()->check_global(address, sizeof(T), Right::read, pk_site);
  T value;
  memcpy(&value, address, sizeof value);
  return value;
#else
  __builtin_assume(__isGlobal(address));
  return load_word(address);
#endif
}

// st.global
template <class T>
PK_DEVICE void store_global(T* address, std::common_type_t<T> value PK_COMMA_SITE) {
  PK_REQUIRE_MOVABLE(T);
#if PK_EMULATED
  Block::current()->access();
  Block::current()->check_global(address, sizeof(T), Right::write, pk_site);
  memcpy(address, &value, sizeof value);
#else
  __builtin_assume(__isGlobal(address));
  store_word(address, value);
#endif
}

// atom.global.max.u64: returns what was there.
PK_DEVICE uint64_t atomic_max_global(uint64_t* address, uint64_t value PK_COMMA_SITE) {
#if PK_EMULATED
  Block::current()->access();
  Block::current()->check_global(address, sizeof value, Right::read_write, pk_site);
  uint64_t before = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (before < value && !__atomic_compare_exchange_n(address, &before, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  return before;
#else
  return atomicMax(reinterpret_cast<unsigned long long*>(address), static_cast<unsigned long long>(value));
#endif
}

// ---- shared memory ------------------------------------------------------------------------------------------------------------------------------------------

// A kernel's shared memory is one struct of these.
template <class T, int COUNT, int ALIGNMENT = 16>
class SharedArray {
 public:
  static constexpr int count = COUNT;

  PK_DEVICE T load(uint32_t index PK_COMMA_SITE) const { return load_vector<1>(index PK_COMMA_FROM).values[0]; }
  PK_DEVICE void store(uint32_t index, T value PK_COMMA_SITE) { store_vector<1>(index, {{value}} PK_COMMA_FROM); }

  // WIDTH neighbouring elements from `index`, a multiple of it, in one access.
  template <int WIDTH>
  PK_DEVICE Vector<T, WIDTH> load_vector(uint32_t index PK_COMMA_SITE) const {
    PK_REQUIRE_MOVABLE(T);
#if PK_EMULATED
    check(index, WIDTH, false, pk_site);
    Vector<T, WIDTH> value;
    memcpy(&value, values_ + index, sizeof value);
    return value;
#else
    return load_word(reinterpret_cast<const Vector<T, WIDTH>*>(values_ + index));
#endif
  }

  template <int WIDTH>
  PK_DEVICE void store_vector(uint32_t index, Vector<T, WIDTH> value PK_COMMA_SITE) {
    PK_REQUIRE_MOVABLE(T);
#if PK_EMULATED
    check(index, WIDTH, true, pk_site);
    memcpy(values_ + index, &value, sizeof value);
#else
    store_word(reinterpret_cast<Vector<T, WIDTH>*>(values_ + index), value);
#endif
  }

  // Where an element is, for the instructions that take an address of shared memory.
  PK_DEVICE uint32_t address(uint32_t index = 0) const {
#if PK_EMULATED
    return shared_address(values_) + index * static_cast<uint32_t>(sizeof(T));
#else
    return static_cast<uint32_t>(__cvta_generic_to_shared(values_ + index));
#endif
  }

#if PK_EMULATED
  SharedArray() { note_shared_array(values_, sizeof(T), COUNT, ALIGNMENT, guard_); }

  // Neighbouring elements, for instructions that say themselves when they touch them.
  const T* at(uint32_t index, uint32_t width, Site site) const {
    Block::current()->access();
    if (index >= COUNT || width > COUNT - index || index % width != 0) shared_index_fault(index, width, COUNT, site);
    return values_ + index;
  }
  T* at(uint32_t index, uint32_t width, Site site) { return const_cast<T*>(std::as_const(*this).at(index, width, site)); }
#endif

 private:
  alignas(ALIGNMENT) T values_[COUNT];
#if PK_EMULATED
  void check(uint32_t index, uint32_t width, bool write, Site site) const {
    Block::current()->touch_shared(at(index, width, site), width * static_cast<uint32_t>(sizeof(T)), write, site);
  }
  alignas(16) unsigned char guard_[shared_guard_bytes];
#endif
};

#undef PK_REQUIRE_MOVABLE

// The bytes of shared memory that a launch of a kernel with this struct asks for: those of the arrays, in every build.
template <class Struct>
size_t shared_bytes() {
#if PK_EMULATED
  static const size_t bytes = [] {
    SharedLayout layout;
    auto* arrays = ::operator new(sizeof(Struct), std::align_val_t(alignof(Struct)));
    note_shared_arrays_in(&layout);
    new (arrays) Struct;
    unpoison(arrays, sizeof(Struct));
    ::operator delete(arrays, std::align_val_t(alignof(Struct)));
    return (layout.device_bytes + layout.device_alignment - 1) / layout.device_alignment * layout.device_alignment;
  }();
  return bytes;
#else
  return sizeof(Struct);
#endif
}

#if PK_EMULATED
template <class Struct>
Struct& shared_struct(Site site) {
  static const char key = 0;
  return *static_cast<Struct*>(shared_struct(&key, sizeof(Struct), [](void* memory) { new (memory) Struct; }, site));
}
#endif

}  // namespace PK_BUILD

// Names the shared memory of the block: `name` is a reference to a Struct of SharedArrays. Once in a kernel.
#if PK_EMULATED
#define PK_SHARED(Struct, name) auto& name = ::PK_BUILD::shared_struct<Struct>(::PK_BUILD::Site::here())
#else
#define PK_SHARED(Struct, name)                                        \
  extern __shared__ __align__(1024) unsigned char pk_shared_memory[]; \
  auto& name = *reinterpret_cast<Struct*>(pk_shared_memory)
#endif
