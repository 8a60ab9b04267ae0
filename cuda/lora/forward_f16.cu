// The forward kernels for activations of f16.
#include "forward_launch.cuh"

namespace PK_BUILD {

template int32_t forward<f16>(const ForwardLaunch&);
template int32_t prepare_forward<f16>();

}  // namespace PK_BUILD
