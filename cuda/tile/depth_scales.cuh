// A product whose right operand is multiplied by numbers along its depth: diag(scales) between left and right^T.
//
// The numbers of a stage come with its copies, 4 bytes a step of depth, and a lane reads the four (of two bytes) or two that its fragments have. Products are f32, rounded to the operand's type.
#pragma once

#include "product.cuh"

namespace PK_BUILD {

template <class Config>
class DepthScales {
 public:
  static_assert(Config::kStageDepth <= Config::kThreads, "a thread copies one number of a stage");
  struct Shared {
    SharedArray<float, Config::kStages * Config::kStageDepth> scales;
    // Of each thread that copies: where its next number is, 0 for ones, and how far it is from one stage's to the next. Registers have no room for it.
    SharedArray<int64_t, Config::kStageDepth> next, step;
  };

  // Of [1, depth] f32, or without data ones.
  PK_DEVICE DepthScales(Shared& shared, const Matrix<const float>& scales) : shared_(shared) {
    const auto at = static_cast<int>(thread_index().x);
    if (at >= Config::kStageDepth) return;
    const auto address = reinterpret_cast<int64_t>(scales.data == nullptr ? nullptr : scales.at(0, at));
    shared_.next.store(static_cast<uint32_t>(at), address);
    shared_.step.store(static_cast<uint32_t>(at), Config::kStageDepth * scales.column_stride * static_cast<int64_t>(sizeof(float)));
  }

  // Those of the next stage, of which `depth` is left in all.
  PK_DEVICE void copy(int stage, int64_t depth) {
    const int at = static_cast<int>(thread_index().x);
    if (at >= Config::kStageDepth) return;
    const auto to = static_cast<uint32_t>(stage * Config::kStageDepth + at);
    const int64_t next = shared_.next.load(static_cast<uint32_t>(at));
    if (next == 0) {
      shared_.scales.store(to, 1.0f);
    } else {
      copy_async<4>(shared_.scales, to, reinterpret_cast<const float*>(next), at < depth ? 4 : 0);
      shared_.next.store(static_cast<uint32_t>(at), next + shared_.step.load(static_cast<uint32_t>(at)));
    }
  }

  // right's fragments of a step, times its numbers.
  template <int COLUMNS>
  PK_DEVICE void apply(uint32_t (&right)[COLUMNS][2], int stage, int step) const {
    using Element = typename Config::Element;
    constexpr int kStep = 32 / static_cast<int>(sizeof(Element));
    const int depth = stage * Config::kStageDepth + (2 * Config::depth_warp() + step) * kStep, in_four = static_cast<int>(lane()) % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (sizeof(Element) == 4) {
        const float scale = shared_.scales.load(static_cast<uint32_t>(depth + 4 * half + in_four));
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) right[j][half] = bits_of_float(scale * float_of_bits(right[j][half]));
      } else {
        const auto scales = shared_.scales.template load_vector<2>(static_cast<uint32_t>(depth + 8 * half + 2 * in_four));
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) {
          Vector<Element, 2> pair;
          memcpy(&pair, &right[j][half], sizeof pair);
          right[j][half] = pair_from_floats<Element>(scales.values[0] * to_float(pair.values[0]), scales.values[1] * to_float(pair.values[1]));
        }
      }
    }
  }

 private:
  Shared& shared_;
};

}  // namespace PK_BUILD
