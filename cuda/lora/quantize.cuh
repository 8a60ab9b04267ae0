// Block-wise quantisation to codes of 2, 3, 4 or 8 bits, and back: elements of a matrix, one row after the other, in blocks of `block`, each with the largest magnitude of its elements.
//
// quantize:    absmax = max |x| of the block, code = codes[number of boundaries below x * (1 / max(absmax, 1e-38))]
// dequantize:  x = values[code] * absmax
// nested:      absmax = absmax_values[absmax_code] * absmax_of(absmax_block) + offset
//
// Codes are a stream of bits, the first element in the highest of the first byte; with 4 bits that is bitsandbytes' layout. An infinity is its block's absmax and gets the first or last code,
// what is finite beside it that of zero. With a NaN absmax is a NaN.
// A warp takes 4 pieces of 32 lanes * 16 bytes of the matrix; blocks longer than that meet in shared memory. The code book is in the registers of the lanes: looking up is a shuffle.
// Loads and stores: n * k elements, n * k * bits / 8 bytes of codes, 4 bytes of absmax a block (nested: 1 byte, and 4 a block of absmax).
// Roundings: the reciprocal and its product, which decide on the code; back, the product with absmax (nested: and that with absmax_of, and the sum), then the one to the matrix' type.
#pragma once

#include "../tile/matrix.cuh"
#include "algorithms.h"

namespace PK_BUILD {

// The elements of a matrix, one row after the other, in blocks.
template <class T>
struct BlockedMatrix {
  Matrix<T> matrix;
  int64_t columns, count;
  int32_t vectors;  // 16 bytes of a row are contiguous and aligned, and none ends within them but the last
  int32_t block_bits;

  PK_DEVICE T* at(int64_t element) const { return columns == count ? matrix.at(0, element) : matrix.at(element / columns, element % columns); }
};

template <int BITS>
struct CodeBook {
  static constexpr int kCodes = 1 << BITS;
  static constexpr int kListed = kCodes < 16 ? 16 : kCodes;  // nvcc copies parameters of fewer bytes to local memory where an index decides
  float values[kListed];
  float boundaries[kListed];  // as a heap: 0 is the middle one, 2i + 1 and 2i + 2 are the middle ones of what is below and above i; the last is not used
  uint64_t codes;            // four bits for each number of boundaries; with 8 bits that number is the code
};

template <class T, int BITS>
struct QuantizeProblem {
  BlockedMatrix<const T> source;
  const float* offset;  // taken off every element first, or null
  uint8_t* codes;
  float* absmax;
  int32_t code_vectors;  // a lane's codes of a piece are aligned
  CodeBook<BITS> book;
};

template <class T, int BITS>
struct DequantizeProblem {
  BlockedMatrix<T> destination;
  const uint8_t* codes;
  const float* absmax;
  const uint8_t* absmax_codes;  // null: absmax is plain
  const float* offset;
  int32_t code_vectors;
  int32_t absmax_block_bits;
  CodeBook<BITS> book;
  float absmax_values[256];
};

template <class T, int BITS>
struct QuantizeConfig {
  static constexpr int kPiece = 16 / sizeof(T), kPieces = 4, kWarps = 8, kThreads = 32 * kWarps;
  static constexpr int kPieceElements = 32 * kPiece, kWarpElements = kPieces * kPieceElements, kElements = kWarps * kWarpElements;
  static constexpr int kBits = kPiece * BITS;                                            // of a piece's codes, in a lane
  static constexpr int kBlockRounds = (kWarpElements / kLoraQuantizeLeastBlock + 31) / 32;  // until 32 lanes have had every block of a warp
  PK_DEVICE static int in_warp(int piece) { return piece * kPieceElements + static_cast<int>(lane()) * kPiece; }  // of a lane's first element
  using Code = CodeBook<BITS>;
  using Bits = std::conditional_t<(kBits > 32), uint64_t, uint32_t>;

  struct Shared {
    SharedArray<T, kElements> elements;
    SharedArray<float, Code::kCodes> book;
    SharedArray<uint32_t, kWarps> largest;
  };
};

// A list of floats in the registers of a warp.
template <int COUNT>
class WarpList {
 public:
  static constexpr int kRegisters = (COUNT + 31) / 32;

