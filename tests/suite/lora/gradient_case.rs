//! A backward call as a description, its operands, and the plain formula of its gradients.

use peft_kernels::lora::{self, Backward, BackwardTarget, Dropout, Gradient, Samples};
use peft_kernels::reference::Terms;
use peft_kernels::{Element, ElementType, Emulator, Error, Kernel, Layout, Place, RawStream, TensorMut, Workspace};

use super::case::{Arrangement, BiasSpec, Saved};
use super::middle::case::{MiddleCase, MiddleSpec, Part, sum as total, times};
use super::quantized::case::QuantizedCase;
use super::run::{check_workspace, list, matrix, rows};
use crate::buffer::{Buffer, Cell, indices};
use crate::numbers::{Numbers, Random};
use crate::queues::Runner;
use crate::streams::{Exercise, Run};

/// What is asked of a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    None,
    Overwrite,
    Accumulate,
}

#[derive(Clone, Debug)]
pub struct TargetSpec {
    pub n: usize,
    pub rank: Option<usize>,
    pub dense: bool,
    pub row_scale: BiasSpec,
    pub h: Saved,
    /// Of A, B and the bias; and whether they are sums over batches.
    pub modes: [Mode; 3],
    pub summed: [bool; 3],
    pub middle: MiddleSpec,
    /// Of the middle's scale, gate and core, where it has them; and whether those of scale and core are sums over batches.
    pub middle_modes: [Mode; 3],
    pub middle_summed: [bool; 2],
}

impl TargetSpec {
    pub fn new(n: usize, rank: usize) -> Self {
        let modes = [Mode::Overwrite; 3];
        let (middle, summed) = (MiddleSpec::default(), [false; 3]);
        let (middle_modes, middle_summed) = (modes, [false; 2]);
        let (row_scale, h) = (BiasSpec::None, Saved::None);
        Self { n, rank: Some(rank), dense: true, row_scale, h, modes, summed, middle, middle_modes, middle_summed }
    }
}

impl TargetSpec {
    /// What is asked of the gradients of scale, gate and core; of parts that there are not, nothing.
    pub fn middle_gradients(&self) -> [Mode; 3] {
        let parts = [self.middle.scale, self.middle.gate, self.middle.core];
        std::array::from_fn(|i| if parts[i] == Part::None { Mode::None } else { self.middle_modes[i] })
    }
}

/// Weights of samples, which have these rows or equally many.
#[derive(Clone, Debug)]
pub struct Weights {
    pub offsets: Option<Vec<i32>>,
    pub values: Vec<f32>,
}

impl Weights {
    /// Of a row among so many: by going through all samples.
    pub fn of_row(&self, row: usize, rows: usize) -> f64 {
        let each = rows / self.values.len();
        let rows = |sample: usize| match &self.offsets {
            Some(offsets) => offsets[sample] as usize..offsets[sample + 1] as usize,
            None => sample * each..(sample + 1) * each,
        };
        (0..self.values.len()).find(|&sample| rows(sample).contains(&row)).map_or(0.0, |i| f64::from(self.values[i]))
    }
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Mode,
    pub targets: Vec<TargetSpec>,
    pub dropout: Option<(f32, u64, u64)>,
    pub weights: Option<Weights>,
    /// Whether x, dy, w, a, b and h are one for all batches; bit by bit.
    pub shared: u32,
    pub arrangement: Arrangement,
    pub numbers: Numbers,
    pub seed: u64,
    /// The kernel, or 0.
    pub algorithm: i32,
    pub allow_tf32: bool,
    /// For quantised W.
    pub slab_bytes: usize,
}

/// The kernels of the emulator and the device, by number; 0 is the one that `pick` chooses.
pub const ALGORITHMS: [i32; 4] = [0, 1, 2, 3];

