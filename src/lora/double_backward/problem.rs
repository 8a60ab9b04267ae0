//! A checked call, as the reference and the C side take it.

use super::{DoubleBackward, OPERATION};
use crate::check::{Check, LARGEST, Operand};
use crate::layout::extents;
use crate::lora::backward::{GradientProblem, gradient_matrix, gradient_mode};
use crate::lora::forward::input;
use crate::lora::{AdapterProblem, Gradient};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, Tensor, ffi};

impl<T: Element, P: Element, Q: Queue> DoubleBackward<'_, T, P, Q> {
    /// Checks shapes, types and strides; with a queue, addresses too.
    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<DoubleBackwardProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("x")?;
        let [x_batches, m, k] = self.x.extents();
        let [dy_batches, _, n] = self.dy.extents();
        // Any operand that is not one for all batches says how many there are.
        let of_rows = [&self.of_dy, &self.of_x].into_iter().flatten().map(|gradient| gradient.view.extents()[0]);
        let given = [x_batches, dy_batches].into_iter().chain(self.ux.as_ref().map(|ux| ux.extents()[0]));
        let batches = given.chain(of_rows).find(|&batches| batches != 1).unwrap_or(1);
        let matrix = |name, elements, shape| input(check, batches, name, elements, shape);
        let x = matrix("x", self.x.acquire(queue, guards)?, [m, k])?;
        let dy = matrix("dy", self.dy.acquire(queue, guards)?, [m, n])?;
        let optional = |name, given: &'s Option<Tensor<'_, T, Q, 3>>, shape, guards: &mut Vec<Guard<'s>>| {
            given.as_ref().map(|given| matrix(name, given.acquire(queue, guards)?, shape)).transpose()
        };
        let w = optional("w", &self.w, [n, k], guards)?;
        let adapter = match &self.adapter {
            None => None,
            Some(factors) => {
                let (a, b) = (factors.a.acquire(queue, guards)?, factors.b.acquire(queue, guards)?);
                let rank = a.extents[1];
                check.rank(rank)?;
                let (a, b) = (matrix("a", a, [rank, k])?, matrix("b", b, [n, rank])?);
                Some(AdapterProblem { a, b, scale: factors.scale })
            }
        };
        let rank = adapter.as_ref().map_or(0, AdapterProblem::rank);
        let of_no_adapter = |argument, got: [usize; 3]| {
            let expected = "none for a call without an adapter".into();
            Error::Argument { operation, argument, expected, got: extents(&got) }
        };
        let ux = optional("the cotangent of dx", &self.ux, [m, k], guards)?;
        let factor = |name, given: &'s Option<Tensor<'_, P, Q, 3>>, shape, guards: &mut Vec<Guard<'s>>| match given {
            None => Ok(None),
            Some(given) if adapter.is_none() => Err(of_no_adapter(name, given.extents())),
            Some(given) => matrix(name, given.acquire(queue, guards)?, shape).map(Some),
        };
        let ua = factor("the cotangent of da", &self.ua, [rank, k], guards)?;
        let ub = factor("the cotangent of db", &self.ub, [n, rank], guards)?;
        let rows = |name, given: &'s Option<Gradient<'_, T, Q>>, columns, guards: &mut Vec<Guard<'s>>| {
            let Some(gradient) = given else { return Ok(None) };
            let shape = [batches, m, columns];
            check.extents(name, gradient.view.extents(), shape)?;
            gradient.problem(check, name, shape, queue, guards).map(Some)
        };
        let of_dy = rows("the gradient of dy", &self.of_dy, n, guards)?;
        let of_x = rows("the gradient of x", &self.of_x, k, guards)?;
        let of_factor = |name, given: &'s Option<Gradient<'_, P, Q>>, [rows, columns]: [usize; 2], guards: &mut _| {
            let Some(gradient) = given else { return Ok(None) };
            if adapter.is_none() {
                return Err(of_no_adapter(name, gradient.view.extents()));
            }
            gradient.problem(check, name, [batches, rows, columns], queue, guards).map(Some)
        };
        let of_a = of_factor("the gradient of a", &self.of_a, [rank, k], guards)?;
        let of_b = of_factor("the gradient of b", &self.of_b, [n, rank], guards)?;
        // That there are so many rows was checked of the operand with the batches.
        let largest = (batches * m).max(k).max(n);
        if largest.saturating_mul(rank) > LARGEST {
            return Err(Error::Argument {
                operation,
                argument: "the number of rows or columns times the rank",
                expected: "at most 2^48".into(),
                got: format!("{largest} times {rank}"),
            });
        }
        let (element_types, algorithm, flags) = ([T::TYPE, P::TYPE], self.algorithm, self.flags);
        Ok(DoubleBackwardProblem {
            batches,
            m,
            n,
            k,
            x,
            dy,
            w,
            adapter,
            ux,
            ua,
            ub,
            of_dy,
            of_x,
            of_a,
            of_b,
            element_types,
            algorithm,
            flags,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct DoubleBackwardProblem {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub x: Elements<3>,
    pub dy: Elements<3>,
    pub w: Option<Elements<3>>,
    pub adapter: Option<AdapterProblem>,
    /// Cotangents of the gradients of x, A and B.
    pub ux: Option<Elements<3>>,
    pub ua: Option<Elements<3>>,
    pub ub: Option<Elements<3>>,
    pub of_dy: Option<GradientProblem>,
    pub of_x: Option<GradientProblem>,
    pub of_a: Option<GradientProblem>,
    pub of_b: Option<GradientProblem>,
    element_types: [ElementType; 2],
    algorithm: i32,
    flags: u32,
}

impl DoubleBackwardProblem {
    pub(super) fn check_disjoint(&self, workspace: (u64, usize)) -> Result<()> {
        let gradients = [
            ("the gradient of dy", &self.of_dy),
            ("the gradient of x", &self.of_x),
            ("the gradient of a", &self.of_a),
            ("the gradient of b", &self.of_b),
        ];
        let given = |(name, gradient): (&str, &Option<GradientProblem>)| {
            gradient.as_ref().map(|gradient| Operand::new(name, gradient.elements))
        };
        let mut outputs: Vec<_> = gradients.into_iter().filter_map(given).collect();
        outputs.push(Operand::bytes("the workspace", workspace.0, workspace.1));
        let (a, b) = self.adapter.as_ref().map(|adapter| (adapter.a, adapter.b)).unzip();
        let inputs = [
            ("x", Some(self.x)),
            ("dy", Some(self.dy)),
            ("w", self.w),
            ("a", a),
            ("b", b),
            ("the cotangent of dx", self.ux),
            ("the cotangent of da", self.ua),
            ("the cotangent of db", self.ub),
        ];
        let inputs: Vec<_> =
            inputs.into_iter().filter_map(|(name, given)| given.map(|given| Operand::new(name, given))).collect();
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    /// The descriptor of the C side.
    pub(super) fn descriptor(&self, workspace: (u64, usize)) -> ffi::pk_lora_double_backward_descriptor {
        let [element_type, of_adapter] = self.element_types;
        let matrix = |elements: Option<&Elements<3>>, element_type| {
            elements.map_or_else(Default::default, |elements| elements.matrix(element_type))
        };
        let cotangents = [
            (self.ux.is_some(), ffi::PK_LORA_COTANGENT_X),
            (self.ua.is_some(), ffi::PK_LORA_COTANGENT_A),
            (self.ub.is_some(), ffi::PK_LORA_COTANGENT_B),
        ];
        let cotangents =
            cotangents.into_iter().filter(|(given, _)| *given).map(|(_, cotangent)| cotangent as u32).sum();
        let adapter = self.adapter.as_ref();
        let mut descriptor = ffi::pk_lora_double_backward_descriptor {
            size: size_of::<ffi::pk_lora_double_backward_descriptor>() as u64,
            algorithm: self.algorithm,
            flags: self.flags,
            batch_count: self.batches as i64,
            base: if self.w.is_some() { ffi::PK_LORA_BASE_DENSE } else { ffi::PK_LORA_BASE_NONE },
            adapter_element_type: of_adapter as i32,
            x: self.x.matrix(element_type),
            dy: self.dy.matrix(element_type),
            w: matrix(self.w.as_ref(), element_type),
            a: matrix(adapter.map(|adapter| &adapter.a), of_adapter),
            b: matrix(adapter.map(|adapter| &adapter.b), of_adapter),
            scale: adapter.map_or(0.0, |adapter| adapter.scale),
            cotangents,
            ux: matrix(self.ux.as_ref(), element_type),
            ua: matrix(self.ua.as_ref(), of_adapter),
            ub: matrix(self.ub.as_ref(), of_adapter),
            dy_gradient: gradient_mode(self.of_dy.as_ref()),
            x_gradient: gradient_mode(self.of_x.as_ref()),
            a_gradient: gradient_mode(self.of_a.as_ref()),
            b_gradient: gradient_mode(self.of_b.as_ref()),
            ddy: gradient_matrix(self.of_dy.as_ref(), element_type),
            dx: gradient_matrix(self.of_x.as_ref(), element_type),
            da: gradient_matrix(self.of_a.as_ref(), of_adapter),
            db: gradient_matrix(self.of_b.as_ref(), of_adapter),
            workspace: workspace.0 as *mut _,
            workspace_bytes: workspace.1 as u64,
        };
        if self.batches == 0 {
            // The C side reads no batches as one: without rows, sums over rows are empty as well.
            for matrix in [&mut descriptor.x, &mut descriptor.dy, &mut descriptor.ux] {
                matrix.rows = 0;
            }
        }
        descriptor
    }

    /// Bytes of the workspace, aligned.
    pub(super) fn workspace(&self, operation: &'static str) -> Result<usize> {
        let (mut bytes, descriptor) = (0u64, self.descriptor((0, 0)));
        ffi::call!(operation, pk_lora_double_backward_workspace(&descriptor, &mut bytes))?;
        Ok(bytes as usize)
    }
}
