//! A checked call as the C side takes it, and what it may not share memory with.

use super::OPERATION;
use super::problem::{BackwardProblem, BackwardTargetProblem, GradientProblem};
use crate::check::{Check, Operand};
use crate::lora::{AdapterEntry, AdapterGradientEntry, Dropout, RowChoice, present};
use crate::{ElementType, Result, StatusRecord, ffi};

impl BackwardProblem<'_> {
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
        inputs.extend(self.rows.operand());
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
            inputs.extend(target.base.operands(|operand| name(operand, i)));
            inputs.extend(target.row_scale.map(|scale| Operand::new(name("row_scale", i), scale)));
            inputs.extend(target.h.map(|(h, _)| Operand::new(name("saved h", i), h)));
            inputs.extend(target.middle.iter().flat_map(|middle| middle.operands(|part| name(part, i))));
            let adapters = target.table.iter().flat_map(|table| &table.adapters).chain(&target.adapter);
            for adapter in adapters {
                inputs.push(Operand::new(name("a", i), adapter.a));
                inputs.push(Operand::new(name("b", i), adapter.b));
            }
            if let Some(table) = &target.table {
                let bytes = table.adapters.len() * size_of::<AdapterEntry>();
                inputs.push(Operand::bytes(&name("table", i), table.address, bytes));
            }
            let Some(table) = &target.table_gradients else { continue };
            let bytes = table.gradients.len() * size_of::<AdapterGradientEntry>();
            inputs.push(Operand::bytes(&name("the table of gradients", i), table.address, bytes));
            for [a, b] in &table.gradients {
                for (operand, gradient) in [("the gradient of a", a), ("the gradient of b", b)] {
                    outputs.extend(gradient.as_ref().map(|gradient| Operand::new(name(operand, i), gradient.elements)));
                }
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
                target.row_scale = Default::default();
            }
        }
        let mut descriptor = ffi::pk_lora_backward_descriptor {
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

impl BackwardTargetProblem<'_> {
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
        (target.base, target.w, target.quantized) = self.base.descriptor(element_type);
        if let Some(adapter) = &self.adapter {
            target.a = adapter.a.matrix(adapter_element_type);
            target.b = adapter.b.matrix(adapter_element_type);
            target.scale = adapter.scale;
        }
        if let Some(table) = &self.table {
            target.adapters = present(table.address);
            target.adapter_count = table.adapters.len() as i64;
            target.max_rank = table.max_rank as i64;
        }
        if let Some(table) = &self.table_gradients {
            target.gradients = present(table.address);
            (target.a_gradient, target.b_gradient) = (table.mode(0), table.mode(1));
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
