//! A checked call, as the reference and the C side take it.

use super::{Adapters, Backward, BackwardTarget, Base, Factors, Gradient, OPERATION, SavedH, TableGradients};
use crate::check::{Check, LARGEST};
use crate::layout::extents;
use crate::lora::forward::{as_rows, input};
use crate::lora::{
    AdapterProblem, BaseKind, Chosen, Dropout, GradientTableProblem, Middle, MiddleProblem, RowChoice, SamplesProblem,
    TableProblem,
};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, ffi};

/// Targets that one call can take: as many as a kernel's parameters hold.
const MAX_TARGETS: usize = ffi::PK_LORA_BACKWARD_TARGETS as usize;

impl<T: Element, P: Element, Q: Queue> Backward<'_, T, P, Q> {
    /// Checks shapes, types and strides; with a queue, addresses too.
    pub(crate) fn problem<'s>(
        &'s self,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<BackwardProblem<'s>> {
        let check = Check(OPERATION);
        check.element_types::<T, P>("x")?;
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
        check_sizes(check, [batches * m, k], &targets)?;
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
        let rows = self.rows.problem(check, batches * m, queue, guards)?;
        let chosen = |target: &BackwardTarget<'_, T, P, Q>| match target.adapters {
            Adapters::None => Chosen::None,
            Adapters::One(_) => Chosen::One,
            Adapters::Table { .. } => Chosen::Table,
        };
        self.rows.check_choice(check, self.targets.iter().map(chosen))?;
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(OPERATION, queue, guards)?,
            _ => 0,
        };
        let (element_types, dropout) = ([T::TYPE, P::TYPE], self.dropout);
        let (algorithm, flags, slab_bytes) = (self.algorithm, self.flags, self.slab_bytes);
        Ok(BackwardProblem {
            batches,
            m,
            k,
            x,
            dx,
            targets,
            dropout,
            weights,
            rows,
            status,
            element_types,
            algorithm,
            flags,
            slab_bytes,
        })
    }
}

