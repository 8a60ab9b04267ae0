//! A checked call, as the reference and the C side take it.

use super::{Backward, BackwardTarget, Factors, Gradient, OPERATION, SavedH};
use crate::check::{Check, LARGEST, Operand};
use crate::layout::extents;
use crate::lora::forward::{as_rows, input};
use crate::lora::{AdapterProblem, Dropout, Middle, MiddleProblem, SamplesProblem};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, StatusRecord, ffi};

/// Targets that one call can take: as many as a kernel's parameters hold.
const MAX_TARGETS: usize = ffi::PK_LORA_BACKWARD_TARGETS as usize;

impl<T: Element, P: Element, Q: Queue> Backward<'_, T, P, Q> {
    /// Checks shapes, types and strides; with a queue, addresses too.
    pub(crate) fn problem<'s>(&'s self, queue: Option<&'s Q>, guards: &mut Vec<Guard<'s>>) -> Result<BackwardProblem> {
        let check = Check(OPERATION);
        check.element_types::<T, P>()?;
        let [x_batches, m, k] = self.x.extents();
        // Any operand that is not one for all batches says how many there are.
        let given = self.targets.iter().map(|target| target.dy.extents()[0]);
        let of_dx = self.dx.as_ref().map(|gradient| gradient.view.extents()[0]);
        let batches = given.chain(of_dx).chain([x_batches]).find(|&batches| batches != 1).unwrap_or(1);
        let input = Inputs { check, batches };
        let x = input.matrix("x", self.x.acquire(queue, guards)?, [m, k])?;
        if self.targets.len() > MAX_TARGETS {
            let (expected, got) = (format!("at most {MAX_TARGETS}"), self.targets.len().to_string());
            return Err(Error::Argument { operation: OPERATION, argument: "the number of targets", expected, got });
        }
        let dx = match &self.dx {
            None => None,
            Some(gradient) => {
                check.extents("the gradient of x", gradient.view.extents(), [batches, m, k])?;
                Some(gradient.problem(check, "the gradient of x", [batches, m, k], queue, guards)?)
            }
        };
        let targets = self
            .targets
            .iter()
            .map(|target| target.problem(&input, [m, k], queue, guards))
            .collect::<Result<Vec<_>>>()?;
        let ranks = targets.iter().map(BackwardTargetProblem::most_rank).fold(0, usize::saturating_add);
        if (batches * m).max(k).saturating_mul(ranks) > LARGEST {
            return Err(Error::Argument {
                operation: OPERATION,
                argument: "the number of rows or columns times all ranks",
                expected: "at most 2^48".into(),
                got: format!("{} times {ranks}", (batches * m).max(k)),
            });
        }
        if let Some(dropout) = &self.dropout {
            dropout.check(check, batches * m, k)?;
        }
        let weights = match &self.weights {
            None => None,
            Some((samples, weights)) => {
                let samples = samples.problem(check, batches * m, queue, guards)?;
                let weights = weights.acquire(queue, guards)?;
                check.extents("sample weights", weights.extents, [samples.count])?;
                check.contiguous("sample weights", &weights)?;
                check.alignment("sample weights", &weights)?;
                Some((samples, weights.address))
            }
        };
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(OPERATION, queue, guards)?,
            _ => 0,
        };
        let (element_types, dropout) = ([T::TYPE, P::TYPE], self.dropout);
        let (algorithm, flags) = (self.algorithm, self.flags);
        Ok(BackwardProblem { batches, m, k, x, dx, targets, dropout, weights, status, element_types, algorithm, flags })
    }
}

/// How inputs are checked: one for all batches, or one for each.
struct Inputs {
    check: Check,
    batches: usize,
}

impl Inputs {
    fn matrix(&self, name: &'static str, elements: Elements<3>, shape: [usize; 2]) -> Result<Elements<3>> {
        input(self.check, self.batches, name, elements, shape)
    }
}

impl<T: Element, Q: Queue> Gradient<'_, T, Q> {
    /// Of a matrix, one for all batches or one for each.
    pub(in crate::lora) fn problem<'s>(
        &'s self,
        check: Check,
        name: &'static str,
        [batches, rows, columns]: [usize; 3],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<GradientProblem> {
        checked(check, name, self.view.acquire(queue, guards)?, [batches, rows, columns], self.accumulate)
    }
}

fn checked(
    check: Check,
    name: &'static str,
    elements: Elements<3>,
    [batches, rows, columns]: [usize; 3],
    accumulate: bool,
) -> Result<GradientProblem> {
    check.batched(name, elements.extents, batches, [rows, columns])?;
    check.stride(name, &elements)?;
    check.alignment(name, &elements)?;
    check.size(name, &elements)?;
    Ok(GradientProblem { elements, accumulate })
}

