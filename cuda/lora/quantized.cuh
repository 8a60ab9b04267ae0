// W of a product as codes of a few bits in blocks that share a scale: 16 bytes of it at a time, made where they are read, each element as lora_dequantize makes it.
//
// Loads, for 16 bytes of W: their codes, aligned or byte by byte, and the absmax of their block, or of two where one ends among them, of which all but the first come from L1. Codes and absmax
// are in registers a stage before they are needed. The code books are in shared memory: 16 values lie in as many banks.
// Roundings: those of lora_dequantize.
#pragma once

#include "../tile/product.cuh"
#include "quantize.cuh"

namespace PK_BUILD {

// [rows, columns], one row after the other.
struct QuantizedMatrix {
  const uint8_t* codes;
  const float* absmax;
  const uint8_t* absmax_codes;  // null: absmax is plain
  const float* offset;
  int64_t columns;
  int32_t block_bits, absmax_block_bits;
};

// What the codes of all matrices of a launch stand for.
struct QuantizedBooks {
  int32_t bits;
  float values[256], absmax_values[256];

  struct Shared {
    SharedArray<float, 256> values, absmax_values;
  };
};

// A barrier follows.
PK_DEVICE void share_books(QuantizedBooks::Shared& shared, const QuantizedBooks& books) {
  for (uint32_t i = thread_index().x; i < 1u << books.bits; i += block_extent().x) shared.values.store(i, books.values[i]);
  for (uint32_t i = thread_index().x; i < 256; i += block_extent().x) shared.absmax_values.store(i, books.absmax_values[i]);
}

// Neighbouring elements of a row as they are in memory, `count` of at most COUNT.
template <int COUNT>
struct QuantizedChunk {
  uint64_t codes;  // the first element's in the highest bits
  float absmax[2];  // of the first element's block, and of the next one
  uint32_t absmax_codes[2];
  int32_t count, in_first;  // elements of the first block, of which fewer may be here
};

// Of a matrix whose books are in shared memory.
class QuantizedReader {
 public:
  PK_DEVICE QuantizedReader(const QuantizedMatrix& matrix, const QuantizedBooks::Shared& books, int32_t bits)
      : matrix_(matrix), books_(books), bits_(bits), offset_(matrix.absmax_codes != nullptr ? load_global(matrix.offset) : 0.0f) {}

  PK_DEVICE int64_t columns() const { return matrix_.columns; }

  template <int COUNT>
  PK_DEVICE QuantizedChunk<COUNT> load(int64_t element, int count) const {
    static_assert(COUNT <= 8 && COUNT <= kLoraQuantizeLeastBlock, "at most 64 bits, and two blocks");
    QuantizedChunk<COUNT> chunk{};
    if (count <= 0) return chunk;
    const uint64_t bit = static_cast<uint64_t>(element) * static_cast<uint64_t>(bits_);
    const int shift = static_cast<int>(bit % 8);
    const uint8_t* from = matrix_.codes + bit / 8;
    bool vector = false;
    if constexpr (COUNT >= 4) {
      const uintptr_t address = reinterpret_cast<uintptr_t>(from);
      vector = count == COUNT && shift == 0 && ((bits_ == 4 && address % (COUNT / 2) == 0) || (bits_ == 8 && address % COUNT == 0));
      if (vector && bits_ == 4) chunk.codes = uint64_t{load_bytes<COUNT / 2, uint32_t>(from, true, COUNT / 2)} << (64 - 4 * COUNT);
      else if (vector) chunk.codes = load_bytes<COUNT, uint64_t>(from, true, COUNT) << (64 - 8 * COUNT);
    }
    if (!vector) chunk.codes = load_bytes<8, uint64_t>(from, false, (shift + count * bits_ + 7) / 8) << shift;
    const int64_t block = element >> matrix_.block_bits;
    chunk.count = count;
    chunk.in_first = static_cast<int32_t>(((block + 1) << matrix_.block_bits) - element);
    load_absmax(block, &chunk.absmax[0], &chunk.absmax_codes[0]);
    if (chunk.in_first < count) load_absmax(block + 1, &chunk.absmax[1], &chunk.absmax_codes[1]);
    return chunk;
  }

