//! A call as a description, its operands, and the plain formula of its gradients.

use peft_kernels::lora::{self, DoubleBackward, Gradient};
use peft_kernels::reference::Terms;
use peft_kernels::{Element, Emulator, Kernel, Layout, Place, RawStream, TensorMut, Workspace};

use crate::buffer::{Buffer, Cell, indices};
use crate::lora::case::Arrangement;
use crate::lora::gradient_case::Mode;
use crate::lora::run::{check_workspace, matrix};
use crate::numbers::{Numbers, Random};
use crate::queues::Runner;
use crate::streams::{Exercise, Run};

#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub rank: Option<usize>,
    pub dense: bool,
    /// Whether there is one of the gradient of x, of A and of B.
    pub cotangents: [bool; 3],
    /// Of the gradients of dY, x, A and B; and whether those of A and B are sums over batches.
    pub modes: [Mode; 4],
    pub summed: [bool; 2],
    /// Whether x, dy, w, a, b and the three cotangents are one for all batches; bit by bit.
    pub shared: u32,
    pub arrangement: Arrangement,
    pub numbers: Numbers,
    pub seed: u64,
    /// The kernel, or 0.
    pub algorithm: i32,
    pub allow_tf32: bool,
}

impl Spec {
    /// All cotangents, all gradients.
    pub fn new(m: usize, n: usize, k: usize, rank: usize, numbers: Numbers) -> Self {
        Self {
            batches: 1,
            m,
            n,
            k,
            rank: Some(rank),
            dense: true,
            cotangents: [true; 3],
            modes: [Mode::Overwrite; 4],
            summed: [false; 2],
            shared: 0,
            arrangement: Arrangement::Plain,
            numbers,
            seed: (m * 31 + n * 37 + k * 41 + rank) as u64,
            algorithm: 0,
            allow_tf32: false,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The cotangents that a call is given: without an adapter there are none of factors.
    pub fn given(&self) -> [bool; 3] {
        let [ux, ua, ub] = self.cotangents;
        let adapter = self.rank.is_some();
        [ux, ua && adapter, ub && adapter]
    }

    /// And what it is asked for.
    pub fn asked(&self) -> [Mode; 4] {
        let [dy, x, a, b] = self.modes;
        if self.rank.is_some() { [dy, x, a, b] } else { [dy, x, Mode::None, Mode::None] }
    }
}

/// The operands of a call, in buffers; those that a call is not given have buffers all the same, which nobody may touch.
pub struct Case<T, P> {
    pub spec: Spec,
    pub x: Buffer<T>,
    pub dy: Buffer<T>,
    pub w: Buffer<T>,
    pub a: Buffer<P>,
    pub b: Buffer<P>,
    pub scale: f32,
    pub ux: Buffer<T>,
    pub ua: Buffer<P>,
    pub ub: Buffer<P>,
    /// The gradients of dY and x, of A and B.
    pub rows: [Buffer<T>; 2],
    pub factors: [Buffer<P>; 2],
}

/// The gradients that a call left, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T, P> {
    pub rows: [Vec<T>; 2],
    pub factors: [Vec<P>; 2],
}

/// Σ of products of two lists, with the sum of their magnitudes.
fn sum(terms: impl Iterator<Item = (Terms, f64)>) -> Terms {
    terms.fold(Terms::default(), |mut sum, (term, by)| {
        sum.value += term.value * by;
        sum.magnitude += term.magnitude * by.abs();
        sum
    })
}

fn one(value: f64) -> Terms {
    Terms { value, magnitude: value.abs() }
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    pub fn new(spec: &Spec) -> Self {
        let mut random = Random(spec.seed);
        let (numbers, Spec { batches, m, n, k, .. }) = (spec.numbers, *spec);
        let rank = spec.rank.unwrap_or(0);
        let mut layout = |operand: u32, rows, columns| {
            let batches = if spec.shared >> operand & 1 == 1 { 1 } else { batches };
            spec.arrangement.place(&mut random, operand).layout([batches, rows, columns])
        };
        let layouts = [(m, k), (m, n), (n, k), (rank, k), (n, rank), (m, k), (rank, k), (n, rank)];
        let mut number = 0..;
        let [x, dy, w, a, b, ux, ua, ub] =
            layouts.map(|(rows, columns)| layout(number.next().expect("numbers without end"), rows, columns));
        let mut place = |operand: u32, batches, rows, columns| {
            spec.arrangement.place(&mut random, operand).layout([batches, rows, columns])
        };
        let rows = [place(8, batches, m, n), place(9, batches, m, k)];
        let [a_batches, b_batches] = spec.summed.map(|summed| if summed { 1 } else { batches });
        let factors = [place(10, a_batches, rank, k), place(11, b_batches, n, rank)];
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
        let random = &mut random;
        Self {
            x: input(numbers, random, x, k.max(m)),
            dy: input(numbers, random, dy, n.max(m)),
            w: input(numbers, random, w, k),
            a: input(numbers, random, a, 16 * rank),
            b: input(numbers, random, b, n),
            scale: numbers.scale(random),
            ux: input(numbers, random, ux, k.max(m)),
            ua: input(numbers, random, ua, 16 * rank),
            ub: input(numbers, random, ub, n),
            rows: [0, 1].map(|i| output(numbers, random, rows[i], spec.modes[i])),
            factors: [0, 1].map(|i| output(numbers, random, factors[i], spec.modes[2 + i])),
            spec: *spec,
        }
    }

    /// Calls `run` with the descriptor.
    pub fn with_call<Q: Runner, R>(&self, queue: &Q, run: impl FnOnce(DoubleBackward<'_, T, P, Q>) -> R) -> R {
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
        let mut call = DoubleBackward::new(matrix(queue, &self.x), matrix(queue, &self.dy));
        if self.spec.dense {
            call = call.dense(matrix(queue, &self.w));
        }
        if self.spec.rank.is_some() {
            call = call.adapter(matrix(queue, &self.a), matrix(queue, &self.b), self.scale);
        }
        let [ux, ua, ub] = self.spec.given();
        call = if ux { call.x_cotangent(matrix(queue, &self.ux)) } else { call };
        call = if ua { call.a_cotangent(matrix(queue, &self.ua)) } else { call };
        call = if ub { call.b_cotangent(matrix(queue, &self.ub)) } else { call };
        let [of_dy, of_x, of_a, of_b] = self.spec.asked();
        if let Some(gradient) = gradient(queue, &self.rows[0], of_dy) {
            call = call.dy_gradient(gradient);
        }
        if let Some(gradient) = gradient(queue, &self.rows[1], of_x) {
            call = call.x_gradient(gradient);
        }
        if let Some(gradient) = gradient(queue, &self.factors[0], of_a) {
            call = call.a_gradient(gradient);
        }
        if let Some(gradient) = gradient(queue, &self.factors[1], of_b) {
            call = call.b_gradient(gradient);
        }
        if self.spec.allow_tf32 {
            call = call.allow_tf32();
        }
        run(if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) })
    }

