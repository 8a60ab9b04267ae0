//! A backward call over tables of adapters as a description, its operands, and the plain formula of its gradients.

use peft_kernels::lora::{
    self, AdapterGradient, AdapterTable, Backward, BackwardTarget, Dropout, Gradient, GradientTable, Samples,
};
use peft_kernels::{Element, Error, Kernel, Layout, MatMut, Place, Status, StatusRecord, TensorMut, Workspace};

use crate::buffer::{Buffer, Cell, Placement};
use crate::lora::case::{BiasSpec, Factors, RowCase, RowSpec, Saved};
use crate::lora::gradient_case::{Mode, Weights};
use crate::lora::quantized::case::QuantizedCase;
use crate::lora::run::{adapter, check_workspace_of, list, matrix, rows};
use crate::memory::Memory;
use crate::numbers::{Numbers, Random};
use crate::queues::Runner;

#[derive(Clone, Debug)]
pub struct TargetSpec {
    pub n: usize,
    /// Of the table's adapters.
    pub ranks: Vec<usize>,
    pub dense: bool,
    pub row_scale: BiasSpec,
    pub h: Saved,
    /// Of A and B of all adapters, and of the bias.
    pub modes: [Mode; 3],
    /// For which adapters, bit by bit, the gradients of A and of B are asked.
    pub asked: [u32; 2],
}

impl TargetSpec {
    pub fn new(n: usize, ranks: &[usize]) -> Self {
        let (row_scale, h) = (BiasSpec::None, Saved::None);
        Self { n, ranks: ranks.to_vec(), dense: true, row_scale, h, modes: [Mode::Overwrite; 3], asked: [!0; 2] }
    }

    pub fn max_rank(&self) -> usize {
        self.ranks.iter().copied().max().unwrap_or(0)
    }

    /// What becomes of an adapter's gradient of A (0) or B (1).
    pub fn mode(&self, adapter: usize, which: usize) -> Mode {
        if self.asked[which] >> (adapter % 32) & 1 == 1 { self.modes[which] } else { Mode::None }
    }
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Mode,
    pub targets: Vec<TargetSpec>,
    pub rows: RowSpec,
    pub dropout: Option<(f32, u64, u64)>,
    pub weights: Option<Weights>,
    /// Whether x, dy and w are one for all batches; bit by bit.
    pub shared: u32,
    /// Operands of random orders and gaps.
    pub random: bool,
    pub numbers: Numbers,
    pub seed: u64,
    pub algorithm: i32,
    pub slab_bytes: usize,
}

