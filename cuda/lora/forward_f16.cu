// The forward kernels for activations of f16.
#include "forward_launch.cuh"

namespace PK_BUILD {

template int32_t forward<f16>(const ForwardLaunch&);
template int32_t prepare_forward<f16>();
template int32_t shrink(const pk_queue&, const Operands&, const ForwardProblem<f16>&, bool, bool);
template int32_t launch_middles<f16>(const pk_queue&, const Operands&, const MiddleProblem&);

}  // namespace PK_BUILD