impl Spec {
    /// One layer with all its gradients.
    pub fn new(m: usize, n: usize, k: usize, rank: usize, numbers: Numbers) -> Self {
        Self {
            batches: 1,
            m,
            k,
            x: Mode::Overwrite,
            targets: vec![TargetSpec::new(n, rank)],
            dropout: None,
            weights: None,
            shared: 0,
            arrangement: Arrangement::Plain,
            numbers,
            seed: (m * 31 + n * 37 + k * 41 + rank) as u64,
            algorithm: 0,
            allow_tf32: false,
            slab_bytes: 0,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The first entry of a list of ranks that a call reports.
    fn first_bad_entry(&self) -> Option<usize> {
        let of_target = |target: &TargetSpec| target.middle.first_bad_entry(target.rank?);
        self.targets.iter().filter_map(of_target).min()
    }

    fn dropout(&self) -> Option<Dropout> {
        self.dropout.map(|(p, seed, offset)| Dropout::new(p, seed, offset).expect("a probability"))
    }
}

pub struct Factors<P> {
    pub a: Buffer<P>,
    pub b: Buffer<P>,
    pub scale: f32,
}

pub struct TargetCase<T, P> {
    pub dy: Buffer<T>,
    pub w: Option<Buffer<T>>,
    /// Its lists, where the call is given them instead.
    pub quantized: Option<QuantizedCase>,
    pub factors: Option<Factors<P>>,
    pub row_scale: Option<Buffer<f32>>,
    pub h: (Buffer<T>, Buffer<f32>),
    /// A gradient that is not asked for has a buffer all the same, which nobody may touch.
    pub da: Buffer<P>,
    pub db: Buffer<P>,
    pub dbias: Buffer<T>,
    pub middle: MiddleCase<P>,
    pub dscale: Buffer<P>,
    pub dgate: Buffer<f32>,
    pub dcore: Buffer<P>,
}

impl<T: Element + Cell, P: Element + Cell> TargetCase<T, P> {
    /// What a column of y is scaled by; of no batch nothing.
    fn scale_of(&self, batch: usize, column: usize) -> f64 {
        let scale = self.row_scale.as_ref().filter(|scale| scale.layout.extents[0] > 0);
        scale.map_or(1.0, |scale| f64::from(scale.get_shared([batch, 0, column])))
    }
}

/// The operands of a call, in buffers.
pub struct Case<T, P> {
    pub spec: Spec,
    pub x: Buffer<T>,
    pub dx: Buffer<T>,
    pub targets: Vec<TargetCase<T, P>>,
    /// The samples' offsets and weights, where the spec has them.
    pub samples: (Buffer<i32>, Buffer<f32>),
}

/// The gradients that a call left, in row-major order; those of one target as those of P and of T.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T, P> {
    pub dx: Vec<T>,
    pub factors: Vec<[Vec<P>; 2]>,
    pub bias: Vec<Vec<T>>,
    pub middle: Vec<MiddleValues<P>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MiddleValues<P> {
    pub scale: Vec<P>,
    pub gate: Vec<f32>,
    pub core: Vec<P>,
}

/// Value and Σ|terms| of each of them.
pub struct Oracle {
    pub dx: Vec<Terms>,
    /// How far rounding g ⊙ W to its type may move an element of dx.
    pub dx_rounded: Vec<f64>,
    pub factors: Vec<[Vec<Terms>; 2]>,
    pub bias: Vec<Vec<Terms>>,
    /// Scale, gate, core.
    pub middle: Vec<[Vec<Terms>; 3]>,
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    pub fn new(spec: &Spec) -> Self {
        let mut random = Random(spec.seed);
        let numbers = spec.numbers;
        let (batches, m, k) = (spec.batches, spec.m, spec.k);
        let batches_of = |operand: u32| if spec.shared >> operand & 1 == 1 { 1 } else { batches };
        let place = |random: &mut Random, operand: u32| spec.arrangement.place(random, operand);
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
        let layout = place(&mut random, 0).layout([batches_of(0), m, k]);
        let x = input(numbers, &mut random, layout, k.max(m));
        let layout = place(&mut random, 6).layout([batches, m, k]);
        let dx = output(numbers, &mut random, layout, spec.x);
        let targets = spec.targets.iter().map(|target| {
            let (n, rank) = (target.n, target.rank.unwrap_or(0));
            let layout = place(&mut random, 1).layout([batches_of(1), m, n]);
            let dy = input(numbers, &mut random, layout, n.max(m));
            let layout = place(&mut random, 2).layout([batches_of(2), n, k]);
            let w = target.dense.then(|| input(numbers, &mut random, layout, n));
            let a = place(&mut random, 3).layout([batches_of(3), rank, k]);
            let after = target.middle.columns_of_b(rank);
            let b = place(&mut random, 4).layout([batches_of(4), n, after]);
            let factors = target.rank.map(|_| Factors {
                a: input(numbers, &mut random, a, 16 * rank),
                b: input(numbers, &mut random, b, n),
                scale: numbers.scale(&mut random),
            });
            let columns = target.middle.ranks(rank).len();
            let layout = place(&mut random, 5).layout([batches_of(5), m, columns]);
            let h = input::<T>(numbers, &mut random, layout, m);
            let h_f32 = Buffer::new(layout, |index| h.get(index).to_f64() as f32 * 1.125);
            let mut gradient = |i: usize| {
                let batches = if target.summed[i] { 1 } else { batches };
                (place(&mut random, 7 + i as u32), batches)
            };
            let (a, a_batches) = gradient(0);
            let (b, b_batches) = gradient(1);
            let bias_batches = gradient(2).1;
            let [a_mode, b_mode, bias_mode] = target.modes;
            let bias = Layout { offset: 1, extents: [bias_batches, 1, n], strides: [n * 2 + 1, 0, 2] };
            let of_middle = &mut Random(spec.seed + 78);
            let places = [place(of_middle, 11), place(of_middle, 10)];
            let middle = MiddleCase::new(&target.middle, numbers, spec.seed, [batches, m, rank], places);
            let batches_of = |summed: bool| if summed { 1 } else { batches };
            let dscale = batches_of(target.middle_summed[0]);
            let dscale = Layout { offset: 2, extents: [dscale, 1, rank], strides: [rank * 3 + 1, 0, 3] };
            let dgate = place(of_middle, 13).layout([batches, m, rank]);
            let of_core = if target.middle.core == Part::None { 0 } else { target.middle.after };
            let dcore = [batches_of(target.middle_summed[1]), of_core, rank];
            let dcore = place(of_middle, 12).layout(dcore);
            let [scale_mode, gate_mode, core_mode] = target.middle_modes;
            let row_scale = match target.row_scale {
                BiasSpec::None => None,
                BiasSpec::Shared(step) => Some((1, step)),
                BiasSpec::Batched(step) => Some((batches, step)),
            };
            // Of integers powers of two, so that g ⊙ W has their bits.
            let row_scale = row_scale.map(|(batches, step)| {
                let layout = Layout { offset: step - 1, extents: [batches, 1, n], strides: [n * step + 1, 0, step] };
                Buffer::new(layout, |_| numbers.scale(&mut random))
            });
            TargetCase {
                dscale: output(numbers, of_middle, dscale, scale_mode),
                dgate: output(numbers, of_middle, dgate, gate_mode),
                dcore: output(numbers, of_middle, dcore, core_mode),
                middle,
                row_scale,
                da: output(numbers, &mut random, a.layout([a_batches, rank, k]), a_mode),
                db: output(numbers, &mut random, b.layout([b_batches, n, after]), b_mode),
                dbias: output(numbers, &mut random, bias, bias_mode),
                h: (h, h_f32),
                dy,
                w,
                quantized: None,
                factors,
            }
        });
        let targets = targets.collect();
        let offsets = spec.weights.as_ref().and_then(|weights| weights.offsets.as_deref());
        let values = spec.weights.as_ref().map_or(&[][..], |weights| &weights.values);
        let samples = (Buffer::list(offsets.unwrap_or(&[])), Buffer::list(values));
        Self { spec: spec.clone(), x, dx, targets, samples }
    }

    /// Calls `run` with the descriptor.
    pub fn with_call<Q: Runner, R>(&self, queue: &Q, run: impl FnOnce(Backward<'_, T, P, Q>) -> R) -> R {
        fn gradient<'a, E: Element + Cell, Q: Runner>(
            queue: &Q,
            buffer: &'a Buffer<E>,
            mode: Mode,
        ) -> Option<Gradient<'a, E, Q>> {
            let view = TensorMut::with_layout(queue.sink(buffer), buffer.layout).expect("the buffer holds its view");
            match mode {
                Mode::None => None,
                Mode::Overwrite => Some(Gradient::overwrite(view)),
                Mode::Accumulate => Some(Gradient::accumulate(view)),
            }
        }
        let mut call = Backward::new(matrix(queue, &self.x));
        if let Some(dx) = gradient(queue, &self.dx, self.spec.x) {
            call = call.x_gradient(dx);
        }
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            let mut target = BackwardTarget::new(matrix(queue, &case.dy));
            target = match (&case.quantized, &case.w) {
                (Some(w), _) => target.quantized(&w.given(queue)),
                (None, Some(w)) => target.dense(matrix(queue, w)),
                (None, None) => target,
            };
            if let Some(Factors { a, b, scale }) = &case.factors {
                target = target.adapter(matrix(queue, a), matrix(queue, b), *scale);
                target = match spec.h {
                    Saved::None => target,
                    Saved::Own => target.saved_h(matrix(queue, &case.h.0)),
                    Saved::F32 => target.saved_h_f32(matrix(queue, &case.h.1)),
                };
                if let Some(middle) = case.middle.given(queue) {
                    target = target.middle(middle);
                }
                let [scale, gate, core] = spec.middle_gradients();
                if scale != Mode::None {
                    let Layout { offset, extents: [batches, _, rank], strides: [pitch, _, step] } = case.dscale.layout;
                    let layout = Layout { offset, extents: [batches, rank], strides: [pitch, step] };
                    let view = TensorMut::with_layout(queue.sink(&case.dscale), layout).expect("a scale that fits");
                    target = target.scale_gradient(match scale {
                        Mode::Accumulate => Gradient::accumulate(view),
                        _ => Gradient::overwrite(view),
                    });
                }
                if let Some(dgate) = gradient(queue, &case.dgate, gate) {
                    target = target.gate_gradient(dgate);
                }
                if let Some(dcore) = gradient(queue, &case.dcore, core) {
                    target = target.core_gradient(dcore);
                }
                if let Some(da) = gradient(queue, &case.da, spec.modes[0]) {
                    target = target.a_gradient(da);
                }
                if let Some(db) = gradient(queue, &case.db, spec.modes[1]) {
                    target = target.b_gradient(db);
                }
            }
            if let Some(scale) = &case.row_scale {
                target = target.row_scale(rows(queue, scale));
            }
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
        call = call.slab_bytes(self.spec.slab_bytes);
        if self.spec.allow_tf32 {
            call = call.allow_tf32();
        }
        run(if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) })
    }

    pub fn reset(&self) {
        self.dx.reset();
        for target in &self.targets {
            target.da.reset();
            target.db.reset();
            target.dbias.reset();
            target.dscale.reset();
            target.dgate.reset();
            target.dcore.reset();
        }
    }

    pub fn values(&self) -> Values<T, P> {
        fn of<E: Cell>(buffer: &Buffer<E>) -> Vec<E> {
            buffer.elements(&buffer.layout)
        }
        Values {
            dx: of(&self.dx),
            factors: self.targets.iter().map(|target| [of(&target.da), of(&target.db)]).collect(),
            bias: self.targets.iter().map(|target| of(&target.dbias)).collect(),
            middle: self
                .targets
                .iter()
                .map(|target| MiddleValues {
                    scale: of(&target.dscale),
                    gate: of(&target.dgate),
                    core: of(&target.dcore),
                })
                .collect(),
        }
    }

    /// Runs the call on fresh outputs; an error if it failed or wrote where it may not.
    pub fn run<Q: Runner>(&self, queue: &Q) -> Result<(Values<T, P>, Kernel), String> {
        self.reset();
        let (kernel, workspace) = self.with_call(queue, |call| {
            let kernel = lora::backward_kernel(queue, &call).map_err(|error| error.to_string())?;
            let bytes = lora::backward_workspace(queue, &call).map_err(|error| error.to_string())?;
            // Undefined on entry: NaN.
            let layout = Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] };
            let workspace = Buffer::<u8>::new(layout, |_| u8::POISON);
            let result = lora::backward(queue, call, Workspace::new(queue.sink(&workspace)));
            match (result, self.spec.first_bad_entry()) {
                (Ok(()), expected) if expected.is_none() || queue.is_stream() => {}
                (Err(Error::Data { argument: "the list of ranks", index, .. }), Some(entry))
                    if index == entry as u64 => {}
                (result, expected) => return Err(format!("returned {result:?}, expected a bad entry {expected:?}")),
            }
            queue.finish()?;
            Ok::<_, String>((kernel, workspace))
        })?;
        check_workspace(&workspace)?;
        self.x.check_untouched("x")?;
        self.samples.0.check_untouched("sample offsets")?;
        self.samples.1.check_untouched("sample weights")?;
        fn output<E: Cell>(name: &str, buffer: &Buffer<E>, asked: bool) -> Result<(), String> {
            if asked { buffer.check_padding(name, &[buffer.layout]) } else { buffer.check_untouched(name) }
        }
        output("dx", &self.dx, self.spec.x != Mode::None)?;
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            case.dy.check_untouched("dy")?;
            case.h.0.check_untouched("h")?;
            case.h.1.check_untouched("h in f32")?;
            case.w.iter().try_for_each(|w| w.check_untouched("w"))?;
            case.quantized.iter().try_for_each(QuantizedCase::check_untouched)?;
            case.row_scale.iter().try_for_each(|scale| scale.check_untouched("row scale"))?;
            if let Some(Factors { a, b, .. }) = &case.factors {
                a.check_untouched("a")?;
                b.check_untouched("b")?;
            }
            output("da", &case.da, spec.modes[0] != Mode::None && spec.rank.is_some())?;
            output("db", &case.db, spec.modes[1] != Mode::None && spec.rank.is_some())?;
            output("dbias", &case.dbias, spec.modes[2] != Mode::None)?;
            case.middle.check_untouched()?;
            let [scale, gate, core] = spec.middle_gradients();
            output("dscale", &case.dscale, scale != Mode::None)?;
            output("dgate", &case.dgate, gate != Mode::None)?;
            output("dcore", &case.dcore, core != Mode::None)?;
        }
        Ok((self.values(), kernel))
    }

    /// Value and Σ|terms| of every element, by the plain formula; what is not asked for keeps what it has.
    pub fn oracle(&self) -> Oracle {
        self.reset();
        let Spec { batches, m, k, .. } = self.spec;
        let dropout = self.spec.dropout();
        let kept = |[batch, row, column]: [usize; 3]| {
            dropout.as_ref().is_none_or(|dropout| dropout.keeps(batch * m + row, column))
        };
        let factor = self.spec.dropout.map_or(1.0, |(p, ..)| 1.0 / (1.0 - f64::from(p)));
        let weight = |batch, row| self.weight(batch, row);
        let x = |index: [usize; 3]| if kept(index) { self.x.get_shared(index).to_f64() } else { 0.0 };
        let sum = |terms: &mut dyn Iterator<Item = (Terms, f64)>| {
            terms.fold(Terms::default(), |mut sum, (term, by)| {
                sum.value += term.value * by;
                sum.magnitude += term.magnitude * by.abs();
                sum
            })
        };
        let one = |value: f64| Terms { value, magnitude: value.abs() };
        // [batch][row][rank]
        let of_rows = |rank: usize, of: &dyn Fn([usize; 3]) -> Terms| -> Vec<Terms> {
            indices([batches, m, rank]).map(of).collect()
        };
        let (mut all_dh, mut factors, mut bias, mut middles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            let n = spec.n;
            let Some(Factors { a, b, scale }) = &case.factors else {
                factors.push([Vec::new(), Vec::new()]);
                all_dh.push(Vec::new());
                middles.push([Vec::new(), Vec::new(), Vec::new()]);
                bias.push(self.bias_terms(case, spec));
                continue;
            };
            let scale = f64::from(*scale) * factor;
            let dy = |index: [usize; 3]| case.dy.get_shared(index).to_f64() * case.scale_of(index[0], index[2]);
            // What a middle makes of H, and its gradients; of a target without one these are H and dH.
            let middle = &case.middle;
            let (columns, after) = (middle.ranks.len(), middle.after);
            let rank_after = |i: usize| if spec.middle.core == Part::None { middle.ranks[i] } else { Some(i) };
            let dh_after = of_rows(after, &|[batch, row, r]| {
                let b = |i| rank_after(r).map_or(0.0, |rank| b.get_shared([batch, i, rank]).to_f64());
                sum(&mut (0..n).map(|i| (one(dy([batch, row, i])), b(i))))
            });
            let h = of_rows(columns, &|[batch, row, r]| match spec.h {
                Saved::Own => one(case.h.0.get_shared([batch, row, r]).to_f64()),
                Saved::F32 => one(f64::from(case.h.1.get_shared([batch, row, r]))),
                Saved::None => {
                    let a = |i| middle.ranks[r].map_or(0.0, |rank| a.get_shared([batch, rank, i]).to_f64());
                    sum(&mut (0..k).map(|i| (one(x([batch, row, i])), a(i))))
                }
            });
            let each_row = |of: &dyn Fn([usize; 2], usize) -> Vec<Terms>| -> Vec<Terms> {
                (0..batches * m).flat_map(|row| of([row / m, row % m], row)).collect()
            };
            let f = each_row(&|[batch, _], row| middle.back(batch, &dh_after[row * after..][..after]));
            let dh = each_row(&|place, row| middle.gradient_of_h(place, &f[row * columns..][..columns]));
            let inner = each_row(&|place, row| middle.inner(place, &h[row * columns..][..columns]));
            let h_after = each_row(&|place, row| middle.apply(place, &h[row * columns..][..columns]));
            let column_of = |rank: usize| middle.ranks.iter().position(|&of| of == Some(rank));
            let rows = |batch: usize, summed: bool| {
                let range = if summed { 0..batches } else { batch..batch + 1 };
                range.flat_map(|batch| (0..m).map(move |row| (batch, row)))
            };
            let before = |accumulates: Mode, old: f64, product: Terms| {
                let mut value = sum(&mut std::iter::once((product, scale)));
                if accumulates == Mode::Accumulate {
                    value.value += old;
                    value.magnitude += old.abs();
                }
                value
            };
            // What no entry of a list names stays as it is.
            let kept = |old: f64| one(old);
            let da = indices(case.da.layout.extents).map(|index| {
                let [batch, rank, i] = index;
                let Some(r) = column_of(rank) else { return kept(case.da.get(index).to_f64()) };
                let mut terms = rows(batch, case.da.layout.extents[0] == 1)
                    .map(|(batch, row)| (dh[(batch * m + row) * columns + r], weight(batch, row) * x([batch, row, i])));
                before(spec.modes[0], case.da.get(index).to_f64(), sum(&mut terms))
            });
            let db = indices(case.db.layout.extents).map(|index| {
                let [batch, i, rank] = index;
                let r = if spec.middle.core == Part::None { column_of(rank) } else { Some(rank) };
                let Some(r) = r else { return kept(case.db.get(index).to_f64()) };
                // A row scale multiplies the sum over the rows that have it: those of a batch, or of all.
                let own = case.row_scale.as_ref().is_some_and(|scale| scale.layout.extents[0] > 1);
                let summed = case.db.layout.extents[0] == 1;
                let parts = if own && summed { (0..batches).collect() } else { vec![batch] };
                let scaled = |part: usize| {
                    let mut terms = rows(part, summed && !own).map(|(batch, row)| {
                        let dy = case.dy.get_shared([batch, row, i]).to_f64();
                        (h_after[(batch * m + row) * after + r], weight(batch, row) * dy)
                    });
                    times(sum(&mut terms), case.scale_of(part, i))
                };
                before(spec.modes[1], case.db.get(index).to_f64(), total(parts.into_iter().map(scaled)))
            });
            let [scale_mode, gate_mode, core_mode] = spec.middle_gradients();
            let dscale = indices(case.dscale.layout.extents).map(|index| {
                let old = case.dscale.get(index).to_f64();
                let Some(r) = column_of(index[2]) else { return kept(old) };
                let terms = rows(index[0], case.dscale.layout.extents[0] == 1).map(|(batch, row)| {
                    let at = (batch * m + row) * columns + r;
                    times(middle.gradient_of_scale([batch, row, r], f[at], h[at]), weight(batch, row))
                });
                before(scale_mode, old, total(terms))
            });
            let dgate = indices(case.dgate.layout.extents).map(|index| {
                let [batch, row, rank] = index;
                let old = f64::from(case.dgate.get(index));
                let Some(r) = column_of(rank) else { return kept(old) };
                let at = (batch * m + row) * columns + r;
                before(gate_mode, old, middle.gradient_of_gate([batch, row, r], f[at], h[at]))
            });
            let dcore = indices(case.dcore.layout.extents).map(|index| {
                let [batch, i, j] = index;
                let terms = rows(batch, case.dcore.layout.extents[0] == 1).map(|(batch, row)| {
                    let row_of_all = batch * m + row;
                    let after = times(dh_after[row_of_all * after + i], weight(batch, row));
                    super::middle::case::product(after, inner[row_of_all * columns + j])
                });
                before(core_mode, case.dcore.get(index).to_f64(), total(terms))
            });
            middles.push([dscale.collect(), dgate.collect(), dcore.collect()]);
            factors.push([da.collect(), db.collect()]);
            bias.push(self.bias_terms(case, spec));
            all_dh.push(dh);
        }
        let dx = indices([batches, m, k]).map(|[batch, row, i]| {
            let mut value = Terms::default();
            let mut add = |terms: Terms| {
                value.value += terms.value;
                value.magnitude += terms.magnitude;
            };
            for ((case, spec), dh) in self.targets.iter().zip(&self.spec.targets).zip(&all_dh) {
                if let Some(w) = &case.w {
                    let dy = |j| one(case.dy.get_shared([batch, row, j]).to_f64() * case.scale_of(batch, j));
                    add(sum(&mut (0..spec.n).map(|j| (dy(j), w.get_shared([batch, j, i]).to_f64()))));
                }
                if let Some(Factors { a, scale, .. }) = &case.factors
                    && kept([batch, row, i])
                {
                    let ranks = &case.middle.ranks;
                    let a = |r: usize| ranks[r].map_or(0.0, |rank| a.get_shared([batch, rank, i]).to_f64());
                    let by = |r| f64::from(*scale) * factor * a(r);
                    let columns = ranks.len();
                    add(sum(&mut (0..columns).map(|r| (dh[(batch * m + row) * columns + r], by(r)))));
                }
            }
            if self.spec.x == Mode::Accumulate {
                add(one(self.dx.get([batch, row, i]).to_f64()));
            }
            value
        });
        let dx_rounded = indices([batches, m, k]).map(|index| self.dx_rounded(index));
        Oracle { dx: dx.collect(), dx_rounded: dx_rounded.collect(), factors, bias, middle: middles }
    }

    /// Half a unit in the last place of every g·W, of 2⁻²⁴ below f16's normal numbers, times its dY.
    fn dx_rounded(&self, [batch, row, i]: [usize; 3]) -> f64 {
        let Some((unit, least)) = rounding_of::<T>() else { return 0.0 };
        let of_target = |(case, spec): (&TargetCase<T, P>, &TargetSpec)| {
            let (Some(w), Some(_)) = (&case.w, &case.row_scale) else { return 0.0 };
            let product = |j| w.get_shared([batch, j, i]).to_f64() * case.scale_of(batch, j);
            let moved = |j| case.dy.get_shared([batch, row, j]).to_f64().abs() * (unit * product(j)).abs().max(least);
            (0..spec.n).map(moved).sum()
        };
        self.targets.iter().zip(&self.spec.targets).map(of_target).sum::<f64>()
    }

    /// What a row counts in the gradients of parameters.
    fn weight(&self, batch: usize, row: usize) -> f64 {
        let Spec { batches, m, .. } = self.spec;
        self.spec.weights.as_ref().map_or(1.0, |weights| weights.of_row(batch * m + row, batches * m))
    }

    fn bias_terms(&self, case: &TargetCase<T, P>, spec: &TargetSpec) -> Vec<Terms> {
        let Spec { batches, m, .. } = self.spec;
        let summed = case.dbias.layout.extents[0] == 1;
        let value = |index: [usize; 3]| {
            let range = if summed { 0..batches } else { index[0]..index[0] + 1 };
            let rows = range.flat_map(|batch| (0..m).map(move |row| [batch, row, index[2]]));
            let mut terms = Terms::default();
            let old = (spec.modes[2] == Mode::Accumulate).then(|| case.dbias.get(index).to_f64());
            let dy =
                |[batch, row, i]: [usize; 3]| self.weight(batch, row) * case.dy.get_shared([batch, row, i]).to_f64();
            for value in rows.map(dy).chain(old) {
                terms.value += value;
                terms.magnitude += value.abs();
            }
            terms
        };
        indices(case.dbias.layout.extents).map(value).collect()
    }
}