impl Spec {
    /// An index per row, and every gradient.
    pub fn new(m: usize, k: usize, index: Vec<i32>, targets: Vec<TargetSpec>, numbers: Numbers) -> Self {
        Self {
            batches: 1,
            m,
            k,
            x: Mode::Overwrite,
            targets,
            rows: RowSpec::Index(index),
            dropout: None,
            weights: None,
            shared: 0,
            random: true,
            numbers,
            seed: (m * 31 + k * 41) as u64,
            algorithm: 0,
            slab_bytes: 0,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The first row that names an adapter which a target's table lacks.
    pub fn first_bad_row(&self) -> Option<usize> {
        let lacks = |target: &TargetSpec, row| {
            self.rows.adapter_of(row).is_some() && self.rows.entry_of(row, target.ranks.len()).is_none()
        };
        (0..self.batches * self.m).find(|&row| self.targets.iter().any(|target| lacks(target, row)))
    }

    pub fn dropout(&self) -> Option<Dropout> {
        self.dropout.map(|(p, seed, offset)| Dropout::new(p, seed, offset).expect("a probability"))
    }
}

pub struct AdapterCase<P> {
    pub factors: Factors<P>,
    /// Of A and of B; one that is not asked for has a buffer all the same, which nobody may touch.
    pub gradients: [Buffer<P>; 2],
}

pub struct TargetCase<T, P> {
    pub dy: Buffer<T>,
    pub w: Option<Buffer<T>>,
    /// What a call is given in place of `w`.
    pub quantized: Option<QuantizedCase>,
    pub row_scale: Option<Buffer<f32>>,
    pub h: (Buffer<T>, Buffer<f32>),
    pub adapters: Vec<AdapterCase<P>>,
    pub dbias: Buffer<T>,
}

impl<T: Element + Cell, P> TargetCase<T, P> {
    pub fn scale_of(&self, batch: usize, column: usize) -> f64 {
        self.row_scale.as_ref().map_or(1.0, |scale| f64::from(scale.get_shared([batch, 0, column])))
    }
}

/// The operands of a call, in buffers.
pub struct Case<T, P> {
    pub spec: Spec,
    pub x: Buffer<T>,
    pub dx: Buffer<T>,
    pub rows: RowCase,
    pub targets: Vec<TargetCase<T, P>>,
    samples: (Buffer<i32>, Buffer<f32>),
}

/// What a call left, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T, P> {
    pub dx: Vec<T>,
    /// Of each target and adapter, of A and B.
    pub factors: Vec<Vec<[Vec<P>; 2]>>,
    pub bias: Vec<Vec<T>>,
}

/// A matrix of one batch.
fn flat<'a, E: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<E>) -> MatMut<'a, E, Q> {
    let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = buffer.layout;
    let layout = Layout { offset, extents: [rows, columns], strides: [row, column] };
    MatMut::with_layout(queue.sink(buffer), layout).expect("the buffer holds its view")
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    pub fn new(spec: &Spec) -> Self {
        let (mut random, numbers) = (Random(spec.seed), spec.numbers);
        let (batches, m, k) = (spec.batches, spec.m, spec.k);
        let batches_of = |operand: u32| if spec.shared >> operand & 1 == 1 { 1 } else { batches };
        let place = |random: &mut Random| match spec.random {
            false => Placement::default(),
            true => Placement {
                column_major: random.coin(),
                gap: random.choose(&[0, 0, 1, 3, 8]),
                offset: random.choose(&[0, 0, 1, 5]),
                batch_gap: random.choose(&[0, 2]),
            },
        };
        fn input<E: Element + Cell>(
            numbers: Numbers,
            random: &mut Random,
            layout: Layout<3>,
            terms: usize,
        ) -> Buffer<E> {
            let rows = layout.extents[1];
            Buffer::new(layout, |[_, row, _]| numbers.factor(random, terms, row + 1 == rows))
        }
        fn output<E: Element + Cell>(
            numbers: Numbers,
            random: &mut Random,
            layout: Layout<3>,
            mode: Mode,
        ) -> Buffer<E> {
            Buffer::new(layout, |_| if mode == Mode::Accumulate { numbers.term(random) } else { E::POISON })
        }
        let layout = place(&mut random).layout([batches_of(0), m, k]);
        let x = input(numbers, &mut random, layout, k.max(m));
        let layout = place(&mut random).layout([batches, m, k]);
        let dx = output(numbers, &mut random, layout, spec.x);
        let targets = spec.targets.iter().map(|target| {
            let n = target.n;
            let layout = place(&mut random).layout([batches_of(1), m, n]);
            let dy = input(numbers, &mut random, layout, n.max(m));
            let layout = place(&mut random).layout([batches_of(2), n, k]);
            let w = target.dense.then(|| input(numbers, &mut random, layout, n));
            let adapters = target.ranks.iter().enumerate().map(|(i, &rank)| {
                let (a, b) = (place(&mut random).layout([1, rank, k]), place(&mut random).layout([1, n, rank]));
                let factors = Factors {
                    a: input(numbers, &mut random, a, 16 * rank),
                    b: input(numbers, &mut random, b, n),
                    scale: numbers.scale(&mut random),
                };
                let (a, b) = (place(&mut random).layout([1, rank, k]), place(&mut random).layout([1, n, rank]));
                let gradients = [
                    output(numbers, &mut random, a, target.mode(i, 0)),
                    output(numbers, &mut random, b, target.mode(i, 1)),
                ];
                AdapterCase { factors, gradients }
            });
            let adapters: Vec<_> = adapters.collect();
            // What forward leaves: nothing of rows without an adapter, nor beyond its rank.
            let h = place(&mut random).layout([batches, m, target.max_rank()]);
            let h = Buffer::<T>::new(h, |[batch, row, rank]| {
                let entry = spec.rows.entry_of(batch * m + row, target.ranks.len());
                match entry.is_some_and(|entry| rank < target.ranks[entry]) {
                    true => numbers.factor(&mut random, m, row + 1 == m),
                    false => T::POISON,
                }
            });
            let h_f32 = Buffer::new(h.layout, |index| h.get(index).to_f64() as f32 * 1.125);
            let row = |batches: usize, step: usize| Layout {
                offset: step - 1,
                extents: [batches, 1, n],
                strides: [n * step + 1, 0, step],
            };
            let row_scale = match target.row_scale {
                BiasSpec::None => None,
                BiasSpec::Shared(step) => Some(row(1, step)),
                BiasSpec::Batched(step) => Some(row(batches, step)),
            };
            // Of integers powers of two, so that g ⊙ W has their bits.
            let row_scale = row_scale.map(|layout| Buffer::new(layout, |_| numbers.scale(&mut random)));
            let dbias = output(numbers, &mut random, row(1, 2), target.modes[2]);
            TargetCase { dy, w, quantized: None, row_scale, h: (h, h_f32), adapters, dbias }
        });
        let targets = targets.collect();
        let offsets = spec.weights.as_ref().and_then(|weights| weights.offsets.as_deref());
        let values = spec.weights.as_ref().map_or(&[][..], |weights| &weights.values);
        let samples = (Buffer::list(offsets.unwrap_or(&[])), Buffer::list(values));
        Self { spec: spec.clone(), x, dx, rows: RowCase::new(&spec.rows), targets, samples }
    }

    /// Calls `run` with the descriptor.
    pub fn with_call<Q: Runner, R>(&self, queue: &Q, run: impl FnOnce(Backward<'_, T, P, Q>) -> R) -> R {
        let specs = &self.spec.targets;
        let of_target = self.targets.iter().map(|target| &target.adapters);
        let adapters: Vec<Vec<_>> =
            of_target.map(|list| list.iter().map(|case| adapter(queue, &case.factors)).collect()).collect();
        let tables: Vec<_> =
            adapters.iter().map(|list| AdapterTable::new(queue, list).expect("factors that fit")).collect();
        let gradients = self.targets.iter().zip(specs).map(|(target, spec)| {
            let of_adapter = target.adapters.iter().enumerate().map(|(i, AdapterCase { gradients: [a, b], .. })| {
                let mut gradient = AdapterGradient::none();
                if spec.mode(i, 0) != Mode::None {
                    gradient = gradient.a(flat(queue, a));
                }
                if spec.mode(i, 1) != Mode::None {
                    gradient = gradient.b(flat(queue, b));
                }
                gradient
            });
            of_adapter.collect::<Vec<_>>()
        });
        let mut gradients: Vec<_> = gradients.collect();
        let mut call = Backward::new(matrix(queue, &self.x)).slab_bytes(self.spec.slab_bytes);
        if self.spec.x != Mode::None {
            let dx = TensorMut::with_layout(queue.sink(&self.dx), self.dx.layout).expect("the buffer holds its view");
            call = call.x_gradient(match self.spec.x {
                Mode::Accumulate => Gradient::accumulate(dx),
                _ => Gradient::overwrite(dx),
            });
        }
        for (((case, spec), table), gradients) in self.targets.iter().zip(specs).zip(&tables).zip(&mut gradients) {
            let mut of_table = GradientTable::new(queue, gradients).expect("views that fit");
            if spec.modes[0] == Mode::Accumulate {
                of_table = of_table.accumulate_a();
            }
            if spec.modes[1] == Mode::Accumulate {
                of_table = of_table.accumulate_b();
            }
            let asked = spec.modes[0] != Mode::None || spec.modes[1] != Mode::None;
            let mut target = BackwardTarget::new(matrix(queue, &case.dy));
            target = queue.with_gradients(target, table, asked.then_some(of_table));
            target = match (&case.quantized, &case.w) {
                (Some(w), _) => target.quantized(&w.given(queue)),
                (None, Some(w)) => target.dense(matrix(queue, w)),
                _ => target,
            };
            if let Some(scale) = &case.row_scale {
                target = target.row_scale(rows(queue, scale));
            }
            target = match spec.h {
                Saved::None => target,
                Saved::Own => target.saved_h(matrix(queue, &case.h.0)),
                Saved::F32 => target.saved_h_f32(matrix(queue, &case.h.1)),
            };
            if spec.modes[2] != Mode::None {
                let Layout { offset, extents: [batches, _, n], strides: [pitch, _, step] } = case.dbias.layout;
                let layout = Layout { offset, extents: [batches, n], strides: [pitch, step] };
                let view = TensorMut::with_layout(queue.sink(&case.dbias), layout).expect("a bias that fits");
                target = target.bias_gradient(match spec.modes[2] {
                    Mode::Accumulate => Gradient::accumulate(view),
                    _ => Gradient::overwrite(view),
                });
            }
            call = call.target(target);
        }
        call = match &self.rows {
            RowCase::Same => call,
            RowCase::Index(index) => call.row_adapter(list(queue, index)),
            RowCase::Segments(segments) => call.segments(list(queue, segments)),
        };
        if let Some(dropout) = self.spec.dropout() {
            call = call.dropout(dropout);
        }
        if let Some(weights) = &self.spec.weights {
            let samples = match weights.offsets {
                Some(_) => Samples::offsets(list(queue, &self.samples.0)),
                None => Samples::equal(weights.values.len()),
            };
            call = call.sample_weights(samples, list(queue, &self.samples.1));
        }
        run(if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) })
    }

