//! A checked call, as the reference and the C side take it.

use super::{Adapters, Base, Forward, OPERATION, SaveH, Target};
use crate::check::{Check, LARGEST, Operand};
use crate::lora::{
    AdapterEntry, AdapterProblem, Chosen, Dropout, Middle, MiddleProblem, QuantizedProblem, RowChoice, TableProblem,
    present,
};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, StatusRecord, ffi};

impl<T: Element, P: Element, Q: Queue> Forward<'_, T, P, Q> {
    /// Checks shapes, types and strides; with a queue, addresses too.
    pub(crate) fn problem<'s>(
        &'s self,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<ForwardProblem<'s>> {
        let check = Check(OPERATION);
        check.element_types::<T, P>("x")?;
        let [x_batches, m, k] = self.x.extents();
        let batches = self.targets.first().map_or(x_batches, |target| target.y.extents()[0]);
        check.batched("x", self.x.extents(), batches, [m, k])?;
        let x = broadcast(self.x.acquire(queue, guards)?, batches);
        check.stride("x", &x)?;
        check.alignment("x", &x)?;
        check.size("x", &x)?;
        let targets = self
            .targets
            .iter()
            .map(|target| target.problem(check, [batches, m, k], queue, guards))
            .collect::<Result<Vec<_>>>()?;
        check_ranks(check, batches * m, &targets)?;
        let rows = self.rows.problem(check, batches * m, queue, guards)?;
        let chosen = |target: &Target<'_, T, P, Q>| match target.adapters {
            Adapters::None => Chosen::None,
            Adapters::One { .. } => Chosen::One,
            Adapters::Table { .. } => Chosen::Table,
        };
        self.rows.check_choice(check, self.targets.iter().map(chosen))?;
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(OPERATION, queue, guards)?,
            _ => 0,
        };
        if let Some(dropout) = &self.dropout {
            dropout.check(check, batches * m, k)?;
        }
        let (element_type, dropout) = (T::TYPE, self.dropout);
        let (algorithm, flags, slab_bytes) = (self.algorithm, self.flags, self.slab_bytes);
        Ok(ForwardProblem {
            batches,
            m,
            k,
            x,
            targets,
            rows,
            status,
            dropout,
            element_type,
            algorithm,
            flags,
            slab_bytes,
        })
    }
}