/// Intermediates and gradients have sizes that can be counted, whatever strides of 0 make of extents: as the C side has it.
fn check_sizes(check: Check, [rows, k]: [usize; 2], targets: &[BackwardTargetProblem<'_>]) -> Result<()> {
    let wrong = |argument, expected: &str, got| {
        Err(Error::Argument { operation: check.0, argument, expected: expected.into(), got })
    };
    for target in targets {
        let Some(table) = &target.table else { continue };
        let (count, rank, extent) = (table.adapters.len(), table.max_rank.max(1), k.max(target.n));
        if i32::try_from(count).is_err() || count.saturating_mul(rank).saturating_mul(extent) > LARGEST << 4 {
            let got = format!("{count} times {rank} times {extent}");
            let expected = "less than 2^31 adapters, and at most 2^52";
            return wrong("the number of a table's adapters times rank and columns", expected, got);
        }
    }
    let ranks = targets.iter().map(BackwardTargetProblem::most_rank).fold(0, usize::saturating_add);
    if i32::try_from(ranks).is_err() {
        return wrong("the sum of all ranks", "at most 2^31 - 1", ranks.to_string());
    }
    let largest = targets.iter().map(|target| target.n).fold(rows.max(k), usize::max);
    if largest.saturating_mul(ranks) > LARGEST {
        let got = format!("{largest} times {ranks}");
        return wrong("the number of rows or columns times all ranks", "at most 2^48", got);
    }
    Ok(())
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
    ) -> Result<BackwardTargetProblem<'s>> {
        let Inputs { check, batches } = *input;
        let n = self.dy.extents()[2];
        let dy = input.matrix("dy", self.dy.acquire(queue, guards)?, [m, n])?;
        let base = match &self.base {
            Base::None => BaseKind::None,
            Base::Dense(w) => BaseKind::Dense(input.matrix("w", w.acquire(queue, guards)?, [n, k])?),
            Base::Quantized(w) => BaseKind::Quantized(w.problem(check.0, "w", [n, k], queue, guards)?),
        };
        let adapter = match &self.adapters {
            Adapters::None | Adapters::Table { .. } => None,
            Adapters::One(Factors { a, b, scale }) => {
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
        let table = match &self.adapters {
            Adapters::Table { table, device } => Some(table.problem(check, [n, k], device, queue, guards)?),
            _ => None,
        };
        let table_gradients = self.gradients_of_table(check, table.as_ref(), [n, k], queue, guards)?;
        let row_scale = match &self.row_scale {
            None => None,
            Some(scale) => Some(input.matrix("row_scale", as_rows(scale.acquire(queue, guards)?), [1, n])?),
        };
        let [rank, after] = adapter.as_ref().map_or([0, 0], |adapter| [adapter.rank(), adapter.b.extents[2]]);
        let middle = match &self.middle {
            None => None,
            Some(middle) if adapter.is_some() => {
                let middle = middle.problem(check, [batches, m], [rank, after], queue, guards)?;
                Some(middle.counted(check, batches, n.max(k))?)
            }
            Some(_) => {
                return Err(Error::Argument {
                    operation: check.0,
                    argument: "a middle",
                    expected: "one for a target with one adapter".into(),
                    got: if table.is_some() { "that of a table" } else { "that of no adapter" }.into(),
                });
            }
        };
        let columns = middle.as_ref().map_or(rank, |middle| middle.columns(rank));
        let columns = table.as_ref().map_or(columns, |table| table.max_rank);
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
                    expected: match table {
                        None => "none for a target without an adapter",
                        Some(_) => "a table of gradients for a target with a table",
                    }
                    .into(),
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
        Ok(BackwardTargetProblem {
            n,
            dy,
            base,
            adapter,
            table,
            table_gradients,
            middle,
            row_scale,
            h,
            a,
            b,
            bias,
            scale,
            gate,
            core,
        })
    }

    /// Where the gradients of a table of factors of W [n, k] go.
    fn gradients_of_table<'s>(
        &'s self,
        check: Check,
        table: Option<&TableProblem>,
        [n, k]: [usize; 2],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<Option<GradientTableProblem>> {
        let Some(TableGradients { table: gradients, device }) = &self.table_gradients else { return Ok(None) };
        let Some(table) = table else {
            return Err(Error::Argument {
                operation: check.0,
                argument: "the table of gradients",
                expected: "none for a target without a table".into(),
                got: format!("one of {}", gradients.entries().len()),
            });
        };
        let shapes: Vec<_> = table.adapters.iter().map(|adapter| [[adapter.rank(), k], [n, adapter.rank()]]).collect();
        gradients.problem(check, &shapes, device.as_ref(), queue, guards).map(Some)
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct BackwardProblem<'a> {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Elements<3>,
    pub dx: Option<GradientProblem>,
    pub targets: Vec<BackwardTargetProblem<'a>>,
    pub dropout: Option<Dropout>,
    /// Samples, and where their weights are.
    pub weights: Option<(SamplesProblem, u64)>,
    pub rows: RowChoice,
    /// Of a [`StatusRecord`], or 0.
    pub status: u64,
    pub(super) element_types: [ElementType; 2],
    pub(super) algorithm: i32,
    pub(super) flags: u32,
    pub(super) slab_bytes: usize,
}

/// A gradient's elements: [1, rows, columns] is the sum over batches.
pub(crate) struct GradientProblem {
    pub elements: Elements<3>,
    pub accumulate: bool,
}

pub(crate) struct BackwardTargetProblem<'a> {
    pub n: usize,
    pub dy: Elements<3>,
    /// Never in y.
    pub base: BaseKind<'a>,
    pub adapter: Option<AdapterProblem>,
    /// In place of the adapter, and where its gradients go.
    pub table: Option<TableProblem>,
    pub table_gradients: Option<GradientTableProblem>,
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

impl BackwardTargetProblem<'_> {
    /// The larger of the columns of H and of what a middle makes of it.
    fn most_rank(&self) -> usize {
        let Some(adapter) = &self.adapter else { return self.table.as_ref().map_or(0, |table| table.max_rank) };
        match &self.middle {
            Some(middle) if middle.core.is_none() => middle.columns(adapter.rank()),
            _ => adapter.rank().max(adapter.b.extents[2]),
        }
    }
}