  // From shared memory. Register j holds elements 32j - FIRST ... , so that the levels of a heap begin with a register where they have as many elements.
  template <int FIRST, class Shared>
  PK_DEVICE static WarpList of(const Shared& list) {
    WarpList result;
#pragma unroll
    for (int j = 0; j < kRegisters; ++j) {
      const int begin = 32 * j - (j > 0 ? FIRST : 0);
      const int at = minimum(begin + static_cast<int>(lane()), COUNT - 1);
      result.registers_[j] = list.load(static_cast<uint32_t>(at));
    }
    return result;
  }

  // The element in lane index % 32 of register FIRST + index / 32, of COUNTED that come into question.
  template <int FIRST, int COUNTED>
  PK_DEVICE float at(uint32_t index) const {
    float value = shuffle(registers_[FIRST], index % 32);
#pragma unroll
    for (int j = 1; j < COUNTED; ++j) {
      const float other = shuffle(registers_[FIRST + j], index % 32);
      value = index / 32 == static_cast<uint32_t>(j) ? other : value;
    }
    return value;
  }

  PK_DEVICE float at(uint32_t index) const { return at<0, kRegisters>(index); }

 private:
  float registers_[kRegisters];
};

// The number of boundaries below x, by halves. All lanes call it.
template <int BITS, int LEVEL = 0>
PK_DEVICE uint32_t boundaries_below(const WarpList<1 << BITS>& boundaries, float x, uint32_t path = 0) {
  if constexpr (LEVEL == BITS) {
    return path;
  } else {
    float boundary;
    if constexpr (LEVEL < 5) boundary = boundaries.template at<0, 1>((1u << LEVEL) - 1 + path);
    else boundary = boundaries.template at<1 << (LEVEL - 5), 1 << (LEVEL - 5)>(path);
    const uint32_t above = x > boundary ? 1 : 0;
    return boundaries_below<BITS, LEVEL + 1>(boundaries, x, 2 * path + above);
  }
}

// A code book's list, from the kernel's parameters to shared memory. A barrier follows.
template <class Shared>
PK_DEVICE void share_list(Shared& shared, const float* list) {
  const uint32_t thread = thread_index().x;
  if (thread < Shared::count) shared.store(thread, list[thread]);
}

// ---- codes in memory: a lane's of a piece, the first element's in the highest bits ---------------------------------------------------------------------------

// Bytes of the codes of so many elements.
template <int BITS>
PK_DEVICE int64_t code_bytes(int64_t elements) {
  return (elements * BITS + 7) / 8;
}

// Three bits: 48 bits of neighbouring lanes hold any word of their stream. Its words are as many as a lane has bits.
template <class Config>
struct WordOfLanes {
  static constexpr int kLanes = 48 / Config::kBits;
  uint32_t lane, shift;