/// The intermediate has a size that can be counted, whatever strides of 0 make of the factors' extents.
fn check_ranks(check: Check, rows: usize, targets: &[TargetProblem<'_>]) -> Result<()> {
    let ranks = targets.iter().map(TargetProblem::most_rank).fold(0, usize::saturating_add);
    if rows.saturating_mul(ranks) <= LARGEST {
        return Ok(());
    }
    Err(Error::Argument {
        operation: check.0,
        argument: "the number of rows times all ranks",
        expected: "at most 2^48".into(),
        got: format!("{rows} times {ranks}"),
    })
}

/// An operand that all batches share has batch stride 0.
pub(crate) fn broadcast(mut elements: Elements<3>, batches: usize) -> Elements<3> {
    if elements.extents[0] == 1 && batches != 1 {
        elements.extents[0] = batches;
        elements.strides[0] = 0;
    }
    elements
}

/// An input of these extents, one for all batches or one for each.
pub(crate) fn input(
    check: Check,
    batches: usize,
    name: &'static str,
    elements: Elements<3>,
    shape: [usize; 2],
) -> Result<Elements<3>> {
    check.batched(name, elements.extents, batches, shape)?;
    check.stride(name, &elements)?;
    check.alignment(name, &elements)?;
    check.size(name, &elements)?;
    Ok(broadcast(elements, batches))
}

/// A row for each batch: [batches, n] as [batches, 1, n].
pub(crate) fn as_rows(rows: Elements<2>) -> Elements<3> {
    let ([batches, columns], [pitch, step]) = (rows.extents, rows.strides);
    let Elements { address, element_size, alignment, .. } = rows;
    Elements { address, extents: [batches, 1, columns], strides: [pitch, 0, step], element_size, alignment }
}

impl<T: Element, P: Element, Q: Queue> Target<'_, T, P, Q> {
    fn problem<'s>(
        &'s self,
        check: Check,
        [batches, m, k]: [usize; 3],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<TargetProblem<'s>> {
        let n = self.y.extents()[2];
        check.extents("y", self.y.extents(), [batches, m, n])?;
        let y = self.y.acquire(queue, guards)?;
        check.stride("y", &y)?;
        check.alignment("y", &y)?;
        check.size("y", &y)?;
        let input = |name, elements, rows, columns| input(check, batches, name, elements, [rows, columns]);
        let base = match &self.base {
            Base::None => BaseKind::None,
            Base::InY => BaseKind::InY,
            Base::Dense(w) => BaseKind::Dense(input("w", w.acquire(queue, guards)?, n, k)?),
            Base::Quantized(w) => BaseKind::Quantized(w.problem(check.0, "w", [n, k], queue, guards)?),
        };
        let bias = match &self.bias {
            None => None,
            Some(bias) => Some(input("bias", as_rows(bias.acquire(queue, guards)?), 1, n)?),
        };
        let row_scale = match &self.row_scale {
            None => None,
            Some(scale) => Some(input("row_scale", as_rows(scale.acquire(queue, guards)?), 1, n)?),
        };
        let adapters = match &self.adapters {
            Adapters::None => AdapterChoice::None,
            Adapters::One { a, b, scale } => {
                let (a, b) = (a.acquire(queue, guards)?, b.acquire(queue, guards)?);
                let rank = a.extents[1];
                let keeps_rank = self.middle.as_ref().is_none_or(Middle::keeps_rank);
                let after = if keeps_rank { rank } else { b.extents[2] };
                check.rank(rank)?;
                check.rank(after)?;
                AdapterChoice::One(AdapterProblem {
                    a: input("a", a, rank, k)?,
                    b: input("b", b, n, after)?,
                    scale: *scale,
                })
            }
            Adapters::Table { table, device } => {
                AdapterChoice::Table(table.problem(check, [n, k], device, queue, guards)?)
            }
        };
        let middle = match (&self.middle, &adapters) {
            (None, _) => None,
            (Some(middle), AdapterChoice::One(adapter)) => {
                let ranks = [adapter.rank(), adapter.b.extents[2]];
                Some(middle.problem(check, [batches, m], ranks, queue, guards)?.counted(check, batches, n.max(k))?)
            }
            (Some(_), other) => {
                return Err(Error::Argument {
                    operation: check.0,
                    argument: "a middle",
                    expected: "one for a target with one adapter".into(),
                    got: match other {
                        AdapterChoice::Table(_) => "that of a table",
                        _ => "that of no adapter",
                    }
                    .into(),
                });
            }
        };
        let max_rank = match &adapters {
            AdapterChoice::None => 0,
            AdapterChoice::One(adapter) => {
                middle.as_ref().map_or(adapter.rank(), |middle| middle.columns(adapter.rank()))
            }
            AdapterChoice::Table(table) => table.max_rank,
        };
        let output = |elements: Elements<3>, element_type| {
            check.extents("saved h", elements.extents, [batches, m, max_rank])?;
            check.stride("saved h", &elements)?;
            check.alignment("saved h", &elements)?;
            check.size("saved h", &elements)?;
            Ok::<_, Error>(Some((elements, element_type)))
        };
        let saved_h = match &self.saved_h {
            SaveH::None => None,
            SaveH::Own(h) => output(h.acquire(queue, guards)?, T::TYPE)?,
            SaveH::F32(h) => output(h.acquire(queue, guards)?, ElementType::F32)?,
        };
        let (element_type, adapter_element_type) = (T::TYPE, P::TYPE);
        Ok(TargetProblem {
            base,
            y,
            n,
            bias,
            row_scale,
            adapters,
            middle,
            max_rank,
            saved_h,
            element_type,
            adapter_element_type,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct ForwardProblem<'a> {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Elements<3>,
    pub targets: Vec<TargetProblem<'a>>,
    pub rows: RowChoice,
    /// Of a [`StatusRecord`], or 0.
    pub status: u64,
    pub dropout: Option<Dropout>,
    element_type: ElementType,
    algorithm: i32,
    flags: u32,
    slab_bytes: usize,
}

pub(crate) struct TargetProblem<'a> {
    pub base: BaseKind<'a>,
    pub y: Elements<3>,
    pub n: usize,
    /// [batches, 1, n]
    pub bias: Option<Elements<3>>,
    /// [batches, 1, n] of f32
    pub row_scale: Option<Elements<3>>,
    pub adapters: AdapterChoice,
    pub middle: Option<MiddleProblem>,
    /// Columns of H.
    pub max_rank: usize,
    /// [batches, m, max_rank]
    pub saved_h: Option<(Elements<3>, ElementType)>,
    element_type: ElementType,
    adapter_element_type: ElementType,
}

pub(crate) enum BaseKind<'a> {
    None,
    Dense(Elements<3>),
    Quantized(QuantizedProblem<'a>),
    InY,
}

impl BaseKind<'_> {
    /// What it reads of its own.
    pub fn operands(&self, name: impl Fn(&str) -> String) -> Vec<Operand> {
        match self {
            BaseKind::None | BaseKind::InY => Vec::new(),
            BaseKind::Dense(w) => vec![Operand::new(name("w"), *w)],
            BaseKind::Quantized(w) => w.operands(name),
        }
    }

    /// The kind, a W in memory, and a quantised one, as the C side reads them.
    pub fn descriptor(&self, element_type: ElementType) -> (i32, ffi::pk_matrix, ffi::pk_lora_quantized) {
        match self {
            BaseKind::None => (ffi::PK_LORA_BASE_NONE, Default::default(), Default::default()),
            BaseKind::InY => (ffi::PK_LORA_BASE_IN_Y, Default::default(), Default::default()),
            BaseKind::Dense(w) => (ffi::PK_LORA_BASE_DENSE, w.matrix(element_type), Default::default()),
            BaseKind::Quantized(w) => (ffi::PK_LORA_BASE_QUANTIZED, Default::default(), w.descriptor()),
        }
    }
}

