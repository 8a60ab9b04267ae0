// The Haar transform of all levels in one pass: a block reads a tile, transforms it in registers, and writes every band of it.
//
// A tile is 64 rows of 32 lanes x 16 bytes. A thread holds 8 rows of 16 bytes and transforms them in place, so that each value stays at its interleaved position: 3 levels along rows, 2 (f32)
// or 3 along columns. Further levels along columns are between lanes, further ones along rows between the 8 warps, through shared memory, which the few values that are left make small.
// Loads: the source once; stores: the destination once. (levels * axes) additions, one product an element.
// Roundings: one sum a level and axis, the factor and the product with it, then the one to the destination's type.
// Elements of a tile that lies within the matrix move 16 bytes (of a band: as many as there are neighbours) at a time; at ragged edges, and where rows are not aligned, one by one through shared
// memory.
#pragma once

#include "transform.cuh"

namespace PK_BUILD {

template <class T, HaarAxes AXES>
struct HaarTileConfig {
  static constexpr int kRows = 8, kColumns = 16 / sizeof(T);  // of a thread
  static constexpr int kColumnLevels = sizeof(T) == 4 ? 2 : 3;  // within a thread; along rows there are 3
  static constexpr int kWarps = 8, kThreads = 32 * kWarps;
  static constexpr int kTileRows = kRows * kWarps, kTileColumns = kColumns * 32;
  static_assert(1 << kColumnLevels == kColumns && kTileRows == kHaarTileRows && kTileColumns == haar_tile_columns(sizeof(T) == 4), "a thread holds whole subtrees");

  // What warps exchange after 3 levels: along both axes one value of every 8 x 8, along rows a row of each warp. A gap between rows keeps halves of a warp in different banks.
  static constexpr int kGrid = kTileColumns / 8, kGridPitch = kGrid == 16 ? 20 : kGrid;
  static constexpr int kExchanged = AXES == HaarAxes::both ? kWarps * kGridPitch : AXES == HaarAxes::rows ? kWarps * kTileColumns : 4;

  struct Shared {
    SharedArray<int64_t, kTileRows> rows;  // of the signal, -1 for none
    SharedArray<int64_t, kTileColumns> columns;
    SharedArray<float, kExchanged> exchanged;
    SharedArray<float, kWarps * kTileColumns> lines;  // of ragged tiles: a row of each warp
  };
};

template <class T, HaarAxes AXES>
class HaarTile {
  using Config = HaarTileConfig<T, AXES>;
  static constexpr int R = Config::kRows, C = Config::kColumns;
  using Shared = typename Config::Shared;

 public:
  PK_DEVICE HaarTile(const HaarProblem<T>& problem, Shared& shared) : problem_(problem), shared_(shared), levels_(problem.levels) {
    const int64_t tile_columns = (problem.padded_columns() + Config::kTileColumns - 1) / Config::kTileColumns;
    const int64_t tile_rows = (problem.padded_rows() + Config::kTileRows - 1) / Config::kTileRows;
    const int64_t tile = block_index().x;
    batch_ = tile / (tile_columns * tile_rows);
    tile_row_ = tile / tile_columns % tile_rows * Config::kTileRows;
    tile_column_ = tile % tile_columns * Config::kTileColumns;
    row_ = tile_row_ + warp() * R;
    column_ = tile_column_ + lane() * C;
    within_ = tile_row_ + Config::kTileRows <= problem.rows && tile_column_ + Config::kTileColumns <= problem.columns;
  }

  PK_DEVICE void forward() {
    load_signal();
    upward<1>();
    upward<2>();
    upward<3>();
    if (levels_ > 3) exchange<true>();
    coefficients<false>();
  }

  PK_DEVICE void inverse() {
    coefficients<true>();
    if (levels_ > 3) exchange<false>();
    upward<3>();
    upward<2>();
    upward<1>();
    store_signal();
  }

 private:
  // ---- the transform ------------------------------------------------------------------------------------------------------------------------------------------

  // A pair's sum and difference, which also lead back.
  PK_DEVICE static void pair(float& a, float& b) {
    const float sum = a + b, difference = a - b;
    a = sum;
    b = difference;
  }

  // The same of two lanes, of those whose numbers are multiples of `distance`.
  PK_DEVICE static void pair_lanes(float& value, uint32_t distance, bool active, uint32_t mask = all_lanes) {
    const float other = shuffle_xor(value, distance, mask);
    const float result = (lane() & distance) != 0 ? other - value : value + other;
    value = active ? result : value;
  }

