// A tile of an operand of a product, in shared memory: what is multiplied with tensor cores.
//
// An operand has rows and a summed extent, its depth. Its tile has lines of memory's contiguous extent: 64 bytes of depth a row, or ("transposed") all rows a step of depth. Lines are cut
// into chunks of 16 bytes, which trade places so that the 8 chunks of a matrix fragment, and those that a warp copies, lie in different banks.
#pragma once

#include "matrix.cuh"

namespace PK_BUILD {

template <class T, int ROWS, bool TRANSPOSED>
struct OperandLayout {
  static constexpr bool kTransposed = TRANSPOSED;
  static constexpr int kRows = ROWS;
  static constexpr int kDepth = 64 / sizeof(T);  // elements of a tile along the summed extent
  static constexpr int kChunk = 16 / sizeof(T);  // elements that one copy moves
  static constexpr int kLines = TRANSPOSED ? kDepth : ROWS;
  static constexpr int kChunks = TRANSPOSED ? ROWS / kChunk : kDepth / kChunk;  // of a line
  static_assert(ROWS % 16 == 0 && (kChunks & (kChunks - 1)) == 0, "lines are powers of two");

  // The first word of a chunk.
  PK_DEVICE static uint32_t at(int line, int chunk) { return static_cast<uint32_t>(4 * (line * kChunks + (chunk ^ swizzle(line)))); }

  // One element, of four bytes, of a transposed tile.
  PK_DEVICE static uint32_t element(int depth, int row) { return at(depth, row / 4) + static_cast<uint32_t>(row % 4); }

 private:
  static constexpr int kBankChunks = kChunks < 8 ? kChunks : 8;  // of a line, in the 128 bytes of all banks

  // Different for the 8 lines that a fragment takes chunks from, two by two, and for 8 neighbours, which are written at once where memory is contiguous the other way. Transposed elements of
  // four bytes are read one by one, two chunks of each of four lines at a time.
  PK_DEVICE static int swizzle(int line) { return line * kBankChunks / 8 * (TRANSPOSED && sizeof(T) == 4 ? 2 : 1) % kBankChunks; }
};

// Tiles that follow each other in depth, filled line by line along rows through all of them: where a line is. Two lines at a time, so that 8 threads write all banks of one tile.
template <int TILES>
PK_DEVICE int tile_of_line(int line) {
  return TILES == 1 ? 0 : static_cast<int>(static_cast<uint32_t>(line) / 2 % TILES);
}
template <int TILES>
PK_DEVICE int row_of_line(int line) {
  const auto number = static_cast<uint32_t>(line);  // shifts alone
  return TILES == 1 ? line : static_cast<int>(number / (2 * TILES) * 2 + number % 2);
}

// 16 words a row, whatever elements they are.
template <int ROWS>
using OperandTile = SharedArray<uint32_t, ROWS * 16, 128>;

// An operand in global memory, of elements S.
template <class S>
struct ProductOperand {
  Matrix<const S> matrix;  // [rows, depth]
  int64_t rows;
  bool vectors;  // chunks are contiguous and aligned

  // Whether tiles of it are transposed.
  PK_DEVICE bool transposed() const { return matrix.column_stride != 1 && matrix.row_stride == 1; }
};

// An operand that tiles of T are copied from.
template <class T, class S>
PK_DEVICE ProductOperand<S> product_operand(const Matrix<const S>& matrix, int64_t rows) {
  constexpr int64_t kChunk = 16 / sizeof(T);
  // Of one row the stride is no matter, nor must it lead to addresses that are not aligned.
  const Matrix<const S> of_rows{matrix.data, rows > 1 || matrix.column_stride != 1 ? matrix.row_stride : 0, matrix.column_stride};
  const int64_t pitch = matrix.column_stride == 1 ? of_rows.row_stride : matrix.column_stride;
  const bool contiguous = matrix.column_stride == 1 || matrix.row_stride == 1;
  return {of_rows, rows, contiguous && pitch % kChunk == 0 && reinterpret_cast<uintptr_t>(matrix.data) % (kChunk * sizeof(S)) == 0};
}

// Copies stage after stage of an operand to tiles that follow each other in depth, asynchronously: chunks must be contiguous and aligned. A thread has the same chunk of every stage's lines.
template <class Layout, int TILES, int THREADS, class T>
class OperandStream {
 public:
  PK_DEVICE OperandStream(const ProductOperand<T>& operand, int64_t row0, int64_t depth0) {
    const int thread = static_cast<int>(thread_index().x), chunk = thread % Layout::kChunks, line = thread / Layout::kChunks;
    chunk_ = chunk;
    // Threads walk along rows through all tiles, or through the lines of one tile after the other where they are transposed.
    tile_ = Layout::kTransposed ? 0 : tile_of_line<TILES>(line);
    line_ = Layout::kTransposed ? line : row_of_line<TILES>(line);
    const int row = Layout::kTransposed ? chunk * Layout::kChunk : line_;
    depth_ = Layout::kTransposed ? line_ : tile_ * Layout::kDepth + chunk * Layout::kChunk;
    rows_ = nearest_int(operand.rows - row0 - row);
    source_ = operand.matrix.at(row0 + row, depth0 + depth_);
    const int64_t pitch = Layout::kTransposed ? operand.matrix.column_stride : operand.matrix.row_stride;
    pass_ = kPassLines * pitch;
    stage_ = TILES * Layout::kDepth * (Layout::kTransposed ? pitch : 1);
  }