impl<T: Element, P: Element, Q: Queue> BackwardTarget<'_, T, P, Q> {
    fn problem<'s>(
        &'s self,
        input: &Inputs,
        [m, k]: [usize; 2],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<BackwardTargetProblem> {
        let Inputs { check, batches } = *input;
        let n = self.dy.extents()[2];
        let dy = input.matrix("dy", self.dy.acquire(queue, guards)?, [m, n])?;
        let w = match &self.w {
            None => None,
            Some(w) => Some(input.matrix("w", w.acquire(queue, guards)?, [n, k])?),
        };
        let adapter = match &self.adapter {
            None => None,
            Some(Factors { a, b, scale }) => {
                let (a, b) = (a.acquire(queue, guards)?, b.acquire(queue, guards)?);
                let rank = a.extents[1];
                let keeps_rank = self.middle.as_ref().is_none_or(Middle::keeps_rank);
                let after = if keeps_rank { rank } else { b.extents[2] };
                check.rank(rank)?;
                check.rank(after)?;
                let (a, b) = (input.matrix("a", a, [rank, k])?, input.matrix("b", b, [n, after])?);
                Some(AdapterProblem { a, b, scale: *scale })
            }
        };
        let row_scale = match &self.row_scale {
            None => None,
            Some(scale) => Some(input.matrix("row_scale", as_rows(scale.acquire(queue, guards)?), [1, n])?),
        };
        let [rank, after] = adapter.as_ref().map_or([0, 0], |adapter| [adapter.rank(), adapter.b.extents[2]]);
        let middle = match &self.middle {
            None => None,
            Some(middle) if adapter.is_some() => {
                Some(middle.problem(check, [batches, m], [rank, after], queue, guards)?)
            }
            Some(_) => {
                return Err(Error::Argument {
                    operation: check.0,
                    argument: "a middle",
                    expected: "one for a target with one adapter".into(),
                    got: "that of no adapter".into(),
                });
            }
        };
        let columns = middle.as_ref().map_or(rank, |middle| middle.columns(rank));
        let h = match &self.h {
            SavedH::None => None,
            SavedH::Own(h) => Some((input.matrix("saved h", h.acquire(queue, guards)?, [m, columns])?, T::TYPE)),
            SavedH::F32(h) => {
                Some((input.matrix("saved h", h.acquire(queue, guards)?, [m, columns])?, ElementType::F32))
            }
        };
        let factor = |gradient: &'s Option<Gradient<'_, P, Q>>, name, rows, columns, guards: &mut Vec<Guard<'s>>| {
            let Some(gradient) = gradient else { return Ok(None) };
            if adapter.is_none() {
                return Err(Error::Argument {
                    operation: check.0,
                    argument: name,
                    expected: "none for a target without an adapter".into(),
                    got: extents(&gradient.view.extents()),
                });
            }
            gradient.problem(check, name, [batches, rows, columns], queue, guards).map(Some)
        };
        let a = factor(&self.a, "the gradient of a", rank, k, guards)?;
        let b = factor(&self.b, "the gradient of b", n, after, guards)?;
        let absent = |name, got| {
            let expected = "none for a target whose middle has no such part".into();
            Err(Error::Argument { operation: check.0, argument: name, expected, got })
        };
        let part = |part: fn(&MiddleProblem) -> bool| middle.as_ref().is_some_and(part);
        let scale = match &self.scale {
            None => None,
            Some(gradient) => {
                let (name, elements) = ("the gradient of the scale", as_rows(gradient.view.acquire(queue, guards)?));
                if !part(|middle| middle.scale.is_some()) {
                    return absent(name, extents(&gradient.view.extents()));
                }
                Some(checked(check, name, elements, [batches, 1, rank], gradient.accumulate)?)
            }
        };
        let gate = match &self.gate {
            None => None,
            Some(gradient) => {
                let (name, got) = ("the gradient of the gate", gradient.view.extents());
                if !part(|middle| middle.gate.is_some()) {
                    return absent(name, extents(&got));
                }
                check.extents(name, got, [batches, m, rank])?;
                Some(gradient.problem(check, name, [batches, m, rank], queue, guards)?)
            }
        };
        let core = match &self.core {
            None => None,
            Some(gradient) => {
                let name = "the gradient of the core";
                if !part(|middle| middle.core.is_some()) {
                    return absent(name, extents(&gradient.view.extents()));
                }
                Some(gradient.problem(check, name, [batches, after, rank], queue, guards)?)
            }
        };
        let bias = match &self.bias {
            None => None,
            Some(gradient) => {
                let elements = as_rows(gradient.view.acquire(queue, guards)?);
                let name = "the gradient of the bias";
                Some(checked(check, name, elements, [batches, 1, n], gradient.accumulate)?)
            }
        };
        Ok(BackwardTargetProblem { n, dy, w, adapter, middle, row_scale, h, a, b, bias, scale, gate, core })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct BackwardProblem {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Elements<3>,
    pub dx: Option<GradientProblem>,
    pub targets: Vec<BackwardTargetProblem>,
    pub dropout: Option<Dropout>,
    /// Samples, and where their weights are.
    pub weights: Option<(SamplesProblem, u64)>,
    /// Of a [`StatusRecord`], or 0.
    pub status: u64,
    element_types: [ElementType; 2],
    algorithm: i32,
    flags: u32,
}

