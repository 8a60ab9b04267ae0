// One kernel per primitive, for comparison with its definition.
#include "ptx/ptx.cuh"
#include "staged.cuh"

namespace PK_BUILD {
namespace {

constexpr uint32_t kThreads = 96;  // three warps

// ---- collectives of a warp ----------------------------------------------------------------------------------------------------------------------------------

enum ExchangeKind { kIndexed, kXor, kUp, kDown };

template <class T>
PK_KERNEL void exchange_values(int32_t kind, const T* values, const uint32_t* arguments, const uint32_t* masks, T* results) {
  const uint32_t thread = thread_index().x, mask = load_global(masks + warp());
  const uint32_t argument = load_global(arguments + thread);
  T value = load_global(values + thread);
  if ((mask >> lane() & 1) != 0) {
    switch (kind) {
      case kIndexed: value = shuffle(value, argument, mask); break;
      case kXor: value = shuffle_xor(value, argument, mask); break;
      case kUp: value = shuffle_up(value, argument, mask); break;
      default: value = shuffle_down(value, argument, mask); break;
    }
  }
  store_global(results + thread, value);
}

template <class T>
int32_t exchange_values_on(const pk_queue& queue, int32_t kind, const void* values, const uint32_t* arguments, const uint32_t* masks, void* results) {
  Staged operands(queue);
  values = operands.read_bytes("values", values, kThreads * sizeof(T));
  arguments = operands.read_bytes("arguments", arguments, kThreads * sizeof(uint32_t));
  masks = operands.read_bytes("masks", masks, kThreads / 32 * sizeof(uint32_t));
  results = operands.write_bytes("results", results, kThreads * sizeof(T));
  return launch_staged(queue, {"exchange_values", {1, 1, 1}, kThreads, 0}, operands, exchange_values<T>, kind, static_cast<const T*>(values), arguments, masks, static_cast<T*>(results));
}

// results: ballot, any, all of each thread, untouched where it takes no part
PK_KERNEL void vote_on_values(const uint32_t* predicates, const uint32_t* masks, uint32_t* results) {
  const uint32_t thread = thread_index().x, mask = load_global(masks + warp());
  const bool predicate = load_global(predicates + thread) != 0;
  if ((mask >> lane() & 1) == 0) return;
  store_global(results + 3 * thread, ballot(predicate, mask));
  store_global(results + 3 * thread + 1, static_cast<uint32_t>(any(predicate, mask)));
  store_global(results + 3 * thread + 2, static_cast<uint32_t>(all(predicate, mask)));
}

// ---- barriers -----------------------------------------------------------------------------------------------------------------------------------------------

struct RotateShared {
  SharedArray<uint32_t, kThreads> values;
};

// Every round, a thread takes the value of the thread `distance` further on: of the block, or of its warp.
template <bool IN_WARP>
PK_KERNEL void rotate_values(const uint32_t* values, uint32_t distance, uint32_t rounds, uint32_t* results) {
  PK_SHARED(RotateShared, shared);
  const uint32_t thread = thread_index().x;
  const uint32_t source = IN_WARP ? warp() * 32 + (lane() + distance) % 32 : (thread + distance) % kThreads;
  uint32_t value = load_global(values + thread);
  for (uint32_t i = 0; i < rounds; ++i) {
    shared.values.store(thread, value);
    if (IN_WARP) warp_barrier();
    else barrier();
    value = shared.values.load(source);
    if (IN_WARP) warp_barrier();
    else barrier();
  }
  store_global(results + thread, value);
}

// ---- element by element -------------------------------------------------------------------------------------------------------------------------------------

PK_DEVICE int64_t first_element() { return static_cast<int64_t>(block_index().x) * block_extent().x + thread_index().x; }
PK_DEVICE int64_t element_step() { return static_cast<int64_t>(grid_extent().x) * block_extent().x; }

template <class To, class From>
PK_KERNEL void convert_values(const From* values, To* results, int64_t count) {
  for (int64_t i = first_element(); i < count; i += element_step()) store_global(results + i, from_float<To>(to_float(load_global(values + i))));
}

// Word i of results from values 2 * i and 2 * i + 1.
template <class To>
PK_KERNEL void convert_pairs(const float* values, uint32_t* results, int64_t words) {
  for (int64_t i = first_element(); i < words; i += element_step()) store_global(results + i, pair_from_floats<To>(load_global(values + 2 * i), load_global(values + 2 * i + 1)));
}

PK_KERNEL void fuse_values(const float* a, const float* b, const float* c, float* results, int64_t count) {
  for (int64_t i = first_element(); i < count; i += element_step()) store_global(results + i, fma(load_global(a + i), load_global(b + i), load_global(c + i)));
}

// Keeps the largest value of each slot; befores: what every thread was told to have been there.
PK_KERNEL void keep_largest(const uint64_t* values, uint64_t* slots, uint32_t slot_count, uint64_t* befores, int64_t count) {
  for (int64_t i = first_element(); i < count; i += element_step()) store_global(befores + i, atomic_max_global(slots + i % slot_count, load_global(values + i)));
}

struct VectorShared {
  SharedArray<f16, 8 * kThreads> values;
};

// Through shared memory in pieces of 16, 8, 4 and 2 bytes, each of which reverses the order of its elements.
template <int WIDTH>
PK_DEVICE void reverse_pieces(VectorShared& shared) {
  const uint32_t first = thread_index().x * 8;
  for (uint32_t i = first; i < first + 8; i += WIDTH) {
    const Vector<f16, WIDTH> piece = shared.values.load_vector<WIDTH>(i);
    Vector<f16, WIDTH> reversed;
    for (int j = 0; j < WIDTH; ++j) reversed.values[j] = piece.values[WIDTH - 1 - j];
    shared.values.store_vector<WIDTH>(i, reversed);
  }
}

PK_KERNEL void reverse_vectors(const Vector<f16, 8>* values, Vector<f16, 8>* results) {
  PK_SHARED(VectorShared, shared);
  const uint32_t thread = thread_index().x;
  shared.values.store_vector<8>(thread * 8, load_global(values + thread));
  reverse_pieces<8>(shared);
  reverse_pieces<4>(shared);
  reverse_pieces<2>(shared);
  reverse_pieces<1>(shared);
  store_global(results + thread, shared.values.load_vector<8>(thread * 8));
}

template <class To, class From>
int32_t convert_values_on(const pk_queue& queue, const void* values, void* results, int64_t count) {
  Staged operands(queue);
  values = operands.read_bytes("values", values, static_cast<uint64_t>(count) * sizeof(From));
  results = operands.write_bytes("results", results, static_cast<uint64_t>(count) * sizeof(To));
  return launch_staged(queue, {"convert_values", {64, 1, 1}, 128, 0}, operands, convert_values<To, From>, static_cast<const From*>(values), static_cast<To*>(results), count);
}

}  // namespace
}  // namespace PK_BUILD

