// How a call of backward's backward becomes launches, for activations of type T: the intermediates of rank columns, by one pass over each of x, ux and dy; the gradients of dy and x, as backward makes
// that of x; a pass over dy for B's, and one over each of ux and x for A's.
//
// H1 = ux * A^T + x * ua^T, H0 = x * A^T, D0 = dy * B, D1 = dy * ub. ddy = ux * W^T + scale * (H1 * B^T + H0 * ub^T); dx = scale * (D1 * A + D0 * ua); da = scale * (D0^T * ux + D1^T * x);
// db = scale * dy^T * H1.
#pragma once

#include <initializer_list>

#include "double_backward_launch.h"
#include "gradient_launch.cuh"
#include "shrink_problem.cuh"

namespace PK_BUILD {
namespace {

// A call, and where its intermediates are in the workspace.
template <class T>
class DoubleBackward {
 public:
  DoubleBackward(const pk_queue& queue, const pk_lora_double_backward_descriptor& descriptor, const LoraDoubleBackwardPlan& plan)
      : queue_(queue), descriptor_(descriptor), plan_(plan), needs_(lora_double_backward_needs(descriptor)), batches_(descriptor.batch_count), m_(descriptor.x.rows), k_(descriptor.x.columns),
        n_(descriptor.dy.columns), rank_(descriptor.a.rows), plane_(batches_ * m_ * rank_), simt_(plan.algorithm == PK_LORA_BACKWARD_SIMT) {
    const LoraDoubleBackwardLayout layout = lora_double_backward_layout(descriptor, plan.h_planes, plan.d_planes);
    h1_ = static_cast<float*>(descriptor.workspace);
    h0_ = h1_ + static_cast<int64_t>(layout.h1);
    d0_ = h0_ + static_cast<int64_t>(layout.h0);
    d1_ = d0_ + static_cast<int64_t>(layout.d0);
    sums_ = d1_ + static_cast<int64_t>(layout.d1);
    name_operands();
  }

  int32_t run() const {
    PK_TRY(make_intermediates());
    if (descriptor_.dy_gradient != PK_GRADIENT_NONE) PK_TRY(gradient_of_dy());
    if (descriptor_.x_gradient != PK_GRADIENT_NONE) PK_TRY(gradient_of_x());
    if (descriptor_.a_gradient != PK_GRADIENT_NONE) PK_TRY(of_adapters() ? gradient_of_a<float>() : gradient_of_a<T>());
    if (descriptor_.b_gradient != PK_GRADIENT_NONE) PK_TRY(of_adapters() ? gradient_of_b<float>() : gradient_of_b<T>());
    return PK_OK;
  }

 private:
  // Whether the adapter's numbers are f32.
  bool of_adapters() const { return descriptor_.adapter_element_type == PK_F32; }

  // All that the launches of the call may touch.
  void name_operands() {
    const auto gradient = [&](const char* name, const pk_matrix& matrix, int32_t mode) {
      if (mode == PK_GRADIENT_OVERWRITE) operands_.write(name, matrix, batches_of(matrix, batches_));
      if (mode == PK_GRADIENT_ACCUMULATE) operands_.read_write(name, matrix, batches_of(matrix, batches_));
    };
    operands_.read("x", descriptor_.x, batches_);
    operands_.read("dy", descriptor_.dy, batches_);
    if (descriptor_.base == PK_LORA_BASE_DENSE) operands_.read("w", descriptor_.w, batches_);
    if (rank_ > 0) {
      operands_.read("a", descriptor_.a, batches_);
      operands_.read("b", descriptor_.b, batches_);
    }
    if (needs_.ux) operands_.read("ux", descriptor_.ux, batches_);
    if (needs_.ua) operands_.read("ua", descriptor_.ua, batches_);
    if (needs_.ub) operands_.read("ub", descriptor_.ub, batches_);
    operands_.read_write_bytes("workspace", descriptor_.workspace, descriptor_.workspace_bytes);
    gradient("ddy", descriptor_.ddy, descriptor_.dy_gradient);
    gradient("dx", descriptor_.dx, descriptor_.x_gradient);
    gradient("da", descriptor_.da, descriptor_.a_gradient);
    gradient("db", descriptor_.db, descriptor_.b_gradient);
  }

  // ---- intermediates ---------------------------------------------------------------------------------------------------------------------------------------

  // left * factor^T, or left * factor, at `to`, if it is needed.
  struct Shrunk {
    bool needed;
    const pk_matrix& factor;
    bool transposes;
    float* to;
  };

