// gradient += scale * z, the noise of differential privacy.
//
// gradient [rows, columns]. A thread has four elements in the order of rows, which one call of the generator makes. Loads and stores: rows * columns each. About 40 flops an element, in a pair.
// Roundings: as good as 6 in z, the one scaled sum, the one to the gradient's type.
#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "../tile/matrix.cuh"
#include "../tile/normal.cuh"
#include "../tile/philox.cuh"
#include "forward_launch.h"

namespace PK_BUILD {

constexpr int kNoiseThreads = 256;

template <class T>
struct NoiseProblem {
  Matrix<T> gradient;
  int64_t rows, columns;
  uint64_t seed, offset;
  float scale;
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(kNoiseThreads) lora_add_noise(NoiseProblem<T> problem) {
  const int64_t elements = problem.rows * problem.columns, quads = (elements + 3) / 4, threads = static_cast<int64_t>(grid_extent().x) * kNoiseThreads;
  for (int64_t quad = static_cast<int64_t>(block_index().x) * kNoiseThreads + thread_index().x; quad < quads; quad += threads) {
    const auto low = static_cast<uint32_t>(quad), high = static_cast<uint32_t>(quad >> 32);
    const Vector<uint32_t, 4> words = philox({{low, high, static_cast<uint32_t>(problem.offset), static_cast<uint32_t>(problem.offset >> 32)}},
                                             {static_cast<uint32_t>(problem.seed), static_cast<uint32_t>(problem.seed >> 32)});
    const Vector<float, 2> first = normal_pair(words.values[0], words.values[1]), second = normal_pair(words.values[2], words.values[3]);
    const float normal[4] = {first.values[0], first.values[1], second.values[0], second.values[1]};
    int64_t row = 4 * quad / problem.columns, column = 4 * quad - row * problem.columns;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (4 * quad + i >= elements) break;
      T* element = problem.gradient.at(row, column);
      store_global(element, from_float<T>(fma(problem.scale, normal[i], to_float(load_global(element)))));
      if (++column == problem.columns) {
        column = 0;
        ++row;
      }
    }
  }
}

namespace {

template <class T>
int32_t add_noise(const pk_queue& queue, const pk_lora_add_noise_descriptor& descriptor) {
  const pk_matrix& gradient = descriptor.gradient;
  const int64_t quads = tiles_of(gradient.rows * gradient.columns, 4);
  if (quads == 0) return PK_OK;
  Operands operands;
  operands.read_write("gradient", gradient, 1);
  const NoiseProblem<T> problem{batched<T>(gradient).first, gradient.rows, gradient.columns, descriptor.seed, descriptor.offset, descriptor.scale};
  return launch(queue, {"lora_add_noise", grid_of(tiles_of(quads, kNoiseThreads)), kNoiseThreads, 0}, operands, lora_add_noise<T>, problem);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_add_noise)(const pk_queue* queue, const pk_lora_add_noise_descriptor* descriptor) {
  return PK_BUILD::dispatch_type(descriptor->gradient.element_type, [&](auto t) { return PK_BUILD::add_noise<typename decltype(t)::type>(*queue, *descriptor); });
}

int32_t PK_OPERATION(lora_noise_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_add_noise<float>));
  PK_TRY(prepare(lora_add_noise<f16>));
  return prepare(lora_add_noise<bf16>);
}

}  // extern "C"