  // As elements of T; zeros beyond their count.
  template <class T, int COUNT>
  PK_DEVICE Vector<T, COUNT> decode(const QuantizedChunk<COUNT>& chunk) const {
    switch (bits_) {
      case 2: return decode_bits<T, 2>(chunk);
      case 3: return decode_bits<T, 3>(chunk);
      case 4: return decode_bits<T, 4>(chunk);
      default: return decode_bits<T, 8>(chunk);
    }
  }

 private:
  PK_DEVICE void load_absmax(int64_t block, float* absmax, uint32_t* code) const {
    const bool nested = matrix_.absmax_codes != nullptr;
    if (nested) *code = load_global(matrix_.absmax_codes + block);
    *absmax = load_global(matrix_.absmax + (nested ? block >> matrix_.absmax_block_bits : block));
  }

  PK_DEVICE float scale(float absmax, uint32_t code) const {
    if (matrix_.absmax_codes == nullptr) return absmax;
    const float product = books_.absmax_values.load(code) * absmax;
    return product + offset_;
  }

  template <class T, int BITS, int COUNT>
  PK_DEVICE Vector<T, COUNT> decode_bits(const QuantizedChunk<COUNT>& chunk) const {
    const float first = scale(chunk.absmax[0], chunk.absmax_codes[0]), second = scale(chunk.absmax[1], chunk.absmax_codes[1]);
    Vector<T, COUNT> elements;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const auto code = static_cast<uint32_t>(chunk.codes >> (64 - BITS * (i + 1))) & ((1u << BITS) - 1);
      const float value = books_.values.load(code) * (i < chunk.in_first ? first : second);
      elements.values[i] = from_float<T>(i < chunk.count ? value : 0.0f);
    }
    return elements;
  }

  const QuantizedMatrix matrix_;
  const QuantizedBooks::Shared& books_;
  const int32_t bits_;
  const float offset_;
};

// Stage after stage of a quantised matrix to tiles of rows that follow each other in depth, the next stage's codes on their way. After a barrier that follows share_books.
template <class Layout, int TILES, int THREADS, class T>
class QuantizedStream {
 public:
  PK_DEVICE QuantizedStream(const QuantizedReader& reader, int64_t rows, int64_t row0, int64_t depth_begin, int64_t depth_end) : reader_(reader) {
    const int thread = static_cast<int>(thread_index().x), line = thread / Layout::kChunks;
    chunk_ = thread % Layout::kChunks;
    tile_ = tile_of_line<TILES>(line);
    row_ = row_of_line<TILES>(line);
    rows_ = nearest_int(rows - row0 - row_);
    const int64_t depth = depth_begin + tile_ * Layout::kDepth + chunk_ * Layout::kChunk;
    left_ = depth_end - depth;
    element_ = (row0 + row_) * reader.columns() + depth;
    fetch();
  }

  // The next stage; zeros beyond the depth and beyond the rows.
  PK_DEVICE void copy(OperandTile<Layout::kRows> (&tiles)[TILES]) {
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      tiles[tile_].template store_vector<4>(Layout::at(row_ + i * kPassRows, chunk_), words_of(reader_.template decode<T>(chunks_[i])));
    }
    left_ -= TILES * Layout::kDepth;
    element_ += TILES * Layout::kDepth;
    fetch();
  }

 private:
  static_assert(!Layout::kTransposed, "tiles of rows");
  static constexpr int kAll = TILES * Layout::kRows * Layout::kChunks, kPasses = kAll / THREADS;
  static constexpr int kPassRows = THREADS / Layout::kChunks / TILES;  // that all threads copy at once
  static_assert(kAll % THREADS == 0 && THREADS % (Layout::kChunks * TILES) == 0 && kPassRows % 2 == 0, "a thread keeps its chunk, and its place of two lines");

  PK_DEVICE void fetch() {
    const int count = minimum(nearest_int(left_), Layout::kChunk);
#pragma unroll
    for (int i = 0; i < kPasses; ++i) chunks_[i] = reader_.template load<Layout::kChunk>(element_ + i * kPassRows * reader_.columns(), i * kPassRows < rows_ ? count : 0);
  }

  const QuantizedReader& reader_;
  int64_t element_, left_;  // of the first chunk that is on its way: its first element, and the depth from there on
  int chunk_, tile_, row_, rows_;
  QuantizedChunk<Layout::kChunk> chunks_[kPasses];
};

