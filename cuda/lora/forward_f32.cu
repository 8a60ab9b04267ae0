// The forward kernels for activations of f32.
#include "forward_launch.cuh"

namespace PK_BUILD {

template int32_t forward<float>(const ForwardLaunch&);
template int32_t prepare_forward<float>();

}  // namespace PK_BUILD