  // The next stage, of which `depth` is left in all; zeros beyond it and beyond the operand's rows.
  PK_DEVICE void copy(OperandTile<Layout::kRows> (&tiles)[TILES], int64_t depth) {
    const int left = nearest_int(depth) - depth_;
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      if (kLast != 0 && i == kPasses - 1 && static_cast<int>(thread_index().x) >= kLast) break;
      const int line = line_ + i * kPassLines;
      const int along = Layout::kTransposed ? rows_ : left, across = Layout::kTransposed ? left : rows_;  // what is left along a line, and lines
      const int valid = i * kPassLines < across ? minimum(maximum(along, 0), Layout::kChunk) : 0;
      const int tile = Layout::kTransposed ? line / Layout::kLines : tile_;
      const auto* source = reinterpret_cast<const uint32_t*>(source_ + i * pass_);
      copy_async<16>(tiles[tile], Layout::at(Layout::kTransposed ? line % Layout::kLines : line, chunk_), source, static_cast<uint32_t>(valid) * sizeof(T));
    }
    source_ += stage_;
  }

 private:
  static constexpr int kAll = TILES * Layout::kLines * Layout::kChunks, kPasses = (kAll + THREADS - 1) / THREADS, kLast = kAll % THREADS;
  static constexpr int kPassLines = THREADS / Layout::kChunks / (Layout::kTransposed ? 1 : TILES);  // lines that all threads copy at once
  static_assert(THREADS % (Layout::kChunks * (Layout::kTransposed ? 1 : TILES)) == 0, "a thread keeps its chunk");
  static_assert(Layout::kTransposed || kPassLines % 2 == 0, "and its place of two lines");

  const T* source_;
  int64_t pass_, stage_;  // elements from one pass of the threads to the next, and from one stage to the next
  int chunk_, tile_, line_, depth_, rows_;
};

// `count` elements from `source` on, `step` apart, then zeros.
template <class T, int COUNT, class S>
PK_DEVICE Vector<T, COUNT> gather(const S* source, int64_t step, int count) {
  Vector<T, COUNT> chunk;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) chunk.values[i] = i < count ? convert<T>(load_global(source + i * step)) : from_float<T>(0.0f);
  return chunk;
}

// Calls take(tile, row, chunk, values) for each chunk of one stage of an operand of any strides, alignment and type, as elements of the layout; zeros beyond its rows and `depth_end`.
template <class Layout, int TILES, int THREADS, class T, class S, class Take>
PK_DEVICE void gather_operand(const ProductOperand<S>& operand, int64_t row0, int64_t depth0, int64_t depth_end, Take take) {
  static_assert(!Layout::kTransposed, "tiles of rows");
  constexpr int kLines = TILES * Layout::kRows, kChunk = Layout::kChunk;
  const Matrix<const S>& matrix = operand.matrix;
  const bool rows_contiguous = matrix.column_stride == 1;
#pragma unroll 1
  for (int at = static_cast<int>(thread_index().x); at < kLines * Layout::kChunks; at += THREADS) {
    // Threads walk along memory's contiguous extent: along rows through all tiles, or down the rows.
    const int line = rows_contiguous ? at / Layout::kChunks : at % kLines, chunk = rows_contiguous ? at % Layout::kChunks : at / kLines;
    const int tile = rows_contiguous ? tile_of_line<TILES>(line) : line / Layout::kRows, row = rows_contiguous ? row_of_line<TILES>(line) : line % Layout::kRows;
    const int64_t depth = depth0 + tile * Layout::kDepth + chunk * kChunk, left = row0 + row < operand.rows ? depth_end - depth : 0;
    const S* source = matrix.at(row0 + row, depth);
    Vector<T, kChunk> values;
    if (operand.vectors && rows_contiguous && left >= kChunk) values = convert<T>(load_global(reinterpret_cast<const Vector<S, kChunk>*>(source)));
    else values = gather<T, kChunk>(source, matrix.column_stride, nearest_int(left));
    take(tile, row, chunk, values);
  }
}

// The words of 16 bytes of elements.
template <class T, int COUNT>
PK_DEVICE Vector<uint32_t, 4> words_of(const Vector<T, COUNT>& values) {
  static_assert(sizeof values == 16, "a chunk");
  Vector<uint32_t, 4> words;
  memcpy(&words, &values, sizeof words);
  return words;
}

}  // namespace PK_BUILD
