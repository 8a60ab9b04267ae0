//! A checked call, as the reference and the C side take it.

use super::{Entry, MAX_ADAPTERS, Merge};
use crate::check::{Check, LARGEST, Operand};
use crate::lora::forward::{as_rows, input};
use crate::lora::{AdapterProblem, Middle, MiddleProblem};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, StatusRecord, ffi};

impl<T: Element, P: Element, Q: Queue> Merge<'_, T, P, Q> {
    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<MergeProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("destination")?;
        let shape = self.destination.extents();
        let matrix = |name, elements: Elements<2>| {
            check.extents(name, elements.extents, shape)?;
            check.stride(name, &elements)?;
            check.alignment(name, &elements)?;
            check.size(name, &elements)?;
            Ok::<Elements<3>, Error>(elements.into())
        };
        let destination = matrix("destination", self.destination.acquire(queue, guards)?)?;
        let source = match &self.source {
            None => destination,
            Some(source) => matrix("source", source.acquire(queue, guards)?)?,
        };
        let residual = match &self.residual {
            None => None,
            Some(_) if T::TYPE == ElementType::F32 => {
                let expected = "f16 or bf16: 16 bits cannot restore 32, keep a copy".into();
                return Err(Error::ElementType {
                    operation,
                    argument: "weight with a residual",
                    expected,
                    got: T::TYPE,
                });
            }
            Some(residual) => Some(matrix("residual", residual.acquire(queue, guards)?)?),
        };
        if self.adapters.len() > MAX_ADAPTERS {
            let (expected, got) = (format!("at most {MAX_ADAPTERS}"), self.adapters.len().to_string());
            return Err(Error::Argument { operation, argument: "the number of adapters", expected, got });
        }
        let (mut adapters, mut middles) = (Vec::new(), Vec::new());
        for Entry { adapter, middle } in &self.adapters {
            let keeps_rank = middle.as_ref().is_none_or(Middle::keeps_rank);
            let adapter = adapter.problem_around(check, Some(shape), keeps_rank, queue, guards)?;
            middles.push(match middle {
                None => None,
                Some(middle) if middle.has_gate() => {
                    let (expected, got) = ("one without: a gate belongs to tokens".into(), "one with a gate".into());
                    return Err(Error::Argument { operation, argument: "a middle", expected, got });
                }
                Some(middle) => {
                    let ranks = [adapter.rank(), adapter.b.extents[2]];
                    Some(middle.problem(check, [1, 0], ranks, queue, guards)?)
                }
            });
            adapters.push(adapter);
        }
        check_ranks(check, shape, &adapters, &middles)?;
        let row_scale = match &self.row_scale {
            None => None,
            Some(g) => Some(input(check, 1, "row_scale", as_rows(g.acquire(queue, guards)?), [1, shape[0]])?),
        };
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(operation, queue, guards)?,
            _ => 0,
        };
        let (element_types, algorithm) = ([T::TYPE, P::TYPE], self.algorithm);
        Ok(MergeProblem {
            source,
            destination,
            residual,
            adapters,
            middles,
            row_scale,
            status,
            element_types,
            algorithm,
        })
    }
}

/// Where there is a middle factors are made in the workspace, of a size that can be counted, whatever strides of 0 make of their extents.
fn check_ranks(
    check: Check,
    [n, k]: [usize; 2],
    adapters: &[AdapterProblem],
    middles: &[Option<MiddleProblem>],
) -> Result<()> {
    if middles.iter().all(Option::is_none) {
        return Ok(());
    }
    for (adapter, middle) in adapters.iter().zip(middles) {
        let columns = middle.as_ref().map_or(0, |middle| middle.columns(adapter.rank()));
        let ranks = adapter.rank().max(adapter.b.extents[2]).max(columns);
        if n.max(k).saturating_mul(ranks) > LARGEST {
            return Err(Error::Argument {
                operation: check.0,
                argument: "the larger extent of W times the ranks of an adapter beside a middle",
                expected: "at most 2^48".into(),
                got: format!("{} times {ranks}", n.max(k)),
            });
        }
    }
    Ok(())
}

/// A checked call whose operands have addresses.
pub(crate) struct MergeProblem {
    pub source: Elements<3>,
    pub destination: Elements<3>,
    pub residual: Option<Elements<3>>,
    pub adapters: Vec<AdapterProblem>,
    /// Of each adapter.
    pub middles: Vec<Option<MiddleProblem>>,
    /// [1, 1, n] of f32
    pub row_scale: Option<Elements<3>>,
    /// Of a [`StatusRecord`], or 0.
    pub status: u64,
    element_types: [ElementType; 2],
    algorithm: i32,
}

impl MergeProblem {
    pub(super) fn check_disjoint(&self, operation: &'static str, workspace: (u64, usize)) -> Result<()> {
        let status = if self.status == 0 { 0 } else { size_of::<StatusRecord>() };
        let mut outputs = vec![
            Operand::new("destination", self.destination),
            Operand::bytes("the workspace", workspace.0, workspace.1),
            Operand::bytes("the status", self.status, status),
        ];
        let mut inputs = Vec::new();
        if self.source != self.destination {
            inputs.push(Operand::new("source", self.source));
        }
        if let Some(residual) = self.residual {
            outputs.push(Operand::new("residual", residual));
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            inputs.push(Operand::new(format!("a of adapter {i}"), adapter.a));
            inputs.push(Operand::new(format!("b of adapter {i}"), adapter.b));
            let name = |part: &str| format!("{part} of adapter {i}");
            inputs.extend(self.middles[i].iter().flat_map(|middle| middle.operands(name)));
        }
        inputs.extend(self.row_scale.map(|scale| Operand::new("row_scale", scale)));
        Check(operation).all_disjoint(&outputs, &inputs)
    }

    pub(super) fn with_descriptor<R>(
        &self,
        workspace: (u64, usize),
        call: impl FnOnce(&ffi::pk_lora_merge_descriptor) -> R,
    ) -> R {
        let adapters: Vec<_> = self.adapters.iter().map(AdapterProblem::entry).collect();
        let [element_type, adapter_element_type] = self.element_types;
        let middle = |middle: &Option<MiddleProblem>| {
            middle.as_ref().map_or_else(Default::default, |middle| middle.descriptor(adapter_element_type))
        };
        let middles: Vec<_> = self.middles.iter().map(middle).collect();
        let has_middle = self.middles.iter().any(Option::is_some);
        call(&ffi::pk_lora_merge_descriptor {
            size: size_of::<ffi::pk_lora_merge_descriptor>() as u64,
            algorithm: self.algorithm,
            source: self.source.matrix(element_type),
            destination: self.destination.matrix(element_type),
            adapters: adapters.as_ptr(),
            adapter_count: adapters.len() as i64,
            adapter_element_type: adapter_element_type as i32,
            residual: self.residual.map_or_else(Default::default, |residual| residual.matrix(element_type)),
            middles: if has_middle { middles.as_ptr() } else { std::ptr::null() },
            row_scale: self.row_scale.map_or_else(Default::default, |scale| scale.matrix(ElementType::F32)),
            workspace: workspace.0 as *mut _,
            workspace_bytes: workspace.1 as u64,
            status: self.status as *mut _,
            ..Default::default()
        })
    }

    /// Bytes of the workspace, aligned.
    pub(super) fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        if self.middles.iter().any(Option::is_some) {
            self.with_descriptor((0, 0), |descriptor| {
                ffi::call!(operation, pk_lora_merge_workspace(descriptor, &mut bytes))
            })?;
        }
        Ok(bytes as usize)
    }
}