  // A level up to 3 within a warp: of 8 rows, and columns of one thread or of two lanes.
  template <int LEVEL>
  PK_DEVICE void upward() {
    constexpr int kStep = 1 << (LEVEL - 1), kRowStep = AXES == HaarAxes::columns ? 1 : kStep;
    if (LEVEL > levels_) return;
    if constexpr (AXES == HaarAxes::rows) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int r = 0; r < R; r += 2 * kStep) pair(values_[r][c], values_[r + kStep][c]);
      }
    } else if constexpr (kStep < C) {
#pragma unroll
      for (int r = 0; r < R; r += kRowStep) {
#pragma unroll
        for (int c = 0; c < C; c += 2 * kStep) pair(values_[r][c], values_[r][c + kStep]);
      }
      if constexpr (AXES == HaarAxes::both) {
#pragma unroll
        for (int c = 0; c < C; c += kStep) {
#pragma unroll
          for (int r = 0; r < R; r += 2 * kStep) pair(values_[r][c], values_[r + kStep][c]);
        }
      }
    } else {
      constexpr uint32_t kDistance = kStep / C;
      const bool active = lane() % kDistance == 0;
#pragma unroll
      for (int r = 0; r < R; r += kRowStep) pair_lanes(values_[r][0], kDistance, active);
      if constexpr (AXES == HaarAxes::both) {
        static_assert(kDistance == 1, "all lanes have a column of this level");
#pragma unroll
        for (int r = 0; r < R; r += 2 * kStep) pair(values_[r][0], values_[r + kStep][0]);
      }
    }
  }

  // Levels from 4 on.
  template <bool FORWARD>
  PK_DEVICE void exchange() {
    if constexpr (AXES == HaarAxes::columns) between_lanes<FORWARD>();
    else if constexpr (AXES == HaarAxes::rows) between_warps<FORWARD>();
    else between_threads<FORWARD>();
  }

  template <bool FORWARD>
  PK_DEVICE void between_lanes() {
    const auto level = [&](int number) {
      const uint32_t distance = (1u << (number - 1)) / C;
      const bool active = lane() % distance == 0;
#pragma unroll
      for (int r = 0; r < R; ++r) pair_lanes(values_[r][0], distance, active);
    };
    if (FORWARD) {
      for (int number = 4; number <= levels_; ++number) level(number);
    } else {
      for (int number = levels_; number > 3; --number) level(number);
    }
  }

  // Levels 4 to 6 of 8 values, `order` of them apart.
  template <bool FORWARD>
  PK_DEVICE void of_eight(float (&v)[8]) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const int number = FORWARD ? 4 + i : 6 - i, step = 1 << (number - 4);
      if (number > levels_) continue;