pub(crate) enum AdapterChoice {
    None,
    One(AdapterProblem),
    Table(TableProblem),
}

impl ForwardProblem<'_> {
    pub(super) fn check_disjoint(&self, workspace: u64, workspace_bytes: usize) -> Result<()> {
        let many = self.targets.len() > 1;
        let name = |operand: &str, i: usize| if many { format!("{operand} of target {i}") } else { operand.into() };
        let mut inputs = vec![Operand::new("x", self.x)];
        let mut outputs = vec![
            Operand::bytes("the workspace", workspace, workspace_bytes),
            Operand::bytes("the status", self.status, if self.status == 0 { 0 } else { size_of::<StatusRecord>() }),
        ];
        inputs.extend(self.rows.operand());
        for (i, target) in self.targets.iter().enumerate() {
            outputs.push(Operand::new(name("y", i), target.y));
            outputs.extend(target.saved_h.map(|(h, _)| Operand::new(name("saved h", i), h)));
            inputs.extend(target.base.operands(|operand| name(operand, i)));
            if let Some(bias) = target.bias {
                inputs.push(Operand::new(name("bias", i), bias));
            }
            if let Some(scale) = target.row_scale {
                inputs.push(Operand::new(name("row_scale", i), scale));
            }
            inputs.extend(target.middle.iter().flat_map(|middle| middle.operands(|part| name(part, i))));
            let adapters = match &target.adapters {
                AdapterChoice::None => &[],
                AdapterChoice::One(adapter) => std::slice::from_ref(adapter),
                AdapterChoice::Table(TableProblem { address, adapters, .. }) => {
                    let bytes = adapters.len() * size_of::<AdapterEntry>();
                    inputs.push(Operand::bytes(&name("table", i), *address, bytes));
                    adapters.as_slice()
                }
            };
            for adapter in adapters {
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
        call: impl FnOnce(&ffi::pk_lora_forward_descriptor) -> R,
    ) -> R {
        let mut targets: Vec<_> = self.targets.iter().map(TargetProblem::descriptor).collect();
        let mut x = self.x.matrix(self.element_type);
        if self.batches == 0 {
            // The C side reads no batches as one: without rows it does nothing as well.
            x.rows = 0;
            targets.iter_mut().for_each(|target| {
                (target.y.rows, target.saved_h.rows, target.middle.gate.rows) = (0, 0, 0);
            });
        }
        let mut descriptor = ffi::pk_lora_forward_descriptor {
            size: size_of::<ffi::pk_lora_forward_descriptor>() as u64,
            target_size: size_of::<ffi::pk_lora_target>() as u64,
            algorithm: self.algorithm,
            flags: self.flags,
            batch_count: self.batches as i64,
            x,
            targets: targets.as_ptr(),
            target_count: targets.len() as i64,
            workspace: workspace as *mut _,
            workspace_bytes: workspace_bytes as u64,
            status: self.status as *mut _,
            dropout: self.dropout.as_ref().map_or_else(Default::default, Dropout::descriptor),
            slab_bytes: self.slab_bytes.try_into().unwrap_or(i64::MAX),
            ..Default::default()
        };
        match self.rows {
            RowChoice::Same => {}
            RowChoice::Index { address, .. } => descriptor.row_adapter = present(address),
            RowChoice::Segments { address, count } => {
                descriptor.segments = present(address);
                descriptor.segment_count = count as i64;
            }
        }
        call(&descriptor)
    }

    /// Bytes of the workspace, aligned.
    pub(super) fn workspace(&self) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor(0, 0, |descriptor| {
            ffi::call!(OPERATION, pk_lora_forward_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }
}

impl TargetProblem<'_> {
    /// The larger of the columns of H and of what a middle makes of it.
    fn most_rank(&self) -> usize {
        match (&self.adapters, &self.middle) {
            (AdapterChoice::One(adapter), Some(middle)) if middle.core.is_some() => {
                self.max_rank.max(adapter.b.extents[2])
            }
            _ => self.max_rank,
        }
    }

    fn descriptor(&self) -> ffi::pk_lora_target {
        let mut target = ffi::pk_lora_target {
            y: self.y.matrix(self.element_type),
            adapter_element_type: self.adapter_element_type as i32,
            ..Default::default()
        };
        (target.base, target.w, target.quantized) = self.base.descriptor(self.element_type);
        if let Some(bias) = &self.bias {
            target.bias = bias.matrix(self.element_type);
        }
        if let Some(scale) = &self.row_scale {
            target.row_scale = scale.matrix(ElementType::F32);
        }
        if let Some(middle) = &self.middle {
            target.middle = middle.descriptor(self.adapter_element_type);
        }
        if let Some((h, element_type)) = &self.saved_h {
            target.saved_h = h.matrix(*element_type);
        }
        match &self.adapters {
            AdapterChoice::None => {}
            AdapterChoice::One(adapter) => {
                target.a = adapter.a.matrix(self.adapter_element_type);
                target.b = adapter.b.matrix(self.adapter_element_type);
                target.scale = adapter.scale;
            }
            AdapterChoice::Table(TableProblem { address, adapters, max_rank }) => {
                target.adapters = present(*address);
                target.adapter_count = adapters.len() as i64;
                target.max_rank = *max_rank as i64;
            }
        }
        target
    }
}