// sums += left * right^T of a quantised right operand of so many rows. Every thread of the block calls it, after a barrier that follows share_books.
template <class Config, class T>
PK_DEVICE void accumulate_quantized(typename Config::Sums& sums, typename Config::Shared& shared, const ProductOperand<T>& left, const QuantizedReader& right, int64_t right_rows, int64_t row0,
                                    int64_t column0, int64_t depth_begin, int64_t depth_end) {
  using Left = typename Config::template Left<false>;
  using Right = typename Config::template Right<false>;
  QuantizedStream<Right, Config::kDepthWarps, Config::kThreads, T> right_stream(right, right_rows, column0, depth_begin, depth_end);
  if (left.vectors && !left.transposed()) {
    OperandStream<Left, Config::kDepthWarps, Config::kThreads, T> left_stream(left, row0, depth_begin);
    accumulate_stages<Config, Left, Right>(sums, shared, depth_end - depth_begin, [&](int stage, int64_t depth) {
      left_stream.copy(shared.left[stage], depth);
      right_stream.copy(shared.right[stage]);
    });
    return;
  }
  // Of few rows, whatever their order.
  accumulate_stages<Config, Left, Right>(sums, shared, depth_end - depth_begin, [&](int stage, int64_t depth) {
    gather_operand<Left, Config::kDepthWarps, Config::kThreads, T>(left, row0, depth_end - depth, depth_end, [&](int tile, int row, int chunk, const auto& values) {
      shared.left[stage][tile].template store_vector<4>(Left::at(row, chunk), words_of(values));
    });
    right_stream.copy(shared.right[stage]);
  });
}

// A part of a quantised matrix: rows from row0 on, columns from column0 on.
struct QuantizedSlab {
  int64_t row0, rows, column0, columns, pitch;
};

struct DequantizeSlabConfig {
  static constexpr int kThreads = 256, kPieces = 4;  // of 16 bytes, a thread, whose loads wait together

  struct Shared {
    QuantizedBooks::Shared books;
  };
};

// slab = a part of W, its rows `pitch` apart, with zeros between them. Loads: its codes and absmax. Stores: rows * pitch elements.
template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(DequantizeSlabConfig::kThreads) lora_dequantize_slab(QuantizedMatrix matrix, QuantizedBooks books, QuantizedSlab slab, T* to) {
  using Config = DequantizeSlabConfig;
  constexpr int kPiece = 16 / sizeof(T);
  PK_SHARED(Config::Shared, shared);
  share_books(shared.books, books);
  barrier();
  const QuantizedReader reader(matrix, shared.books, books.bits);
  const int64_t in_row = slab.pitch / kPiece, all = slab.rows * in_row, threads = static_cast<int64_t>(grid_extent().x) * Config::kThreads;
  int64_t at = static_cast<int64_t>(block_index().x) * Config::kThreads + thread_index().x, row = at / in_row, piece = at - row * in_row;
  const int64_t rows_on = threads / in_row, pieces_on = threads - rows_on * in_row;
#pragma unroll 1
  while (at < all) {
    QuantizedChunk<kPiece> chunks[Config::kPieces];
#pragma unroll
    for (int i = 0; i < Config::kPieces; ++i) {
      const int64_t column = piece * kPiece, element = (slab.row0 + row) * matrix.columns + slab.column0 + column;
      chunks[i] = reader.load<kPiece>(element, row < slab.rows ? nearest_int(minimum<int64_t>(slab.columns - column, kPiece)) : 0);
      row += rows_on, piece += pieces_on;
      if (piece >= in_row) piece -= in_row, ++row;
    }
#pragma unroll
    for (int i = 0; i < Config::kPieces; ++i, at += threads) {
      if (at < all) store_global(reinterpret_cast<Vector<T, kPiece>*>(to) + at, reader.decode<T>(chunks[i]));
    }
  }
}

}  // namespace PK_BUILD