/// A gradient's elements: [1, rows, columns] is the sum over batches.
pub(crate) struct GradientProblem {
    pub elements: Elements<3>,
    pub accumulate: bool,
}

pub(crate) struct BackwardTargetProblem {
    pub n: usize,
    pub dy: Elements<3>,
    pub w: Option<Elements<3>>,
    pub adapter: Option<AdapterProblem>,
    pub middle: Option<MiddleProblem>,
    /// [batches, 1, n] of f32
    pub row_scale: Option<Elements<3>>,
    pub h: Option<(Elements<3>, ElementType)>,
    pub a: Option<GradientProblem>,
    pub b: Option<GradientProblem>,
    /// [batches or 1, 1, n]
    pub bias: Option<GradientProblem>,
    /// [batches or 1, 1, rank]
    pub scale: Option<GradientProblem>,
    pub gate: Option<GradientProblem>,
    pub core: Option<GradientProblem>,
}

impl BackwardProblem {
    pub(super) fn check_disjoint(&self, workspace: u64, workspace_bytes: usize) -> Result<()> {
        let many = self.targets.len() > 1;
        let name = |operand: &str, i: usize| if many { format!("{operand} of target {i}") } else { operand.into() };
        let mut outputs = vec![
            Operand::bytes("the workspace", workspace, workspace_bytes),
            Operand::bytes("the status", self.status, if self.status == 0 { 0 } else { size_of::<StatusRecord>() }),
        ];
        let mut inputs = vec![Operand::new("x", self.x)];
        if let Some((samples, weights)) = &self.weights {
            inputs.extend([samples.operand(), Operand::bytes("the sample weights", *weights, 4 * samples.count)]);
        }
        outputs.extend(self.dx.as_ref().map(|dx| Operand::new("the gradient of x", dx.elements)));
        for (i, target) in self.targets.iter().enumerate() {
            let gradients = [
                ("the gradient of a", &target.a),
                ("the gradient of b", &target.b),
                ("the gradient of the bias", &target.bias),
                ("the gradient of the scale", &target.scale),
                ("the gradient of the gate", &target.gate),
                ("the gradient of the core", &target.core),
            ];
            for (operand, gradient) in gradients {
                outputs.extend(gradient.as_ref().map(|gradient| Operand::new(name(operand, i), gradient.elements)));
            }
            inputs.push(Operand::new(name("dy", i), target.dy));
            inputs.extend(target.w.map(|w| Operand::new(name("w", i), w)));
            inputs.extend(target.row_scale.map(|scale| Operand::new(name("row_scale", i), scale)));
            inputs.extend(target.h.map(|(h, _)| Operand::new(name("saved h", i), h)));
            inputs.extend(target.middle.iter().flat_map(|middle| middle.operands(|part| name(part, i))));
            if let Some(adapter) = &target.adapter {
                inputs.push(Operand::new(name("a", i), adapter.a));
                inputs.push(Operand::new(name("b", i), adapter.b));
            }
        }
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    /// Runs `call` with the descriptor of the C side.
    pub(super) fn with_descriptor<R>(
        &self,
        workspace: u64,
        workspace_bytes: usize,
        call: impl FnOnce(&ffi::pk_lora_backward_descriptor) -> R,
    ) -> R {
        let mut targets: Vec<_> = self.targets.iter().map(|target| target.descriptor(self.element_types)).collect();
        let mut x = self.x.matrix(self.element_types[0]);
        let mut dx = self.dx.as_ref().map_or_else(Default::default, |dx| dx.elements.matrix(self.element_types[0]));
        if self.batches == 0 {
            // The C side reads no batches as one: without rows, sums over rows are empty as well.
            (x.rows, dx.rows) = (0, 0);
            for target in &mut targets {
                (target.dy.rows, target.h.rows, target.middle.gate.rows, target.dgate.rows) = (0, 0, 0, 0);
            }
        }
        call(&ffi::pk_lora_backward_descriptor {
            size: size_of::<ffi::pk_lora_backward_descriptor>() as u64,
            target_size: size_of::<ffi::pk_lora_gradient_target>() as u64,
            algorithm: self.algorithm,
            flags: self.flags,
            batch_count: self.batches as i64,
            x,
            dx,
            targets: targets.as_ptr(),
            target_count: targets.len() as i64,
            x_gradient: mode(self.dx.as_ref()),
            dropout: self.dropout.as_ref().map_or_else(Default::default, Dropout::descriptor),
            workspace: workspace as *mut _,
            workspace_bytes: workspace_bytes as u64,
            samples: self.weights.as_ref().map_or_else(Default::default, |(samples, _)| samples.descriptor()),
            status: self.status as *mut _,
            sample_weights: self.weights.as_ref().map_or(0, |(_, weights)| *weights) as *const f32,
            ..Default::default()
        })
    }

    /// Bytes of the workspace, aligned.
    pub(super) fn workspace(&self) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor(0, 0, |descriptor| {
            ffi::call!(OPERATION, pk_lora_backward_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }
}

/// What becomes of a gradient, as the C side takes it.
pub(in crate::lora) fn mode(gradient: Option<&GradientProblem>) -> i32 {
    match gradient {
        None => ffi::PK_GRADIENT_NONE,
        // One for each batch, of no batch.
        Some(gradient) if gradient.elements.extents[0] == 0 => ffi::PK_GRADIENT_NONE,
        Some(gradient) if gradient.accumulate => ffi::PK_GRADIENT_ACCUMULATE,
        Some(_) => ffi::PK_GRADIENT_OVERWRITE,
    }
}

/// Where a gradient goes, as the C side takes it: one for all batches has batch stride 0.
pub(in crate::lora) fn gradient_matrix(
    gradient: Option<&GradientProblem>,
    element_type: ElementType,
) -> ffi::pk_matrix {
    let Some(GradientProblem { elements, .. }) = gradient else { return Default::default() };
    let batch_stride = if elements.extents[0] == 1 { 0 } else { elements.strides[0] as i64 };
    ffi::pk_matrix { batch_stride, ..elements.matrix(element_type) }
}

impl BackwardTargetProblem {
    /// The larger of the columns of H and of what a middle makes of it.
    fn most_rank(&self) -> usize {
        let Some(adapter) = &self.adapter else { return 0 };
        match &self.middle {
            Some(middle) if middle.core.is_none() => middle.columns(adapter.rank()),
            _ => adapter.rank().max(adapter.b.extents[2]),
        }
    }

    fn descriptor(&self, [element_type, adapter_element_type]: [ElementType; 2]) -> ffi::pk_lora_gradient_target {
        let mut target = ffi::pk_lora_gradient_target {
            adapter_element_type: adapter_element_type as i32,
            dy: self.dy.matrix(element_type),
            a_gradient: mode(self.a.as_ref()),
            b_gradient: mode(self.b.as_ref()),
            bias_gradient: mode(self.bias.as_ref()),
            da: gradient_matrix(self.a.as_ref(), adapter_element_type),
            db: gradient_matrix(self.b.as_ref(), adapter_element_type),
            dbias: gradient_matrix(self.bias.as_ref(), element_type),
            scale_gradient: mode(self.scale.as_ref()),
            gate_gradient: mode(self.gate.as_ref()),
            core_gradient: mode(self.core.as_ref()),
            dscale: gradient_matrix(self.scale.as_ref(), adapter_element_type),
            dgate: gradient_matrix(self.gate.as_ref(), ElementType::F32),
            dcore: gradient_matrix(self.core.as_ref(), adapter_element_type),
            ..Default::default()
        };
        if let Some(w) = &self.w {
            target.base = ffi::PK_LORA_BASE_DENSE;
            target.w = w.matrix(element_type);
        }
        if let Some(adapter) = &self.adapter {
            target.a = adapter.a.matrix(adapter_element_type);
            target.b = adapter.b.matrix(adapter_element_type);
            target.scale = adapter.scale;
        }
        if let Some(middle) = &self.middle {
            target.middle = middle.descriptor(adapter_element_type);
        }
        if let Some(scale) = &self.row_scale {
            target.row_scale = scale.matrix(ElementType::F32);
        }
        if let Some((h, element_type)) = &self.h {
            target.h_saved = 1;
            target.h = h.matrix(*element_type);
        }
        target
    }
}
