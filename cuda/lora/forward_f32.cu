// The forward kernels for activations of f32.
#include "forward_launch.cuh"

namespace PK_BUILD {

template int32_t forward<float>(const ForwardLaunch&);
template int32_t prepare_forward<float>();
template int32_t shrink(const pk_queue&, const Operands&, const ForwardProblem<float>&, bool, bool);
template int32_t launch_middles<float>(const pk_queue&, const Operands&, const MiddleProblem&);

}  // namespace PK_BUILD