  PK_DEVICE explicit WordOfLanes(uint32_t word) : lane(word * 32 / Config::kBits), shift(16 - word * 32 % Config::kBits) {}
};

// Stores the highest of `BYTES` bytes first, as many as are left, which may be none.
template <int BYTES, class Bits>
PK_DEVICE void store_bytes(uint8_t* to, Bits bits, bool vectors, int64_t left) {
  Vector<uint8_t, BYTES> bytes;
#pragma unroll
  for (int i = 0; i < BYTES; ++i) bytes.values[i] = static_cast<uint8_t>(bits >> 8 * (BYTES - 1 - i));
  if (vectors && left >= BYTES) {
    store_global(reinterpret_cast<Vector<uint8_t, BYTES>*>(to), bytes);
    return;
  }
#pragma unroll
  for (int i = 0; i < BYTES; ++i) {
    if (i < left) store_global(to + i, bytes.values[i]);
  }
}

template <int BYTES, class Bits>
PK_DEVICE Bits load_bytes(const uint8_t* from, bool vectors, int64_t left) {
  Vector<uint8_t, BYTES> bytes{};
  if (vectors && left >= BYTES) {
    bytes = load_global(reinterpret_cast<const Vector<uint8_t, BYTES>*>(from));
  } else {
#pragma unroll
    for (int i = 0; i < BYTES; ++i) {
      if (i < left) bytes.values[i] = load_global(from + i);
    }
  }
  Bits bits = 0;
#pragma unroll
  for (int i = 0; i < BYTES; ++i) bits = bits << 8 | bytes.values[i];
  return bits;
}

// The codes of a piece of all lanes, whose first element is `first` of `count`. All lanes call it.
template <class Config, int BITS>
PK_DEVICE void store_codes(uint8_t* codes, typename Config::Bits bits, bool vectors, int64_t first, int64_t count) {
  const int64_t all = code_bytes<BITS>(count), begin = first / 8 * BITS;
  if constexpr (Config::kBits % 8 == 0 && BITS != 3) {
    const int64_t at = begin + int64_t{lane()} * (Config::kBits / 8);
    store_bytes<Config::kBits / 8>(codes + at, bits, vectors, all - at);
  } else {
    const WordOfLanes<Config> word(lane());
    uint64_t together = 0;
#pragma unroll
    for (int i = 0; i < WordOfLanes<Config>::kLanes; ++i) together = together << Config::kBits | shuffle(bits, (word.lane + static_cast<uint32_t>(i)) % 32);
    const int64_t at = begin + int64_t{lane()} * 4;
    if (lane() < Config::kBits) store_bytes<4>(codes + at, static_cast<uint32_t>(together >> word.shift), vectors, all - at);
  }
}

template <class Config, int BITS>
PK_DEVICE typename Config::Bits load_codes(const uint8_t* codes, bool vectors, int64_t first, int64_t count) {
  using Bits = typename Config::Bits;
  const int64_t all = code_bytes<BITS>(count), begin = first / 8 * BITS;
  if constexpr (Config::kBits % 8 == 0 && BITS != 3) {
    const int64_t at = begin + int64_t{lane()} * (Config::kBits / 8);
    return load_bytes<Config::kBits / 8, Bits>(codes + at, vectors, all - at);
  } else {
    const int64_t at = begin + int64_t{lane()} * 4;
    const bool has_word = lane() < Config::kBits;
    const uint32_t own = has_word ? load_bytes<4, uint32_t>(codes + at, vectors, all - at) : 0;
    const uint32_t bit = lane() * Config::kBits;
    const uint64_t together = uint64_t{shuffle(own, bit / 32)} << 32 | shuffle(own, (bit / 32 + 1) % 32);
    return static_cast<Bits>(together >> (64 - Config::kBits - bit % 32)) & ((Bits{1} << Config::kBits) - 1);
  }
}

// ---- kernels -------------------------------------------------------------------------------------------------------------------------------------------------

template <class T, int BITS>
PK_KERNEL void PK_LAUNCH_BOUNDS((QuantizeConfig<T, BITS>::kThreads)) lora_quantize(QuantizeProblem<T, BITS> problem) {
  using Config = QuantizeConfig<T, BITS>;
  using Shared = typename Config::Shared;
  constexpr int P = Config::kPiece, N = Config::kPieces;
  PK_SHARED(Shared, shared);
  const BlockedMatrix<const T>& source = problem.source;
  const int64_t first = int64_t{block_index().x} * Config::kElements + int64_t{warp()} * Config::kWarpElements;
  share_list(shared.book, problem.book.boundaries);

  Vector<T, P> pieces[N];
  if (source.vectors != 0 && source.count - first >= Config::kWarpElements) {
#pragma unroll
    for (int i = 0; i < N; ++i) pieces[i] = load_global(reinterpret_cast<const Vector<T, P>*>(source.at(first + Config::in_warp(i))));
  } else {
    // One by one, neighbouring lanes neighbouring elements.
    const uint32_t begin = warp() * Config::kWarpElements;
#pragma unroll 1
    for (uint32_t i = lane(); i < Config::kWarpElements; i += 32) shared.elements.store(begin + i, first + i < source.count ? load_global(source.at(first + i)) : T{});
    warp_barrier();
#pragma unroll
    for (int i = 0; i < N; ++i) pieces[i] = shared.elements.template load_vector<P>(begin + static_cast<uint32_t>(Config::in_warp(i)));
  }
  const float offset = problem.offset != nullptr ? load_global(problem.offset) : 0.0f;
  const auto value = [&](int i, int c) {
    const float x = to_float(pieces[i].values[c]);
    const int64_t element = first + Config::in_warp(i) + c;
    const bool exists = element < source.count;
    return problem.offset != nullptr && exists ? x - offset : x;
  };

  // Magnitudes are in the order of their bits, NaNs beyond all.
  uint32_t largest[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    largest[i] = 0;
#pragma unroll
    for (int c = 0; c < P; ++c) largest[i] = maximum(largest[i], bits_of_float(value(i, c)) & 0x7fffffffu);
  }
  const int block_bits = source.block_bits, block = 1 << block_bits;
#pragma unroll 1
  for (int step = 1; step < 32 && step * P < block; step *= 2) {
#pragma unroll
    for (int i = 0; i < N; ++i) largest[i] = maximum(largest[i], shuffle_xor(largest[i], static_cast<uint32_t>(step)));
  }
#pragma unroll
  for (int step = 1; step < N; step *= 2) {
    if (step * Config::kPieceElements >= block) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if ((i & step) == 0) largest[i] = largest[i + step] = maximum(largest[i], largest[i + step]);
    }
  }
  const bool shared_block = block > Config::kWarpElements;
  if (shared_block && lane() == 0) shared.largest.store(warp(), largest[0]);
  barrier();
  if (shared_block) {
    const uint32_t warps = static_cast<uint32_t>(block / Config::kWarpElements), begin = warp() / warps * warps;
    for (uint32_t i = 0; i < warps; ++i) largest[0] = maximum(largest[0], shared.largest.load(begin + i));
#pragma unroll
    for (int i = 1; i < N; ++i) largest[i] = largest[0];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) largest[i] = largest[i] > 0x7f800000u ? 0x7fffffffu : largest[i];

