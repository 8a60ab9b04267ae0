// The launchers of WaRA.
#include <algorithm>

#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "wara.cuh"

namespace PK_BUILD {
namespace {

int64_t tiles_of(int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; }

template <class... P, class... A>
int32_t launch_grid(const pk_queue& queue, const char* name, int64_t blocks, size_t shared, const Operands& operands, void (*kernel)(P...), const A&... arguments) {
  if (blocks == 0) return PK_OK;
  const Extent3 grid{static_cast<uint32_t>(std::min<int64_t>(blocks, INT32_MAX)), 1, 1};
  return launch(queue, {name, grid, kWaraThreads, shared}, operands, kernel, arguments...);
}

void read_factors(Operands* operands, const char* name, const pk_matrix* factors, int64_t count) {
  for (int64_t i = 0; i < count; ++i) operands->read(name, factors[i], 1);
}

// Tiles of 64 tokens and 16 ranks of one group.
int64_t shrink_tiles(const HaarWaraPlan& plan, int64_t m) {
  int64_t rank_tiles = 0;
  for (int32_t group = 0; group < plan.group_count; ++group) rank_tiles += tiles_of(plan.groups[group].rank, 16);
  return rank_tiles * tiles_of(m, 64);
}

// Parts of the workspace, each [m, ranks] in f32.
class Parts {
 public:
  Parts(void* workspace, int64_t m, int64_t ranks) : first_(static_cast<float*>(workspace)), elements_(m * ranks) {}
  float* part(int number) const { return first_ + number * elements_; }
  uint64_t bytes() const { return static_cast<uint64_t>(elements_) * sizeof(float); }
  int64_t elements() const { return elements_; }

