//! A table over two segments against two plain calls on their rows: the same bits where sums are made alike, else within both bounds. And against the reference's own values.

use peft_kernels::lora::{
    self, Adapter, AdapterGradient, AdapterTable, Backward, BackwardTarget, Gradient, GradientTable, Segment,
};
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Element, HostQueue, Mat, MatMut, Result, Vector, Workspace, reference};

use crate::lora::gradient_case::ALGORITHMS;
use crate::numbers::Random;
use crate::queues::{Runner, Trials, emulators};

const N: usize = 21;
const K: usize = 34;
/// Of the two adapters; of at most 64 rows each, which every kernel sums in one part.
const ROWS: [usize; 2] = [40, 31];
const RANKS: [usize; 2] = [5, 9];
const SCALES: [f32; 2] = [0.75, -1.5];

struct Data<T, P> {
    x: Vec<T>,
    dy: Vec<T>,
    w: Vec<T>,
    a: [Vec<P>; 2],
    b: [Vec<P>; 2],
}

/// dX, dA and dB of both adapters, and what an error may be, in steps.
struct Gradients<T, P> {
    x: Vec<T>,
    a: [Vec<P>; 2],
    b: [Vec<P>; 2],
    steps: usize,
}

impl<T: Element, P: Element> Data<T, P> {
    fn new() -> Self {
        fn list<E: Element>(name: &str, length: usize) -> Vec<E> {
            let mut random = Random::of(name);
            (0..length).map(|_| E::from_f64(random.real())).collect()
        }
        let m = ROWS[0] + ROWS[1];
        Self {
            x: list("alike x", m * K),
            dy: list("alike dy", m * N),
            w: list("alike w", N * K),
            a: RANKS.map(|rank| list(&format!("alike a {rank}"), rank * K)),
            b: RANKS.map(|rank| list(&format!("alike b {rank}"), N * rank)),
        }
    }

    fn outputs(&self, rows: usize) -> Gradients<T, P> {
        let zero = P::from_f64(0.0);
        Gradients {
            x: vec![T::from_f64(0.0); rows * K],
            a: RANKS.map(|rank| vec![zero; rank * K]),
            b: RANKS.map(|rank| vec![zero; N * rank]),
            steps: 0,
        }
    }

    /// Calls `run` with the call over the table.
    fn with_table<Q: Runner + HostQueue, R>(
        &self,
        queue: &Q,
        outputs: &mut Gradients<T, P>,
        run: impl FnOnce(Backward<'_, T, P, Q>) -> Result<R>,
    ) -> Result<R> {
        let m = ROWS[0] + ROWS[1];
        let adapter = |i: usize| {
            let (a, b) = (Mat::new(&self.a[i], RANKS[i], K)?, Mat::new(&self.b[i], N, RANKS[i])?);
            Ok(Adapter::new(a, b, SCALES[i]))
        };
        let adapters = [adapter(0)?, adapter(1)?];
        let table = AdapterTable::new(queue, &adapters)?;
        let ([a0, a1], [b0, b1]) = (outputs.a.each_mut(), outputs.b.each_mut());
        let mut gradients = [
            AdapterGradient::none().a(of(queue, a0, RANKS[0], K)?).b(of(queue, b0, N, RANKS[0])?),
            AdapterGradient::none().a(of(queue, a1, RANKS[1], K)?).b(of(queue, b1, N, RANKS[1])?),
        ];
        let segments = [Segment::new(0..ROWS[0], Some(0)), Segment::new(ROWS[0]..m, Some(1))];
        let target = BackwardTarget::new(Mat::new(&self.dy, m, N)?)
            .dense(Mat::new(&self.w, N, K)?)
            .table(&table)
            .table_gradients(GradientTable::new(queue, &mut gradients)?);
        let call = Backward::new(Mat::new(&self.x, m, K)?)
            .target(target)
            .segments(Vector::whole(&segments))
            .x_gradient(Gradient::overwrite(of(queue, &mut outputs.x, m, K)?));
        run(call)
    }

    fn of_table<Q: Runner + HostQueue>(&self, queue: &Q, algorithm: i32) -> Result<Gradients<T, P>> {
        let mut outputs = self.outputs(ROWS[0] + ROWS[1]);
        outputs.steps = self.with_table(queue, &mut outputs, |call| launched(queue, call.algorithm(algorithm)))?;
        Ok(outputs)
    }

    /// Of one adapter's rows, with an adapter as of old.
    fn of_plain<Q: Runner + HostQueue>(&self, queue: &Q, algorithm: i32) -> Result<Gradients<T, P>> {
        let mut all = self.outputs(0);
        for i in 0..2 {
            let (first, rows) = (i * ROWS[0], ROWS[i]);
            let mut outputs = self.outputs(rows);
            let target = BackwardTarget::new(Mat::new(&self.dy[first * N..], rows, N)?)
                .dense(Mat::new(&self.w, N, K)?)
                .adapter(Mat::new(&self.a[i], RANKS[i], K)?, Mat::new(&self.b[i], N, RANKS[i])?, SCALES[i])
                .a_gradient(Gradient::overwrite(of(queue, &mut outputs.a[i], RANKS[i], K)?))
                .b_gradient(Gradient::overwrite(of(queue, &mut outputs.b[i], N, RANKS[i])?));
            let call = Backward::new(Mat::new(&self.x[first * K..], rows, K)?)
                .target(target)
                .x_gradient(Gradient::overwrite(of(queue, &mut outputs.x, rows, K)?));
            let steps = launched(queue, call.algorithm(algorithm))?;
            all.steps = all.steps.max(steps);
            all.x.append(&mut outputs.x);
            std::mem::swap(&mut all.a[i], &mut outputs.a[i]);
            std::mem::swap(&mut all.b[i], &mut outputs.b[i]);
        }
        Ok(all)
    }
}

/// All of a list.
fn of<'a, E: Element, Q: Runner>(
    queue: &Q,
    list: &'a mut [E],
    rows: usize,
    columns: usize,
) -> Result<MatMut<'a, E, Q>> {
    MatMut::new(queue.sink_at(list.as_mut_ptr() as u64, list.len()), rows, columns)
}