    pub fn reset(&self) {
        self.dx.reset();
        for target in &self.targets {
            target.dbias.reset();
            target.adapters.iter().flat_map(|case| &case.gradients).for_each(Buffer::reset);
        }
    }

    /// Runs the call on fresh outputs, which must succeed, or report the row that the description spoils; an error if it wrote where it may not.
    pub fn run<Q: Runner>(&self, queue: &Q) -> Result<(Values<T, P>, Kernel), String> {
        self.reset();
        // A stream reports there what a host queue returns.
        let record = Memory::new(size_of::<StatusRecord>());
        record.restore(&[0; size_of::<StatusRecord>()]);
        let status = Status::new(queue.sink_at(record.address() as u64, 1)).map_err(|error| error.to_string())?;
        let (result, kernel) = self.with_call(queue, |call| {
            let call = if queue.is_stream() { call.status(&status) } else { call };
            let kernel = lora::backward_kernel(queue, &call).map_err(|error| error.to_string())?;
            let bytes = lora::backward_workspace(queue, &call).map_err(|error| error.to_string())?;
            // Undefined on entry: NaN, or what could be adapters.
            let layout = Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] };
            let anything = [u8::POISON, 0, 0x7f][self.spec.m % 3];
            let workspace = Buffer::<u8>::new(layout, |_| anything);
            let result = lora::backward(queue, call, Workspace::new(queue.sink(&workspace)));
            let result = match result {
                Ok(()) if queue.is_stream() => status.read(queue),
                result => result,
            };
            queue.finish()?;
            check_workspace_of(&workspace, anything)?;
            Ok::<_, String>((result, kernel))
        })?;
        match (result, self.spec.first_bad_row()) {
            (Ok(()), None) => {}
            (Err(Error::Data { argument: "row_adapter", index, .. }), Some(row)) if index == row as u64 => {}
            (result, expected) => return Err(format!("returned {result:?}, expected a bad row {expected:?}")),
        }
        self.x.check_untouched("x")?;
        match &self.rows {
            RowCase::Same => {}
            RowCase::Index(index) => index.check_untouched("row_adapter")?,
            RowCase::Segments(segments) => segments.check_untouched("segments")?,
        }
        fn output<E: Cell>(name: &str, buffer: &Buffer<E>, mode: Mode) -> Result<(), String> {
            match mode {
                Mode::None => buffer.check_untouched(name),
                _ => buffer.check_padding(name, &[buffer.layout]),
            }
        }
        output("dx", &self.dx, self.spec.x)?;
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            case.dy.check_untouched("dy")?;
            case.h.0.check_untouched("h")?;
            case.h.1.check_untouched("h in f32")?;
            case.w.iter().try_for_each(|w| w.check_untouched("w"))?;
            case.quantized.iter().try_for_each(QuantizedCase::check_untouched)?;
            case.row_scale.iter().try_for_each(|scale| scale.check_untouched("row scale"))?;
            for (i, AdapterCase { factors, gradients }) in case.adapters.iter().enumerate() {
                factors.a.check_untouched("a")?;
                factors.b.check_untouched("b")?;
                output(&format!("da of adapter {i}"), &gradients[0], spec.mode(i, 0))?;
                output(&format!("db of adapter {i}"), &gradients[1], spec.mode(i, 1))?;
            }
            output("dbias", &case.dbias, spec.modes[2])?;
        }
        let of = |buffer: &Buffer<P>| buffer.elements(&buffer.layout);
        let of_target =
            |target: &TargetCase<T, P>| target.adapters.iter().map(|case| case.gradients.each_ref().map(of)).collect();
        let values = Values {
            dx: self.dx.elements(&self.dx.layout),
            factors: self.targets.iter().map(of_target).collect(),
            bias: self.targets.iter().map(|target| target.dbias.elements(&target.dbias.layout)).collect(),
        };
        Ok((values, kernel))
    }
}