#pragma unroll
      for (int first = 0; first < 8; first += 2 * step) pair(v[first], v[first + step]);
    }
  }

  // The first row of each warp. Columns lie in two groups of four neighbours a lane, so that a lane's vectors are beside those of its neighbours; every thread takes a column, whichever it is.
  template <bool FORWARD>
  PK_DEVICE void between_warps() {
    const int thread = static_cast<int>(thread_index().x);
    const auto at = [&](int group) { return static_cast<uint32_t>(static_cast<int>(warp()) * Config::kTileColumns + group * 128 + static_cast<int>(lane()) * 4); };
#pragma unroll
    for (int group = 0; group < C / 4; ++group) {
      shared_.exchanged.template store_vector<4>(at(group), {{values_[0][4 * group], values_[0][4 * group + 1], values_[0][4 * group + 2], values_[0][4 * group + 3]}});
    }
    barrier();
    if (thread < Config::kTileColumns) {
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = shared_.exchanged.load(static_cast<uint32_t>(i * Config::kTileColumns + thread));
      of_eight<FORWARD>(v);
#pragma unroll
      for (int i = 0; i < 8; ++i) shared_.exchanged.store(static_cast<uint32_t>(i * Config::kTileColumns + thread), v[i]);
    }
    barrier();
#pragma unroll
    for (int group = 0; group < C / 4; ++group) {
      const auto vector = shared_.exchanged.template load_vector<4>(at(group));
#pragma unroll
      for (int i = 0; i < 4; ++i) values_[0][4 * group + i] = vector.values[i];
    }
  }

  // One value of every 8 x 8, which the first warp transforms: a lane has 4 x 2 of them, levels further apart are between lanes.
  template <bool FORWARD>
  PK_DEVICE void between_threads() {
    constexpr int kLanes = Config::kGrid, kEvery = 8 / C;  // lanes that hold a value
    const int in_warp = static_cast<int>(lane());
    const auto own = static_cast<uint32_t>(static_cast<int>(warp()) * Config::kGridPitch + in_warp / kEvery);
    if (in_warp % kEvery == 0) shared_.exchanged.store(own, values_[0][0]);
    barrier();
    if (warp() == 0 && in_warp < kLanes) {
      constexpr uint32_t kMask = kLanes == 32 ? all_lanes : (1u << (kLanes % 32)) - 1;
      const int half = in_warp / (kLanes / 2), j = in_warp % (kLanes / 2);
      const auto at = [&](int row) { return static_cast<uint32_t>((4 * half + row) * Config::kGridPitch + 2 * j); };
      float v[4][2];
#pragma unroll
      for (int row = 0; row < 4; ++row) {
        const auto vector = shared_.exchanged.template load_vector<2>(at(row));
        v[row][0] = vector.values[0], v[row][1] = vector.values[1];
      }
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const int number = FORWARD ? 4 + i : 6 - i;
        if (number > levels_) continue;
        if (number == 4) {
#pragma unroll
          for (int row = 0; row < 4; ++row) pair(v[row][0], v[row][1]);
#pragma unroll
          for (int column = 0; column < 2; ++column) pair(v[0][column], v[1][column]), pair(v[2][column], v[3][column]);
        } else if (number == 5) {
          pair_lanes(v[0][0], 1, true, kMask), pair_lanes(v[2][0], 1, true, kMask);
          pair(v[0][0], v[2][0]);
        } else {
          pair_lanes(v[0][0], 2, j % 2 == 0, kMask), pair_lanes(v[0][0], kLanes / 2, j % 2 == 0, kMask);
        }
      }
#pragma unroll
      for (int row = 0; row < 4; ++row) shared_.exchanged.template store_vector<2>(at(row), {{v[row][0], v[row][1]}});
    }
    barrier();
    if (in_warp % kEvery == 0) values_[0][0] = shared_.exchanged.load(own);
  }

  // ---- the signal ---------------------------------------------------------------------------------------------------------------------------------------------

  PK_DEVICE bool whole(int32_t vectors) const { return within_ && vectors != 0; }

  PK_DEVICE void load_signal() {
    if (whole(problem_.source_vectors)) load_vectors();
    else load_elements();
  }

  PK_DEVICE void load_vectors() {
    const Matrix<const T> source = problem_.source.batch(batch_);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const auto vector = load_global(reinterpret_cast<const Vector<T, C>*>(source.at(row_ + r, column_)));
#pragma unroll
      for (int c = 0; c < C; ++c) values_[r][c] = to_float(vector.values[c]);
    }
  }

  PK_DEVICE void load_elements() {
    const Matrix<const T> source = problem_.source.batch(batch_);
    for (int i = static_cast<int>(thread_index().x); i < Config::kTileRows + Config::kTileColumns; i += Config::kThreads) {
      const bool is_row = i < Config::kTileRows;
      const int64_t position = is_row ? tile_row_ + i : tile_column_ + (i - Config::kTileRows);
      const int64_t index = is_row ? haar_extended(position, problem_.rows, problem_.row_levels(), problem_.boundary)
                                   : haar_extended(position, problem_.columns, problem_.column_levels(), problem_.boundary);
      if (is_row) shared_.rows.store(static_cast<uint32_t>(i), index);
      else shared_.columns.store(static_cast<uint32_t>(i - Config::kTileRows), index);
    }
    barrier();
    load_lines([&](int r, int c) {
      const int64_t row = shared_.rows.load(warp() * R + static_cast<uint32_t>(r)), column = shared_.columns.load(static_cast<uint32_t>(c));
      return row >= 0 && column >= 0 ? to_float(load_global(source.at(row, column))) : 0.0f;
    });
  }

  PK_DEVICE void store_signal() {
    const Matrix<T> destination = problem_.destination.batch(batch_);
    if (whole(problem_.destination_vectors)) {
#pragma unroll
      for (int r = 0; r < R; ++r) {
        Vector<T, C> vector;
#pragma unroll
        for (int c = 0; c < C; ++c) vector.values[c] = from_float<T>(values_[r][c]);
        store_global(reinterpret_cast<Vector<T, C>*>(destination.at(row_ + r, column_)), vector);
      }
    } else {
      store_lines([&](int r, int c, float value) {
        if (row_ + r < problem_.rows && tile_column_ + c < problem_.columns) store_global(destination.at(row_ + r, tile_column_ + c), from_float<T>(value));
      });
    }
  }

  // ---- ragged tiles: one element after the other, a row of each warp at a time through shared memory, so that there is one element's code -----------------------

  PK_DEVICE static uint32_t line_at(int column) { return warp() * Config::kTileColumns + static_cast<uint32_t>(column); }

  // values_ of the whole warp from value(row of the warp, column of the tile).
  template <class Value>
  PK_DEVICE void load_lines(Value value) {
#pragma unroll 1
    for (int r = 0; r < R; ++r) {
#pragma unroll 1
      for (int c = static_cast<int>(lane()); c < Config::kTileColumns; c += 32) shared_.lines.store(line_at(c), value(r, c));
      warp_barrier();
#pragma unroll
      for (int c = 0; c < C; c += 4) {
        const auto four = shared_.lines.template load_vector<4>(line_at(static_cast<int>(lane()) * C + c));
        each_of_row(r, [&](float (&row)[C]) {
#pragma unroll
          for (int i = 0; i < 4; ++i) row[c + i] = four.values[i];
        });
      }
      warp_barrier();  // before the next row
    }
  }

  // value(row of the warp, column of the tile, its value) for all of the warp's.
  template <class Value>
  PK_DEVICE void store_lines(Value value) {
#pragma unroll 1
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; c += 4) {
        each_of_row(r, [&](const float (&row)[C]) { shared_.lines.template store_vector<4>(line_at(static_cast<int>(lane()) * C + c), {{row[c], row[c + 1], row[c + 2], row[c + 3]}}); });
      }
      warp_barrier();