/// Runs a call; returns its rounding steps.
fn launched<T: Element, P: Element, Q: Runner + HostQueue>(queue: &Q, call: Backward<'_, T, P, Q>) -> Result<usize> {
    let steps = lora::backward_kernel(queue, &call)?.rounding_steps;
    let mut workspace = vec![0xffu8; lora::backward_workspace(queue, &call)?];
    lora::backward(queue, call, Workspace::new(&mut workspace))?;
    Ok(steps)
}

fn compare<E: Element>(
    name: &str,
    exact: bool,
    [table, plain]: [&[E]; 2],
    terms: &[Terms],
    steps: usize,
) -> std::result::Result<(), String> {
    assert_eq!((table.len(), plain.len()), (terms.len(), terms.len()), "{name}");
    for (i, terms) in terms.iter().enumerate() {
        let (table, plain) = (table[i].to_f64(), plain[i].to_f64());
        let right = match exact {
            true => table.to_bits() == plain.to_bits(),
            false => (table - plain).abs() <= 2.0 * terms.allowed_error::<E>(steps),
        };
        if !right || (table - terms.value).abs() > terms.allowed_error::<E>(steps) {
            return Err(format!("{name} at {i}: {table:e} of a table, {plain:e} of a plain call, of {terms:?}"));
        }
    }
    Ok(())
}

fn segments_are_plain_calls<T: Element, P: Element>() -> std::result::Result<(), String> {
    let data = Data::<T, P>::new();
    let mut unused = data.outputs(ROWS[0] + ROWS[1]);
    let terms = data.with_table(&Cpu, &mut unused, |call| reference::lora::backward_terms(&call));
    let terms = terms.map_err(|error| error.to_string())?;
    let check = |what: &str, exact: bool, [table, plain]: [&Gradients<T, P>; 2]| {
        let steps = table.steps.max(plain.steps);
        compare(&format!("{what}: dx"), exact, [&table.x, &plain.x], &terms.x, steps)?;
        for (i, [a, b]) in terms.targets[0].table.iter().enumerate() {
            compare(&format!("{what}: da of {i}"), exact, [&table.a[i], &plain.a[i]], a, steps)?;
            compare(&format!("{what}: db of {i}"), exact, [&table.b[i], &plain.b[i]], b, steps)?;
        }
        Ok::<_, String>(())
    };
    fn both<T: Element, P: Element, Q: Runner + HostQueue>(
        data: &Data<T, P>,
        queue: &Q,
        algorithm: i32,
    ) -> std::result::Result<[Gradients<T, P>; 2], String> {
        let text = |error: peft_kernels::Error| error.to_string();
        Ok([data.of_table(queue, algorithm).map_err(text)?, data.of_plain(queue, algorithm).map_err(text)?])
    }
    let [table, plain] = both(&data, &Cpu, 0)?;
    check("cpu", true, [&table, &plain])?;
    for queue in emulators() {
        for algorithm in ALGORITHMS {
            let [table, plain] = both(&data, &queue, algorithm)?;
            // The plain kernels go through rows one by one in either.
            check(&format!("{queue:?}, algorithm {algorithm}"), algorithm == 1, [&table, &plain])?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::backward::tables::alike", segments_are_plain_calls);
}