/// Half a unit in the last place of a number of 16 bits, relative and at least.
pub fn rounding_of<T: Element>() -> Option<(f64, f64)> {
    match T::TYPE {
        ElementType::F16 => Some((2f64.powi(-11), 2f64.powi(-25))),
        ElementType::BF16 => Some((2f64.powi(-8), 0.0)),
        _ => None,
    }
}

/// A backward as what a stream can be given.
struct Call<T, P>(Case<T, P>, Buffer<u8>);

impl<T: Element + Cell, P: Element + Cell> Exercise for Call<T, P> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        let Self(case, workspace) = self;
        case.with_call(queue, |call| {
            let mut call = Some(call);
            run(&mut || {
                let call = call.take().expect("a call is enqueued once");
                lora::backward(queue, call, Workspace::new(queue.sink(workspace)))
            })
        })
    }
    fn reset(&self) {
        self.0.reset();
    }
    fn output(&self) -> Vec<u8> {
        let Case { dx, targets, .. } = &self.0;
        let of = |target: &TargetCase<T, P>| {
            let of_middle = [target.dscale.bytes(), target.dgate.bytes(), target.dcore.bytes()].concat();
            [target.da.bytes(), target.db.bytes(), target.dbias.bytes(), of_middle].concat()
        };
        [dx.bytes(), targets.iter().flat_map(of).collect()].concat()
    }
}

/// A backward of this description, its operands in the memory that this thread uses.
pub fn exercise<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Box<dyn Exercise> {
    exercise_of(Case::<T, P>::new(spec))
}

pub fn exercise_of<T: Element + Cell, P: Element + Cell>(case: Case<T, P>) -> Box<dyn Exercise> {
    let bytes = case.with_call(&Emulator::new(0), |call| lora::backward_workspace(&Emulator::new(0), &call));
    let bytes = bytes.expect("a call that fits");
    let workspace = Buffer::new(Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] }, |_| u8::POISON);
    Box::new(Call(case, workspace))
}
