// The backward kernels for activations of f32.
#include "backward_launch.cuh"

namespace PK_BUILD {

template int32_t backward<float>(const pk_queue&, const pk_lora_backward_descriptor&, const LoraBackwardPlan&);
template int32_t prepare_backward<float>();

}  // namespace PK_BUILD
