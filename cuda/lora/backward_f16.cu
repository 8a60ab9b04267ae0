// The kernels of backward, and of its backward, for activations of f16.
#include "backward_launch.cuh"
#include "double_backward_launch.cuh"

namespace PK_BUILD {

template int32_t backward<f16>(const pk_queue&, const pk_lora_backward_descriptor&, const LoraBackwardPlan&);
template int32_t prepare_backward<f16>();
template int32_t double_backward<f16>(const pk_queue&, const pk_lora_double_backward_descriptor&, const LoraDoubleBackwardPlan&);

}  // namespace PK_BUILD