    pub fn reset(&self) {
        self.rows.iter().for_each(Buffer::reset);
        self.factors.iter().for_each(Buffer::reset);
    }

    fn values(&self) -> Values<T, P> {
        let [dy, x] = &self.rows;
        let [a, b] = &self.factors;
        Values {
            rows: [dy.elements(&dy.layout), x.elements(&x.layout)],
            factors: [a.elements(&a.layout), b.elements(&b.layout)],
        }
    }

    /// Runs the call on fresh outputs; an error if it failed or wrote where it may not.
    pub fn run<Q: Runner>(&self, queue: &Q) -> Result<(Values<T, P>, Kernel), String> {
        self.reset();
        let say = |error: peft_kernels::Error| error.to_string();
        let (kernel, workspace) = self.with_call(queue, |call| {
            let kernel = lora::double_backward_kernel(queue, &call).map_err(say)?;
            let bytes = lora::double_backward_workspace(queue, &call).map_err(say)?;
            // Undefined on entry: NaN.
            let workspace = Buffer::<u8>::list(&vec![u8::POISON; bytes]);
            lora::double_backward(queue, call, Workspace::new(queue.sink(&workspace))).map_err(say)?;
            queue.finish()?;
            Ok::<_, String>((kernel, workspace))
        })?;
        check_workspace(&workspace)?;
        self.check_inputs()?;
        fn output<E: Cell>(name: &str, buffer: &Buffer<E>, mode: Mode) -> Result<(), String> {
            match mode {
                Mode::None => buffer.check_untouched(name),
                _ => buffer.check_padding(name, &[buffer.layout]),
            }
        }
        let [of_dy, of_x, of_a, of_b] = self.spec.asked();
        output("the gradient of dy", &self.rows[0], of_dy)?;
        output("the gradient of x", &self.rows[1], of_x)?;
        output("the gradient of a", &self.factors[0], of_a)?;
        output("the gradient of b", &self.factors[1], of_b)?;
        Ok((self.values(), kernel))
    }