 private:
  float* first_;
  int64_t elements_;
};

// From part `number` of the workspace, filtered into the next one in activation mode: where what follows finds it.
int32_t filter(const pk_queue& queue, const HaarWaraPlan& plan, const Parts& parts, int number, bool adjoint, float** filtered) {
  *filtered = parts.part(number);
  if (plan.activation == 0) return PK_OK;
  *filtered = parts.part(number + 1);
  Operands operands;
  operands.read_bytes("h", parts.part(number), parts.bytes());
  operands.write_bytes("filtered", *filtered, parts.bytes());
  const float* const source = parts.part(number);
  return launch_grid(queue, "haar_wara_filter_simt", tiles_of(parts.elements(), kWaraThreads), 0, operands, haar_wara_filter_simt, plan, source, *filtered, parts.elements(), adjoint ? 1 : 0);
}

template <class T>
WaraProblem<T> problem_of(const HaarWaraPlan& plan, int64_t m, int64_t n, int64_t k) {
  WaraProblem<T> problem{};
  problem.plan = plan;
  problem.m = m, problem.n = n, problem.k = k;
  return problem;
}

template <class T>
Matrix<T> matrix_of(const pk_matrix& matrix) {
  return batched<T>(matrix).first;
}

template <class T, class P>
int32_t forward(const pk_queue& queue, const pk_haar_wara_forward_descriptor& descriptor, const HaarWaraPlan& plan) {
  const int64_t m = descriptor.x.rows, n = descriptor.y.columns, factors = descriptor.adapter.factor_count;
  const Parts parts(descriptor.workspace, m, plan.ranks);
  const bool dense = descriptor.base == PK_LORA_BASE_DENSE, in_y = descriptor.base == PK_LORA_BASE_IN_Y;
  WaraProblem<T> problem = problem_of<T>(plan, m, n, descriptor.x.columns);
  problem.x = matrix_of<const T>(descriptor.x);
  problem.y = matrix_of<T>(descriptor.y);
  if (dense) problem.w = matrix_of<const T>(descriptor.w);
  problem.in_y = in_y;
  problem.h = parts.part(0);
  {
    Operands operands;
    operands.read("x", descriptor.x, 1);
    read_factors(&operands, "a", descriptor.adapter.a, factors);
    operands.write_bytes("h", problem.h, parts.bytes());
    const int64_t tiles = shrink_tiles(plan, m);
    PK_TRY((launch_grid(queue, "haar_wara_shrink_simt", tiles, shared_bytes<WaraTile<4, 1>::Shared>(), operands, haar_wara_shrink_simt<T, P, false>, problem, tiles)));
  }
  PK_TRY(filter(queue, plan, parts, 0, false, &problem.h));
  Operands operands;
  if (dense) {
    operands.read("x", descriptor.x, 1);
    operands.read("w", descriptor.w, 1);
  }
  if (in_y) operands.read_write("y", descriptor.y, 1);
  else operands.write("y", descriptor.y, 1);
  read_factors(&operands, "b", descriptor.adapter.b, factors);
  operands.read_bytes("h", problem.h, parts.bytes());
  const int64_t tiles = tiles_of(m, 64) * tiles_of(n, 64);
  return launch_grid(queue, "haar_wara_expand_simt", tiles, shared_bytes<WaraTile<4, 4>::Shared>(), operands, haar_wara_expand_simt<T, P, false>, problem, tiles);
}

template <class T, class P, bool OF_B>
int32_t gradients(const pk_queue& queue, const pk_haar_wara_backward_descriptor& descriptor, const WaraProblem<T>& problem, const Parts& parts) {
  const pk_matrix* outputs = OF_B ? descriptor.db : descriptor.da;
  for (int64_t factor = 0; outputs != nullptr && factor < descriptor.adapter.factor_count; ++factor) {
    const pk_matrix& output = outputs[factor];
    if (output.data == nullptr) continue;
    Operands operands;
    if (OF_B) operands.read("dy", descriptor.dy, 1);
    else operands.read("x", descriptor.x, 1);
    operands.read_bytes(OF_B ? "h" : "t", OF_B ? problem.h : problem.t, parts.bytes());
    operands.write(OF_B ? "db" : "da", output, 1);
    const int64_t places = OF_B ? output.rows : output.columns, rank = OF_B ? output.columns : output.rows, tiles = tiles_of(places, 64) * tiles_of(rank, 16);
    PK_TRY((launch_grid(queue, "haar_wara_gradient_simt", tiles, shared_bytes<WaraTile<4, 1>::Shared>(), operands, haar_wara_gradient_simt<T, P, OF_B>, problem, matrix_of<P>(output),
                        static_cast<int32_t>(factor), places, static_cast<int32_t>(rank), tiles)));
  }
  return PK_OK;
}

template <class T, class P>
int32_t backward(const pk_queue& queue, const pk_haar_wara_backward_descriptor& descriptor, const HaarWaraPlan& plan) {
  const int64_t m = descriptor.x.rows, n = descriptor.dy.columns, k = descriptor.x.columns, factors = descriptor.adapter.factor_count;
  const Parts parts(descriptor.workspace, m, plan.ranks);
  const int parts_each = plan.activation != 0 ? 2 : 1;
  WaraProblem<T> problem = problem_of<T>(plan, m, n, k);
  problem.x = matrix_of<const T>(descriptor.x);
  problem.dy = matrix_of<const T>(descriptor.dy);
  if (descriptor.w.data != nullptr) problem.w = matrix_of<const T>(descriptor.w);
  problem.h = parts.part(0);
  problem.t = parts.part(parts_each);
  const int64_t tiles = shrink_tiles(plan, m);
  const size_t shared = shared_bytes<WaraTile<4, 1>::Shared>();
  Operands of_x, of_dy;
  of_x.read("x", descriptor.x, 1);
  read_factors(&of_x, "a", descriptor.adapter.a, factors);
  of_x.write_bytes("h", problem.h, parts.bytes());
  of_dy.read("dy", descriptor.dy, 1);
  read_factors(&of_dy, "b", descriptor.adapter.b, factors);
  of_dy.write_bytes("t", problem.t, parts.bytes());
  PK_TRY((launch_grid(queue, "haar_wara_shrink_simt", tiles, shared, of_x, haar_wara_shrink_simt<T, P, false>, problem, tiles)));
  PK_TRY((launch_grid(queue, "haar_wara_shrink_simt", tiles, shared, of_dy, haar_wara_shrink_simt<T, P, true>, problem, tiles)));
  PK_TRY(filter(queue, plan, parts, 0, false, &problem.h));
  PK_TRY(filter(queue, plan, parts, parts_each, true, &problem.t));
  PK_TRY((gradients<T, P, true>(queue, descriptor, problem, parts)));
  PK_TRY((gradients<T, P, false>(queue, descriptor, problem, parts)));
  if (descriptor.dx.data == nullptr) return PK_OK;
  problem.dx = matrix_of<T>(descriptor.dx);
  Operands operands;
  if (problem.w.data != nullptr) {
    operands.read("dy", descriptor.dy, 1);
    operands.read("w", descriptor.w, 1);
  }
  read_factors(&operands, "a", descriptor.adapter.a, factors);
  operands.read_bytes("t", problem.t, parts.bytes());
  operands.write("dx", descriptor.dx, 1);
  const int64_t expand_tiles = tiles_of(m, 64) * tiles_of(k, 64);
  return launch_grid(queue, "haar_wara_expand_simt", expand_tiles, shared_bytes<WaraTile<4, 4>::Shared>(), operands, haar_wara_expand_simt<T, P, true>, problem, expand_tiles);
}

template <class T, class P>
int32_t merge(const pk_queue& queue, const pk_haar_wara_merge_descriptor& descriptor, const HaarWaraPlan& plan, int32_t direction) {
  const int64_t n = descriptor.source.rows, k = descriptor.source.columns, factors = descriptor.adapter.factor_count;
  WaraProblem<T> problem = problem_of<T>(plan, 0, n, k);
  problem.plan.scale = static_cast<float>(direction) * plan.scale;
  problem.w = matrix_of<const T>(descriptor.source);
  problem.y = matrix_of<T>(descriptor.destination);
  Operands operands;
  if (descriptor.source.data == descriptor.destination.data) {
    operands.read_write("destination", descriptor.destination, 1);
  } else {
    operands.read("source", descriptor.source, 1);
    operands.write("destination", descriptor.destination, 1);
  }
  read_factors(&operands, "a", descriptor.adapter.a, factors);
  read_factors(&operands, "b", descriptor.adapter.b, factors);
  const int64_t blocks = tiles_of(n, WaraMergeConfig::kRows) * tiles_of(k, WaraMergeConfig::kColumns);
  const size_t shared = shared_bytes<WaraMergeConfig::Shared>();
  if (plan.algorithm == PK_HAAR_TILE) return launch_grid(queue, "haar_wara_merge_tile", blocks, shared, operands, haar_wara_merge_tile<T, P>, problem);
  const int64_t tiles = tiles_of(n, 64) * tiles_of(k, 64);
  return launch_grid(queue, "haar_wara_merge_simt", tiles, shared_bytes<WaraTile<4, 4>::Shared>(), operands, haar_wara_merge_simt<T, P>, problem, tiles);
}

template <class T, class P>
int32_t prepare_all() {
  PK_TRY((prepare(haar_wara_shrink_simt<T, P, false>)));
  PK_TRY((prepare(haar_wara_shrink_simt<T, P, true>)));
  PK_TRY((prepare(haar_wara_expand_simt<T, P, false>)));
  PK_TRY((prepare(haar_wara_expand_simt<T, P, true>)));
  PK_TRY((prepare(haar_wara_gradient_simt<T, P, false>)));
  PK_TRY((prepare(haar_wara_gradient_simt<T, P, true>)));
  PK_TRY((prepare(haar_wara_merge_tile<T, P>)));
  return prepare(haar_wara_merge_simt<T, P>);
}

// Calls run(Type<T>, Type<P>) for x of type T and factors of type P.
template <class Run>
int32_t dispatch(const pk_matrix& x, const pk_haar_wara_adapter& adapter, Run run) {
  return dispatch_types(x.element_type, adapter.a[0].element_type, run);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(haar_wara_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(haar_wara_filter_simt));
  PK_TRY((prepare_all<float, float>()));
  PK_TRY((prepare_all<f16, f16>()));
  PK_TRY((prepare_all<bf16, bf16>()));
  PK_TRY((prepare_all<f16, float>()));
  return prepare_all<bf16, float>();
}

int32_t PK_OPERATION(haar_wara_forward)(const pk_queue* queue, const pk_haar_wara_forward_descriptor* descriptor, const HaarWaraPlan* plan) {
  return PK_BUILD::dispatch(descriptor->x, descriptor->adapter,
                            [&](auto t, auto p) { return PK_BUILD::forward<typename decltype(t)::type, typename decltype(p)::type>(*queue, *descriptor, *plan); });
}

int32_t PK_OPERATION(haar_wara_backward)(const pk_queue* queue, const pk_haar_wara_backward_descriptor* descriptor, const HaarWaraPlan* plan) {
  return PK_BUILD::dispatch(descriptor->x, descriptor->adapter,
                            [&](auto t, auto p) { return PK_BUILD::backward<typename decltype(t)::type, typename decltype(p)::type>(*queue, *descriptor, *plan); });
}

int32_t PK_OPERATION(haar_wara_merge)(const pk_queue* queue, const pk_haar_wara_merge_descriptor* descriptor, const HaarWaraPlan* plan, int32_t direction) {
  return PK_BUILD::dispatch(descriptor->source, descriptor->adapter,
                            [&](auto t, auto p) { return PK_BUILD::merge<typename decltype(t)::type, typename decltype(p)::type>(*queue, *descriptor, *plan, direction); });
}

}  // extern "C"