using namespace PK_BUILD;

extern "C" {

int32_t CONFORMANCE(exchange)(const pk_queue* queue, int32_t kind, uint64_t value_bytes, const void* values, const uint32_t* arguments, const uint32_t* masks, void* results) {
  if (value_bytes == 4) return exchange_values_on<float>(*queue, kind, values, arguments, masks, results);
  return exchange_values_on<int64_t>(*queue, kind, values, arguments, masks, results);
}

int32_t CONFORMANCE(vote)(const pk_queue* queue, const uint32_t* predicates, const uint32_t* masks, uint32_t* results) {
  Staged operands(*queue);
  predicates = operands.read_bytes("predicates", predicates, kThreads * sizeof(uint32_t));
  masks = operands.read_bytes("masks", masks, kThreads / 32 * sizeof(uint32_t));
  results = operands.write_bytes("results", results, 3 * kThreads * sizeof(uint32_t));
  return launch_staged(*queue, {"vote_on_values", {1, 1, 1}, kThreads, 0}, operands, vote_on_values, predicates, masks, results);
}

int32_t CONFORMANCE(rotate)(const pk_queue* queue, int32_t in_warp, const uint32_t* values, uint32_t distance, uint32_t rounds, uint32_t* results) {
  Staged operands(*queue);
  values = operands.read_bytes("values", values, kThreads * sizeof(uint32_t));
  results = operands.write_bytes("results", results, kThreads * sizeof(uint32_t));
  const LaunchShape shape{"rotate_values", {1, 1, 1}, kThreads, shared_bytes<RotateShared>()};
  return launch_staged(*queue, shape, operands, in_warp != 0 ? rotate_values<true> : rotate_values<false>, values, distance, rounds, results);
}

// The result's type first; the other is float.
int32_t CONFORMANCE(convert)(const pk_queue* queue, int32_t to, int32_t from, const void* values, void* results, int64_t count) {
  if (to == PK_F16) return convert_values_on<f16, float>(*queue, values, results, count);
  if (to == PK_BF16) return convert_values_on<bf16, float>(*queue, values, results, count);
  if (from == PK_F16) return convert_values_on<float, f16>(*queue, values, results, count);
  return convert_values_on<float, bf16>(*queue, values, results, count);
}

int32_t CONFORMANCE(convert_pairs)(const pk_queue* queue, int32_t to, const float* values, void* results, int64_t words) {
  Staged operands(*queue);
  values = operands.read_bytes("values", values, static_cast<uint64_t>(words) * 2 * sizeof(float));
  results = operands.write_bytes("results", results, static_cast<uint64_t>(words) * sizeof(uint32_t));
  return launch_staged(*queue, {"convert_pairs", {64, 1, 1}, 128, 0}, operands, to == PK_F16 ? convert_pairs<f16> : convert_pairs<bf16>, values, static_cast<uint32_t*>(results), words);
}

int32_t CONFORMANCE(fuse)(const pk_queue* queue, const float* a, const float* b, const float* c, float* results, int64_t count) {
  const auto bytes = static_cast<uint64_t>(count) * sizeof(float);
  Staged operands(*queue);
  a = operands.read_bytes("a", a, bytes);
  b = operands.read_bytes("b", b, bytes);
  c = operands.read_bytes("c", c, bytes);
  results = operands.write_bytes("results", results, bytes);
  return launch_staged(*queue, {"fuse_values", {64, 1, 1}, 128, 0}, operands, fuse_values, a, b, c, results, count);
}

int32_t CONFORMANCE(keep_largest)(const pk_queue* queue, const uint64_t* values, uint64_t* slots, uint32_t slot_count, uint64_t* befores, int64_t count) {
  const auto bytes = static_cast<uint64_t>(count) * sizeof(uint64_t);
  Staged operands(*queue);
  values = operands.read_bytes("values", values, bytes);
  befores = operands.write_bytes("befores", befores, bytes);
  slots = operands.read_write_bytes("slots", slots, slot_count * sizeof(uint64_t));
  return launch_staged(*queue, {"keep_largest", {8, 1, 1}, 64, 0}, operands, keep_largest, values, slots, slot_count, befores, count);
}

int32_t CONFORMANCE(reverse)(const pk_queue* queue, const void* values, void* results) {
  Staged operands(*queue);
  values = operands.read_bytes("values", values, kThreads * 16);
  results = operands.write_bytes("results", results, kThreads * 16);
  const LaunchShape shape{"reverse_vectors", {1, 1, 1}, kThreads, shared_bytes<VectorShared>()};
  return launch_staged(*queue, shape, operands, reverse_vectors, static_cast<const Vector<f16, 8>*>(values), static_cast<Vector<f16, 8>*>(results));
}

int32_t CONFORMANCE(shared_bytes)(const pk_queue*, uint64_t* bytes) {
  struct Mixed {
    SharedArray<uint8_t, 3> first;
    SharedArray<float, 5, 128> second;
    SharedArray<f16, 7> third;
  };
  *bytes = shared_bytes<Mixed>();
  return PK_OK;
}

}  // extern "C"
