// The launcher of the row norms.
#include "../core/dispatch.h"
#include "../core/operations.h"
#include "merge_launch.cuh"
#include "weight_norm.cuh"

namespace PK_BUILD {
namespace {

template <class T, class P>
int32_t weight_norm(const pk_queue& queue, const pk_lora_weight_norm_descriptor& descriptor) {
  using Config = MergeConfigOf<P>;
  const int64_t n = descriptor.w.rows, chunks = tiles_of(descriptor.w.columns, kLoraNormColumns);
  if (n == 0) return PK_OK;
  auto* sums = static_cast<float*>(descriptor.workspace);
  Operands operands;
  if (chunks > 0) {
    operands.read("w", descriptor.w, 1);
    operands.write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
    read_adapters(operands, descriptor.adapters, descriptor.adapter_count, descriptor.w, descriptor.adapter_element_type);
    const MergeProblem<T> problem = merge_problem<T>(descriptor.w, descriptor.adapters, descriptor.adapter_count, descriptor.adapter_element_type, 1);
    const Extent3 grid{static_cast<uint32_t>(tiles_of(n, kLoraMergeRows) * chunks), 1, 1};
    using Shared = typename WeightNormConfig<Config>::Shared;
    PK_TRY(launch(queue, {"lora_weight_norm_mma", grid, Config::Product::kThreads, shared_bytes<Shared>()}, operands, lora_weight_norm_mma<Config, T, P>, problem, sums));
  }
  Operands of_root;
  of_root.read_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  of_root.write_bytes("norm", descriptor.norm, static_cast<uint64_t>(n) * sizeof(float));
  if (descriptor.magnitude != nullptr) {
    of_root.read_bytes("magnitude", descriptor.magnitude, static_cast<uint64_t>(n) * sizeof(float));
    of_root.write_bytes("row_scale", descriptor.row_scale, static_cast<uint64_t>(n) * sizeof(float));
  }
  of_root.read_write_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  const Extent3 grid{static_cast<uint32_t>(tiles_of(n, kWeightNormThreads)), 1, 1};
  return launch(queue, {"lora_weight_norm_root", grid, kWeightNormThreads, 0}, of_root, lora_weight_norm_root,
                WeightNormRoot{sums, n, chunks, descriptor.eps, descriptor.norm, descriptor.magnitude, descriptor.row_scale, descriptor.status});
}

template <class T, class P>
int32_t prepare_all() {
  return prepare(lora_weight_norm_mma<MergeConfigOf<P>, T, P>);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_weight_norm_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_weight_norm_root));
  PK_TRY((prepare_all<float, float>()));
  PK_TRY((prepare_all<f16, f16>()));
  PK_TRY((prepare_all<f16, float>()));
  PK_TRY((prepare_all<bf16, bf16>()));
  return prepare_all<bf16, float>();
}

int32_t PK_OPERATION(lora_weight_norm)(const pk_queue* queue, const pk_lora_weight_norm_descriptor* descriptor) {
  return PK_BUILD::dispatch_types(descriptor->w.element_type, descriptor->adapter_element_type, [&](auto t, auto p) {
    return PK_BUILD::weight_norm<typename decltype(t)::type, typename decltype(p)::type>(*queue, *descriptor);
  });
}

}  // extern "C"