  const auto boundaries = WarpList<Config::Code::kCodes>::template of<1>(shared.book);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float absmax = float_of_bits(largest[i]), inverse = 1.0f / maximum(absmax, 1e-38f);
    typename Config::Bits bits = 0;
#pragma unroll
    for (int c = 0; c < P; ++c) {
      const float x = value(i, c);
      const bool infinite = (bits_of_float(x) & 0x7fffffffu) == 0x7f800000u;
      const float scaled = infinite ? (x > 0.0f ? 1.0f : -1.0f) : x * inverse;
      uint32_t code = boundaries_below<BITS>(boundaries, scaled);
      if constexpr (BITS <= 4) code = static_cast<uint32_t>(problem.book.codes >> 4 * code) & 15u;
      bits = static_cast<typename Config::Bits>(bits << BITS | code);
    }
    store_codes<Config, BITS>(problem.codes, bits, problem.code_vectors != 0, first + i * Config::kPieceElements, source.count);
  }

  // Neighbouring lanes write neighbouring blocks.
#pragma unroll
  for (int round = 0; round < Config::kBlockRounds; ++round) {
    const int begin = (static_cast<int>(lane()) + 32 * round) << block_bits;  // of a block, after `first`
    uint32_t absmax = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const uint32_t other = shuffle(largest[i], static_cast<uint32_t>(begin / P % 32));
      absmax = begin / Config::kPieceElements == i ? other : absmax;
    }
    const int64_t element = first + begin;
    if (begin < Config::kWarpElements && element < source.count && element % block == 0) store_global(problem.absmax + (element >> block_bits), float_of_bits(absmax));
  }
}