  // All that is made of one matrix, in planes.
  int32_t shrink_all(const pk_matrix& left, int32_t planes, std::initializer_list<Shrunk> wanted) const {
    ForwardProblem<T> problem{};
    int32_t count = 0;
    for (const Shrunk& shrunk : wanted) {
      if (!shrunk.needed) continue;
      const Factor factor = shrunk.transposes ? transposed(factor_of(shrunk.factor)) : factor_of(shrunk.factor);
      const int64_t batch_bytes = shrunk.factor.batch_stride * bytes_of(descriptor_.adapter_element_type);
      const ForwardProblem<T> one = shrink_problem<T>(left, batches_, factor, batch_bytes, rank_, rank_, descriptor_.adapter_element_type, shrunk.to);
      if (count == 0) problem = one;
      problem.targets[count++] = one.targets[0];
    }
    if (count == 0) return PK_OK;
    problem.target_count = count;
    problem.h_planes = planes;
    return shrink(queue_, operands_, problem, simt_, plan_.tf32 != 0);
  }

  // The sum of planes in place of the first.
  int32_t add_planes(float* first, int32_t planes) const {
    if (planes <= 1) return PK_OK;
    return launch_add_parts<float>(queue_, operands_, {first, plane_, rank_, planes, 1, batches_ * m_, rank_, 1.0f, 0, {{first, rank_, 1}, 0}, nullptr, {}, 0});
  }

  int32_t make_intermediates() const {
    if (plane_ == 0) return PK_OK;
    float* of_ua = h1_ + (needs_.h1_ux ? plan_.h_planes * plane_ : 0);
    PK_TRY(shrink_all(descriptor_.ux, plan_.h_planes, {{needs_.h1_ux, descriptor_.a, false, h1_}}));
    PK_TRY(shrink_all(descriptor_.x, plan_.h_planes, {{needs_.h1_ua, descriptor_.ua, false, of_ua}, {needs_.h0, descriptor_.a, false, h0_}}));
    PK_TRY(shrink_all(descriptor_.dy, plan_.d_planes, {{needs_.d0, descriptor_.b, true, d0_}, {needs_.d1, descriptor_.ub, true, d1_}}));
    PK_TRY(add_planes(h1_, plan_.h_planes * needs_.h1_terms()));
    if (needs_.h0) PK_TRY(add_planes(h0_, plan_.h_planes));
    if (needs_.d0) PK_TRY(add_planes(d0_, plan_.d_planes));
    return needs_.d1 ? add_planes(d1_, plan_.d_planes) : PK_OK;
  }

  // ---- gradients of dy and x -------------------------------------------------------------------------------------------------------------------------------

  // Of no part: zeros, or what is there.
  InputGradientProblem<T> of_rows(const pk_matrix& gradient, int32_t mode) const {
    InputGradientProblem<T> problem{};
    problem.of.batches = batches_;
    problem.of.m = m_;
    problem.of.h_planes = 1;
    problem.of.splits = 1;
    problem.of.targets[0].count = gradient.columns;  // of which tiles are counted, be there a part or not
    problem.dx.y = batched<T>(gradient);
    problem.dx.n = gradient.columns;
    problem.dx.base = mode == PK_GRADIENT_ACCUMULATE ? PK_LORA_BASE_IN_Y : PK_LORA_BASE_NONE;
    return problem;
  }

  // One more part, scale * h * factor^T; with rank 0 nothing yet. `of`: the matrix that the factor is.
  ForwardTarget<T>& add_branch_to(InputGradientProblem<T>& problem, float* h, const Factor& factor, const pk_matrix& of) const {
    ForwardTarget<T>& target = problem.of.targets[problem.of.target_count++];
    target.base = PK_LORA_BASE_NONE;
    target.n = problem.dx.n;
    target.h = h;
    AdapterSet& adapters = target.adapters;
    adapters.one = {factor, factor, rank_, descriptor_.scale};
    adapters.b_batch_bytes = of.batch_stride * bytes_of(descriptor_.adapter_element_type);
    adapters.count = 1;
    adapters.max_rank = rank_;
    adapters.in_f32 = in_f32(descriptor_.adapter_element_type, descriptor_.x.element_type);
    adapters.factor = 1.0f;
    return target;
  }

  int32_t write_rows(const InputGradientProblem<T>& problem) const { return launch_input_gradient(queue_, operands_, problem, plan_.algorithm, plan_.tf32 != 0, false); }

