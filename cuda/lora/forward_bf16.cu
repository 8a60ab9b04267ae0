// The forward kernels for activations of bf16.
#include "forward_launch.cuh"

namespace PK_BUILD {

template int32_t forward<bf16>(const ForwardLaunch&);
template int32_t prepare_forward<bf16>();
template int32_t shrink(const pk_queue&, const Operands&, const ForwardProblem<bf16>&, bool, bool);
template int32_t launch_middles<bf16>(const pk_queue&, const Operands&, const MiddleProblem&);

}  // namespace PK_BUILD