    fn check_inputs(&self) -> Result<(), String> {
        self.x.check_untouched("x")?;
        self.dy.check_untouched("dy")?;
        self.w.check_untouched("w")?;
        self.a.check_untouched("a")?;
        self.b.check_untouched("b")?;
        self.ux.check_untouched("the cotangent of dx")?;
        self.ua.check_untouched("the cotangent of da")?;
        self.ub.check_untouched("the cotangent of db")
    }

    /// Every output is as it was.
    pub fn check_untouched(&self) -> Result<(), String> {
        self.rows.iter().try_for_each(|buffer| buffer.check_untouched("a gradient of a refused call"))?;
        self.factors.iter().try_for_each(|buffer| buffer.check_untouched("a gradient of a refused call"))
    }

    /// Value and Σ|terms| of every element of the gradients of dY, x, A and B, by the plain formula; nothing where one is not asked for.
    pub fn oracle(&self) -> [Vec<Terms>; 4] {
        self.reset();
        let Spec { batches, m, n, k, dense, .. } = self.spec;
        let (rank, scale) = (self.spec.rank.unwrap_or(0), f64::from(self.scale));
        let [ux, ua, ub] = self.spec.given();
        let of = |there: bool, value: f64| if there { value } else { 0.0 };
        let x = |index| self.x.get_shared(index).to_f64();
        let dy = |index| self.dy.get_shared(index).to_f64();
        let w = |index| self.w.get_shared(index).to_f64();
        let a = |index| self.a.get_shared(index).to_f64();
        let b = |index| self.b.get_shared(index).to_f64();
        // Only where they are there: 0 times NaN would be NaN.
        let u_x = |index| of(ux, self.ux.get_shared(index).to_f64());
        let u_a = |index| of(ua, self.ua.get_shared(index).to_f64());
        let u_b = |index| of(ub, self.ub.get_shared(index).to_f64());
        // [batch][row][rank]
        let of_rows =
            |of: &dyn Fn([usize; 3]) -> Terms| -> Vec<Terms> { indices([batches, m, rank]).map(of).collect() };
        let at = |batch: usize, row: usize, r: usize| (batch * m + row) * rank + r;
        let h1 = of_rows(&|[batch, row, r]| {
            let of_x = (0..k).map(|i| (one(u_x([batch, row, i])), a([batch, r, i]))).filter(|_| ux);
            sum(of_x.chain((0..k).map(|i| (one(x([batch, row, i])), u_a([batch, r, i]))).filter(|_| ua)))
        });
        let h0 = of_rows(&|[batch, row, r]| sum((0..k).map(|i| (one(x([batch, row, i])), a([batch, r, i])))));
        let d0 = of_rows(&|[batch, row, r]| sum((0..n).map(|j| (one(dy([batch, row, j])), b([batch, j, r])))));
        let d1 = of_rows(&|[batch, row, r]| sum((0..n).map(|j| (one(dy([batch, row, j])), u_b([batch, j, r])))));

        let finish = |mode: Mode, old: f64, terms: Terms| match mode {
            Mode::Accumulate => sum([(terms, 1.0), (one(old), 1.0)].into_iter()),
            _ => terms,
        };
        let [of_dy, of_x, of_a, of_b] = self.spec.asked();
        let ranks = || 0..rank;
        let rows_of = |batch: usize, summed: bool| {
            let range = if summed { 0..batches } else { batch..batch + 1 };
            range.flat_map(|batch| (0..m).map(move |row| (batch, row)))
        };
        let of_dy_terms = indices([batches, m, n]).filter(|_| of_dy != Mode::None).map(|index| {
            let [batch, row, j] = index;
            let base = (0..k).map(|i| (one(u_x([batch, row, i])), w([batch, j, i]))).filter(|_| ux && dense);
            let first = ranks().map(|r| (h1[at(batch, row, r)], scale * b([batch, j, r]))).filter(|_| ux || ua);
            let second = ranks().map(|r| (h0[at(batch, row, r)], scale * u_b([batch, j, r]))).filter(|_| ub);
            finish(of_dy, self.rows[0].get(index).to_f64(), sum(base.chain(first).chain(second)))
        });
        let of_x_terms = indices([batches, m, k]).filter(|_| of_x != Mode::None).map(|index| {
            let [batch, row, i] = index;
            let first = ranks().map(|r| (d1[at(batch, row, r)], scale * a([batch, r, i]))).filter(|_| ub);
            let second = ranks().map(|r| (d0[at(batch, row, r)], scale * u_a([batch, r, i]))).filter(|_| ua);
            finish(of_x, self.rows[1].get(index).to_f64(), sum(first.chain(second)))
        });
        let of_a_terms = indices(self.factors[0].layout.extents).filter(|_| of_a != Mode::None).map(|index| {
            let [group, r, i] = index;
            let rows = || rows_of(group, self.spec.summed[0]);
            let first = rows().map(|(batch, row)| (d0[at(batch, row, r)], scale * u_x([batch, row, i])));
            let second = rows().map(|(batch, row)| (d1[at(batch, row, r)], scale * x([batch, row, i])));
            let terms = sum(first.filter(|_| ux).chain(second.filter(|_| ub)));
            finish(of_a, self.factors[0].get(index).to_f64(), terms)
        });
        let of_b_terms = indices(self.factors[1].layout.extents).filter(|_| of_b != Mode::None).map(|index| {
            let [group, j, r] = index;
            let rows = rows_of(group, self.spec.summed[1]);
            let terms = rows.map(|(batch, row)| (h1[at(batch, row, r)], scale * dy([batch, row, j])));
            finish(of_b, self.factors[1].get(index).to_f64(), sum(terms.filter(|_| ux || ua)))
        });
        [of_dy_terms.collect(), of_x_terms.collect(), of_a_terms.collect(), of_b_terms.collect()]
    }
}

/// A call as what a stream can be given.
struct Call<T, P>(Case<T, P>, Buffer<u8>);

impl<T: Element + Cell, P: Element + Cell> Exercise for Call<T, P> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        let Self(case, workspace) = self;
        case.with_call(queue, |call| {
            let mut call = Some(call);
            run(&mut || {
                let call = call.take().expect("a call is enqueued once");
                lora::double_backward(queue, call, Workspace::new(queue.sink(workspace)))
            })
        })
    }
    fn reset(&self) {
        self.0.reset();
    }
    fn output(&self) -> Vec<u8> {
        let Case { rows: [dy, x], factors: [a, b], .. } = &self.0;
        [dy.bytes(), x.bytes(), a.bytes(), b.bytes()].concat()
    }
}

/// A call of this description, its operands in the memory that this thread uses.
pub fn exercise<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Box<dyn Exercise> {
    let case = Case::<T, P>::new(spec);
    let queue = Emulator::new(0);
    let bytes = case.with_call(&queue, |call| lora::double_backward_workspace(&queue, &call));
    let workspace = Buffer::<u8>::list(&vec![u8::POISON; bytes.expect("a call that fits")]);
    Box::new(Call(case, workspace))
}