#pragma unroll 1
      for (int c = static_cast<int>(lane()); c < Config::kTileColumns; c += 32) value(r, c, shared_.lines.load(line_at(c)));
      warp_barrier();  // before the next row
    }
  }

  // visit(a row of values_) of a number that is known when it runs: registers have no index.
  template <class Visit>
  PK_DEVICE void each_of_row(int number, Visit visit) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r == number) visit(values_[r]);
    }
  }

  // ---- the coefficients ---------------------------------------------------------------------------------------------------------------------------------------

  // COUNT of them of one row r of this thread, from column `first` on and STEP apart, at neighbouring places.
  template <bool LOAD, int COUNT, int STEP>
  PK_DEVICE void move(int r, int first, int64_t row, int64_t column, float factor) {
    Vector<T, COUNT> vector;
    if constexpr (LOAD) {
      vector = load_global(reinterpret_cast<const Vector<T, COUNT>*>(problem_.source.batch(batch_).at(row, column)));
#pragma unroll
      for (int i = 0; i < COUNT; ++i) values_[r][first + i * STEP] = to_float(vector.values[i]) * factor;
    } else {
#pragma unroll
      for (int i = 0; i < COUNT; ++i) vector.values[i] = from_float<T>(values_[r][first + i * STEP] * factor);
      store_global(reinterpret_cast<Vector<T, COUNT>*>(problem_.destination.batch(batch_).at(row, column)), vector);
    }
  }

  // One of the coefficients, wherever it is.
  PK_DEVICE float load_one(int64_t row, int64_t column) {
    const HaarPlace place = haar_place(problem_, AXES, row, column);
    return place.is_coefficient ? to_float(load_global(problem_.source.batch(batch_).at(place.row, place.column))) * problem_.factors[place.level] : 0.0f;
  }

  PK_DEVICE void store_one(int64_t row, int64_t column, float value) {
    const HaarPlace place = haar_place(problem_, AXES, row, column);
    const bool within = row < problem_.padded_rows() && column < problem_.padded_columns() && (place.is_coefficient || problem_.interleaved != 0);
    const T rounded = from_float<T>(place.is_coefficient ? value * problem_.factors[place.level] : 0.0f);
    if (within) store_global(problem_.destination.batch(batch_).at(place.row, place.column), rounded);
  }

  // The bands of a level within a thread, along columns or both axes.
  template <bool LOAD, int LEVEL>
  PK_DEVICE void bands() {
    constexpr int kStep = 1 << (LEVEL - 1), kCount = C >> LEVEL, kRowStep = AXES == HaarAxes::both ? kStep : 1;
    if (LEVEL > levels_) return;
    const float factor = problem_.factors[LEVEL];
    const int64_t approximations = column_ >> LEVEL, details = problem_.column_offsets[LEVEL] + approximations;
#pragma unroll
    for (int r = 0; r < R; r += kRowStep) {
      const bool row_detail = AXES == HaarAxes::both && r / kStep % 2 != 0;
      const int64_t row = AXES == HaarAxes::both ? ((row_ + r) >> LEVEL) + (row_detail ? problem_.row_offsets[LEVEL] : 0) : row_ + r;
      move<LOAD, kCount, 2 * kStep>(r, kStep, row, details, factor);
      if (row_detail) move<LOAD, kCount, 2 * kStep>(r, 0, row, approximations, factor);
      if (LEVEL == levels_ && !row_detail) move<LOAD, kCount, 2 * kStep>(r, 0, row, approximations, factor);
    }
  }

  template <bool LOAD>
  PK_DEVICE void coefficients() {
    if (!whole(LOAD ? problem_.source_vectors : problem_.destination_vectors)) {
      if constexpr (LOAD) load_lines([&](int r, int c) { return load_one(row_ + r, tile_column_ + c); });
      else store_lines([&](int r, int c, float value) { store_one(row_ + r, tile_column_ + c, value); });
      return;
    }
    if (problem_.interleaved != 0) {
      interleaved_rows<LOAD>();
    } else if constexpr (AXES == HaarAxes::rows) {
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const HaarPlace place = haar_place(problem_, AXES, row_ + r, column_);
        move<LOAD, C, 1>(r, 0, place.row, place.column, problem_.factors[place.level]);
      }
    } else {
      bands<LOAD, 1>();
      bands<LOAD, 2>();
      if constexpr (Config::kColumnLevels > 2) bands<LOAD, 3>();
      if (levels_ > Config::kColumnLevels) {
#pragma unroll
        for (int r = 0; r < R; r += AXES == HaarAxes::both ? C : 1) {
          if constexpr (LOAD) values_[r][0] = load_one(row_ + r, column_);
          else store_one(row_ + r, column_, values_[r][0]);
        }
      }
    }
  }

  template <bool LOAD>
  PK_DEVICE void interleaved_rows() {
    const int32_t first_row = haar_step(row_, levels_), first_column = haar_step(column_, levels_);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      Vector<T, C> vector;
      if constexpr (LOAD) vector = load_global(reinterpret_cast<const Vector<T, C>*>(problem_.source.batch(batch_).at(row_ + r, column_)));
#pragma unroll
      for (int c = 0; c < C; ++c) {
        // A thread begins at a multiple of its rows and columns: but for the first, their numbers within it say when they are details.
        const int32_t row_step = r != 0 ? lowest_bit(static_cast<uint64_t>(r)) : first_row, column_step = c != 0 ? lowest_bit(static_cast<uint64_t>(c)) : first_column;
        const float factor = problem_.factors[minimum(minimum(has_rows(AXES) ? row_step : levels_, has_columns(AXES) ? column_step : levels_) + 1, levels_)];
        if constexpr (LOAD) values_[r][c] = to_float(vector.values[c]) * factor;
        else vector.values[c] = from_float<T>(values_[r][c] * factor);
      }
      if constexpr (!LOAD) store_global(reinterpret_cast<Vector<T, C>*>(problem_.destination.batch(batch_).at(row_ + r, column_)), vector);
    }
  }

  const HaarProblem<T>& problem_;
  Shared& shared_;
  const int32_t levels_;
  int64_t batch_, tile_row_, tile_column_, row_, column_;  // of the tile, and of this thread's first element
  bool within_;
  float values_[R][C];
};

template <class T, HaarAxes AXES>
PK_KERNEL void PK_LAUNCH_BOUNDS(HaarTileConfig<T, AXES>::kThreads, 2) haar_forward_tile(HaarProblem<T> problem) {
  using Shared = typename HaarTileConfig<T, AXES>::Shared;
  PK_SHARED(Shared, shared);
  HaarTile<T, AXES>(problem, shared).forward();
}

template <class T, HaarAxes AXES>
PK_KERNEL void PK_LAUNCH_BOUNDS(HaarTileConfig<T, AXES>::kThreads, 2) haar_inverse_tile(HaarProblem<T> problem) {
  using Shared = typename HaarTileConfig<T, AXES>::Shared;
  PK_SHARED(Shared, shared);
  HaarTile<T, AXES>(problem, shared).inverse();
}

}  // namespace PK_BUILD
