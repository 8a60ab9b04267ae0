// The launcher of the magnitude's gradient.
#include "magnitude_gradient.cuh"

#include "../core/dispatch.h"
#include "../core/operations.h"
#include "../ptx/launch.cuh"
#include "forward_launch.h"

namespace PK_BUILD {
namespace {

template <class T>
int32_t magnitude_gradient(const pk_queue& queue, const pk_lora_magnitude_gradient_descriptor& descriptor) {
  const int64_t batches = descriptor.batch_count, m = descriptor.dy.rows, n = descriptor.dy.columns;
  if (n == 0) return PK_OK;
  const LoraOuterPlan plan = lora_magnitude_plan(descriptor);
  auto* sums = static_cast<float*>(descriptor.workspace);
  Operands operands;
  operands.read("dy", descriptor.dy, batches);
  operands.read("y", descriptor.y, batches);
  if (descriptor.bias.columns > 0) operands.read("bias", descriptor.bias, batches);
  operands.write_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  const MagnitudeGradientProblem<T> problem{batched<const T>(descriptor.dy), batched<const T>(descriptor.y), batched<const T>(descriptor.bias), batches, m, n, plan, sums};
  const Extent3 grid{static_cast<uint32_t>(plan.groups * plan.parts * tiles_of(n, MagnitudeGradientConfig::kTile)), 1, 1};
  const LaunchShape shape{"lora_magnitude_gradient_simt", grid, MagnitudeGradientConfig::kThreads, shared_bytes<MagnitudeGradientConfig::Shared>()};
  PK_TRY(launch(queue, shape, operands, lora_magnitude_gradient_simt<T>, problem));

  const bool accumulates = descriptor.mode == PK_GRADIENT_ACCUMULATE;
  Operands of_quotients;
  of_quotients.read_bytes("workspace", descriptor.workspace, descriptor.workspace_bytes);
  of_quotients.read("magnitude", descriptor.magnitude, plan.groups);
  if (accumulates) of_quotients.read_write("dmagnitude", descriptor.dmagnitude, plan.groups);
  else of_quotients.write("dmagnitude", descriptor.dmagnitude, plan.groups);
  of_quotients.read_write_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  const MagnitudeQuotients quotients{sums, n, plan, batched<const float>(descriptor.magnitude), batched<float>(descriptor.dmagnitude), accumulates, descriptor.status};
  const LaunchShape division{"lora_magnitude_gradient_divide", grid_of(tiles_of(plan.groups * n, kMagnitudeThreads)), kMagnitudeThreads, 0};
  return launch(queue, division, of_quotients, lora_magnitude_gradient_divide, quotients);
}

}  // namespace
}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_magnitude_gradient)(const pk_queue* queue, const pk_lora_magnitude_gradient_descriptor* descriptor) {
  return PK_BUILD::dispatch_type(descriptor->dy.element_type, [&](auto t) { return PK_BUILD::magnitude_gradient<typename decltype(t)::type>(*queue, *descriptor); });
}

int32_t PK_OPERATION(lora_magnitude_gradient_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_magnitude_gradient_divide));
  PK_TRY(prepare(lora_magnitude_gradient_simt<float>));
  PK_TRY(prepare(lora_magnitude_gradient_simt<f16>));
  return prepare(lora_magnitude_gradient_simt<bf16>);
}

}  // extern "C"
