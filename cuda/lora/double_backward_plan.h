// What a call of backward's backward makes on its way, and in how many parts: pure functions of the shape, so that the bits do not depend on the chip.
#pragma once

#include "backward_plan.h"

// How such a call is run: what `pick` decides.
struct LoraDoubleBackwardPlan {
  int32_t algorithm;  // PK_LORA_BACKWARD_*: that of the gradients of dy and x
  int32_t tf32;       // whether f32 is multiplied as one number of tf32
  int32_t h_planes;   // parts of k in which ux * A^T, x * ua^T and x * A^T are made, which add up to them
  int32_t d_planes;   // parts of n, of dy * B and dy * ub
};

// The intermediates [batches * m, rank] that a call needs: H1 = ux * A^T + x * ua^T, H0 = x * A^T, D0 = dy * B, D1 = dy * ub.
struct LoraDoubleBackwardNeeds {
  bool ux, ua, ub;      // cotangents that there are; of a rank of 0 those of the factors have no elements
  bool h1_ux, h1_ua, h0, d0, d1;  // H1 by the terms that it has

  int32_t h1_terms() const { return h1_ux + h1_ua; }
};

static inline LoraDoubleBackwardNeeds lora_double_backward_needs(const pk_lora_double_backward_descriptor& descriptor) {
  const bool rank = descriptor.a.rows > 0, of_dy = descriptor.dy_gradient != PK_GRADIENT_NONE, of_x = descriptor.x_gradient != PK_GRADIENT_NONE;
  const bool of_a = descriptor.a_gradient != PK_GRADIENT_NONE, of_b = descriptor.b_gradient != PK_GRADIENT_NONE;
  LoraDoubleBackwardNeeds needs{};
  needs.ux = (descriptor.cotangents & PK_LORA_COTANGENT_X) != 0;
  needs.ua = rank && (descriptor.cotangents & PK_LORA_COTANGENT_A) != 0;
  needs.ub = rank && (descriptor.cotangents & PK_LORA_COTANGENT_B) != 0;
  needs.h1_ux = rank && needs.ux && (of_dy || of_b);
  needs.h1_ua = needs.ua && (of_dy || of_b);
  needs.h0 = needs.ub && of_dy;
  needs.d0 = rank && ((needs.ua && of_x) || (needs.ux && of_a));
  needs.d1 = needs.ub && (of_x || of_a);
  return needs;
}

// The sums over rows of dy^T * H1, and of ux^T * D0 and x^T * D1, which are alike.
static inline LoraOuterPlan lora_double_b_plan(const pk_lora_double_backward_descriptor& descriptor) {
  return lora_outer_plan(descriptor.batch_count, descriptor.dy.rows, descriptor.dy.columns, descriptor.a.rows, false, descriptor.batch_count > 1 && descriptor.db.batch_stride != 0);
}
static inline LoraOuterPlan lora_double_a_plan(const pk_lora_double_backward_descriptor& descriptor) {
  return lora_outer_plan(descriptor.batch_count, descriptor.x.rows, descriptor.x.columns, descriptor.a.rows, false, descriptor.batch_count > 1 && descriptor.da.batch_stride != 0);
}

// The parts of the workspace, in floats, one after the other: the intermediates in planes, and what passes over rows leave.
struct LoraDoubleBackwardLayout {
  double h1, h0, d0, d1, sums;

  double floats() const { return h1 + h0 + d0 + d1 + sums; }
};

// In floating point nobody overflows.
static inline LoraDoubleBackwardLayout lora_double_backward_layout(const pk_lora_double_backward_descriptor& descriptor, int32_t h_planes, int32_t d_planes) {
  const LoraDoubleBackwardNeeds needs = lora_double_backward_needs(descriptor);
  const double rank = static_cast<double>(descriptor.a.rows), plane = static_cast<double>(descriptor.batch_count) * static_cast<double>(descriptor.x.rows) * rank;
  LoraDoubleBackwardLayout layout{plane * h_planes * needs.h1_terms(), needs.h0 ? plane * h_planes : 0, needs.d0 ? plane * d_planes : 0, needs.d1 ? plane * d_planes : 0, 0};
  const auto pass = [&](const LoraOuterPlan& plan, int64_t columns, int32_t passes) {
    const double floats = static_cast<double>(plan.groups) * static_cast<double>(plan.parts) * static_cast<double>(columns) * rank * (passes > 1 ? passes : 1);
    layout.sums = layout.sums < floats ? floats : layout.sums;
  };
  if (descriptor.a_gradient != PK_GRADIENT_NONE) pass(lora_double_a_plan(descriptor), descriptor.x.columns, needs.ux + needs.ub);
  if (descriptor.b_gradient != PK_GRADIENT_NONE) pass(lora_double_b_plan(descriptor), descriptor.dy.columns, 1);
  return layout;
}

// The longest chains of roundings. An intermediate: its products, warps or lanes, planes; of H1 those of both terms. The gradient of dy: the products with W, those of two branches, one scale and sum
// each, and the last sums; of x the two branches. Those of factors: the sums over rows in parts, of two passes; scale and what is added to.
static inline int64_t lora_double_backward_simt_rounding_steps(int64_t k, int64_t n, int64_t rank, int64_t rows, int64_t parts) {
  const int64_t h = lora_up(k, 32) + 5 + 3, d = lora_up(n, 32) + 5, longest = h > d ? h : d;
  const int64_t of_factors = longest + rows + 2 * parts + 4, of_rows = k + longest + 2 * rank + 2 * 2 + 4;
  return of_factors > of_rows ? of_factors : of_rows;
}

static inline int64_t lora_double_backward_mma_rounding_steps(LoraMath base_math, LoraMath shrink_math, int64_t k, int64_t n, int64_t rank, int64_t rows, int64_t parts,
                                                              const LoraDoubleBackwardPlan& plan) {
  const auto three = [](int64_t depth) { return lora_mma_rounding_steps(LoraMath::three_tf32, depth); };
  const int64_t h = lora_mma_rounding_steps(shrink_math, k) + 2 * plan.h_planes + 2, d = lora_mma_rounding_steps(shrink_math, n) + plan.d_planes + 2, longest = h > d ? h : d;
  const int64_t of_factors = longest + three(rows) + 2 * parts + 4, of_rows = lora_mma_rounding_steps(base_math, k) + longest + three(2 * rank) + 8;
  return of_factors > of_rows ? of_factors : of_rows;
}
