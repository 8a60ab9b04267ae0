// The backward kernels for activations of f16.
#include "backward_launch.cuh"

namespace PK_BUILD {

template int32_t backward<f16>(const pk_queue&, const pk_lora_backward_descriptor&, const LoraBackwardPlan&);
template int32_t prepare_backward<f16>();

}  // namespace PK_BUILD