  int32_t gradient_of_dy() const {
    InputGradientProblem<T> problem = of_rows(descriptor_.ddy, descriptor_.dy_gradient);
    if (needs_.ux || needs_.ua) {
      ForwardTarget<T>& target = add_branch_to(problem, h1_, factor_of(descriptor_.b), descriptor_.b);
      if (needs_.ux && descriptor_.base == PK_LORA_BASE_DENSE) {
        target.base = PK_LORA_BASE_DENSE;
        target.w = batched<const T>(descriptor_.w);
        problem.dy[0] = batched<const T>(descriptor_.ux);
        problem.depth[0] = k_;
      }
    }
    if (needs_.ub) add_branch_to(problem, h0_, factor_of(descriptor_.ub), descriptor_.ub);
    return write_rows(problem);
  }

  int32_t gradient_of_x() const {
    InputGradientProblem<T> problem = of_rows(descriptor_.dx, descriptor_.x_gradient);
    if (needs_.ub) add_branch_to(problem, d1_, transposed(factor_of(descriptor_.a)), descriptor_.a);
    if (needs_.ua) add_branch_to(problem, d0_, transposed(factor_of(descriptor_.ua)), descriptor_.ua);
    return write_rows(problem);
  }

  // ---- gradients of the factors ----------------------------------------------------------------------------------------------------------------------------

  // left^T * h over rows, in the parts of a plan.
  int32_t pass(const pk_matrix& left, const float* h, const LoraOuterPlan& plan, float* sums) const {
    OuterProblem<T> problem{};
    problem.left = batched<const T>(left);
    problem.batches = batches_;
    problem.m = m_;
    problem.columns = left.columns;
    problem.plan = plan;
    problem.rank = rank_;
    problem.makes_sums = 1;
    problem.h = {h, m_ * rank_, rank_, 1, 1, 1, 0};
    problem.sums = sums;
    return launch_outer(queue_, operands_, problem, simt_);
  }

  // Of no pass: zeros, or what is there, whatever the scale.
  template <class G>
  static void leave_out(AddedParts<G>& parts) {
    parts.planes = 0;
    parts.scale = 1.0f;
  }

  // The parts of both passes follow each other, and are added up at once: one rounding to the gradient's type.
  template <class G>
  int32_t gradient_of_a() const {
    if (rank_ == 0) return PK_OK;
    const LoraOuterPlan plan = lora_double_a_plan(descriptor_);
    AddedParts<G> parts = added_parts<G>(sums_, plan, batches_, k_ * rank_, rank_, k_, rank_, descriptor_.scale, descriptor_.a_gradient, descriptor_.da, true);
    float* second = sums_ + (needs_.ux ? plan.groups * plan.parts * k_ * rank_ : 0);
    if (needs_.ux) PK_TRY(pass(descriptor_.ux, d0_, plan, sums_));
    if (needs_.ub) PK_TRY(pass(descriptor_.x, d1_, plan, second));
    if (needs_.ux && needs_.ub) parts.more = second;
    if (!needs_.ux && !needs_.ub) leave_out(parts);
    return launch_add_parts(queue_, operands_, parts);
  }

  template <class G>
  int32_t gradient_of_b() const {
    if (rank_ == 0) return PK_OK;
    const LoraOuterPlan plan = lora_double_b_plan(descriptor_);
    AddedParts<G> parts = added_parts<G>(sums_, plan, batches_, n_ * rank_, rank_, n_, rank_, descriptor_.scale, descriptor_.b_gradient, descriptor_.db, false);
    if (needs_.h1_terms() > 0) PK_TRY(pass(descriptor_.dy, h1_, plan, sums_));
    else leave_out(parts);
    return launch_add_parts(queue_, operands_, parts);
  }

  const pk_queue& queue_;
  const pk_lora_double_backward_descriptor& descriptor_;
  const LoraDoubleBackwardPlan& plan_;
  const LoraDoubleBackwardNeeds needs_;
  const int64_t batches_, m_, k_, n_, rank_, plane_;
  const bool simt_;
  float *h1_ = nullptr, *h0_ = nullptr, *d0_ = nullptr, *d1_ = nullptr, *sums_ = nullptr;
  Operands operands_;
};

}  // namespace

template <class T>
int32_t double_backward(const pk_queue& queue, const pk_lora_double_backward_descriptor& descriptor, const LoraDoubleBackwardPlan& plan) {
  return DoubleBackward<T>(queue, descriptor, plan).run();
}

}  // namespace PK_BUILD
