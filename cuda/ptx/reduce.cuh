// Lanes of a warp that combine or compare what all of them have.
#pragma once

#include "thread.cuh"

namespace PK_BUILD {

#if PK_EMULATED
// result(lane) gets every value of the mask: combine(own value, number of another lane, its value, result so far).
template <class T, class R, class F>
R gather(const char* name, T value, R first, uint32_t mask, Site site, F combine) {
  struct Record {
    T in;
    R out;
    F combine;
  } record{value, first, combine};
  Block::current()->collective(
      mask, name,
      [](void* const* records) {
        for (uint32_t lane = 0; lane < 32; ++lane) {
          auto* self = static_cast<Record*>(records[lane]);
          for (uint32_t i = 0; self != nullptr && i < 32; ++i) {
            if (records[i] != nullptr) self->out = self->combine(self->in, i, static_cast<const Record*>(records[i])->in, self->out);
          }
        }
      },
      &record, site);
  return record.out;
}
#endif

#define PK_REQUIRE_REDUCIBLE(T) static_assert(std::is_same<T, uint32_t>::value || std::is_same<T, int32_t>::value, "a reduction combines integers of 4 bytes")

// redux.sync.add: the sum over the lanes of the mask, modulo 2^32.
template <class T>
PK_DEVICE T reduce_add(T value, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_REDUCIBLE(T);
#if PK_EMULATED
  return static_cast<T>(gather("reduce_add", static_cast<uint32_t>(value), 0u, mask, pk_site, [](uint32_t, uint32_t, uint32_t other, uint32_t sum) { return sum + other; }));
#else
  return __reduce_add_sync(mask, value);
#endif
}

// redux.sync.max
template <class T>
PK_DEVICE T reduce_max(T value, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_REDUCIBLE(T);
#if PK_EMULATED
  return gather("reduce_max", value, value, mask, pk_site, [](T, uint32_t, T other, T largest) { return other > largest ? other : largest; });
#else
  return __reduce_max_sync(mask, value);
#endif
}

// redux.sync.min
template <class T>
PK_DEVICE T reduce_min(T value, uint32_t mask = all_lanes PK_COMMA_SITE) {
  PK_REQUIRE_REDUCIBLE(T);
#if PK_EMULATED
  return gather("reduce_min", value, value, mask, pk_site, [](T, uint32_t, T other, T smallest) { return other < smallest ? other : smallest; });
#else
  return __reduce_min_sync(mask, value);
#endif
}

#undef PK_REQUIRE_REDUCIBLE

// match.any.sync: the lanes of the mask that have the same value, compared as bits.
template <class T>
PK_DEVICE uint32_t match_any(T value, uint32_t mask = all_lanes PK_COMMA_SITE) {
  static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "an integer of 4 or 8 bytes");
#if PK_EMULATED
  return gather("match_any", value, 0u, mask, pk_site, [](T own, uint32_t lane, T other, uint32_t same) { return own == other ? same | 1u << lane : same; });
#else
  return __match_any_sync(mask, value);
#endif
}

}  // namespace PK_BUILD