template <class T, int BITS>
PK_KERNEL void PK_LAUNCH_BOUNDS((QuantizeConfig<T, BITS>::kThreads)) lora_dequantize(DequantizeProblem<T, BITS> problem) {
  using Config = QuantizeConfig<T, BITS>;
  using Shared = typename Config::Shared;
  constexpr int P = Config::kPiece, N = Config::kPieces;
  PK_SHARED(Shared, shared);
  const BlockedMatrix<T>& destination = problem.destination;
  const int64_t first = int64_t{block_index().x} * Config::kElements + int64_t{warp()} * Config::kWarpElements;
  share_list(shared.book, problem.book.values);

  typename Config::Bits bits[N];
#pragma unroll
  for (int i = 0; i < N; ++i) bits[i] = load_codes<Config, BITS>(problem.codes, problem.code_vectors != 0, first + i * Config::kPieceElements, destination.count);

  // A lane has the scale of a block, and of one 32 further on.
  float scales[Config::kBlockRounds];
#pragma unroll
  for (int round = 0; round < Config::kBlockRounds; ++round) {
    const int begin = (static_cast<int>(lane()) + 32 * round) << destination.block_bits;
    scales[round] = 0.0f;
    if (begin >= Config::kWarpElements || first + begin >= destination.count) continue;
    const int64_t block = (first + begin) >> destination.block_bits;
    if (problem.absmax_codes == nullptr) {
      scales[round] = load_global(problem.absmax + block);
    } else {
      const float product = problem.absmax_values[load_global(problem.absmax_codes + block)] * load_global(problem.absmax + (block >> problem.absmax_block_bits));
      scales[round] = product + load_global(problem.offset);
    }
  }
  barrier();

  const auto values = WarpList<Config::Code::kCodes>::template of<0>(shared.book);
  const bool whole = destination.vectors != 0 && destination.count - first >= Config::kWarpElements;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int block = Config::in_warp(i) >> destination.block_bits;
    float scale = shuffle(scales[0], static_cast<uint32_t>(block % 32));
#pragma unroll
    for (int round = 1; round < Config::kBlockRounds; ++round) {
      const float other = shuffle(scales[round], static_cast<uint32_t>(block % 32));
      scale = block / 32 == round ? other : scale;
    }
    Vector<T, P> piece;
#pragma unroll
    for (int c = 0; c < P; ++c) {
      const auto code = static_cast<uint32_t>(bits[i] >> BITS * (P - 1 - c)) & (Config::Code::kCodes - 1);
      piece.values[c] = from_float<T>(values.at(code) * scale);
    }
    if (whole) {
      store_global(reinterpret_cast<Vector<T, P>*>(destination.at(first + Config::in_warp(i))), piece);
    } else {
      shared.elements.template store_vector<P>(warp() * Config::kWarpElements + static_cast<uint32_t>(Config::in_warp(i)), piece);
    }
  }
  if (whole) return;
  // One by one, neighbouring lanes neighbouring elements.
  warp_barrier();
#pragma unroll 1
  for (uint32_t i = lane(); i < Config::kWarpElements && first + i < destination.count; i += 32) {
    store_global(destination.at(first + i), shared.elements.load(warp() * Config::kWarpElements + i));
  }
}

// ---- the mean of absmax, which nested quantisation takes off ------------------------------------------------------------------------------------------------

// Sums in f64 of `chunk` numbers each, a block to one, in an order that depends on nothing else: 256 threads add every 256th, then halves are added. With `mean`, the one sum divided by `of`.
struct AbsmaxSum {
  static constexpr int kThreads = 256;

  struct Shared {
    SharedArray<double, kThreads> sums;
  };
};

template <class S>
PK_KERNEL void PK_LAUNCH_BOUNDS(AbsmaxSum::kThreads) lora_absmax_sum(const S* numbers, int64_t count, int64_t chunk, double* sums, float* mean, double of) {
  PK_SHARED(AbsmaxSum::Shared, shared);
  const int64_t begin = int64_t{block_index().x} * chunk, end = minimum(begin + chunk, count);
  const uint32_t thread = thread_index().x;
  double sum = 0.0;
  for (int64_t i = begin + thread; i < end; i += AbsmaxSum::kThreads) sum += static_cast<double>(load_global(numbers + i));
  shared.sums.store(thread, sum);
  for (uint32_t half = AbsmaxSum::kThreads / 2; half > 0; half /= 2) {
    barrier();
    if (thread < half) shared.sums.store(thread, sum += shared.sums.load(thread + half));
  }
  if (thread != 0) return;
  if (mean != nullptr) store_global(mean, static_cast<float>(sum / of));
  else store_global(sums + block_index().x, sum);
}

}  // namespace PK_BUILD
