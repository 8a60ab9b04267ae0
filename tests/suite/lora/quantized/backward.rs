//! The gradient of x of a call with a quantised W.

use std::fmt::Debug;

use half::bf16;
use peft_kernels::{Cpu, Element, Kernel, RawStream};

use super::case::{QuantizedCase, quantized};
use crate::buffer::{Buffer, Cell};
use crate::lora::backward::same;
use crate::lora::case::{Arrangement, BiasSpec, RowSpec};
use crate::lora::gradient_case::{self, ALGORITHMS, Case, Mode, Spec, TargetSpec};
use crate::lora::tables;
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials, emulators};
use crate::streams::Exercise;

/// Of a layer the W in memory, and the lists.
type Layer<'a, T> = (Option<&'a mut Buffer<T>>, &'a mut Option<QuantizedCase>);

/// A call whose layers have a W in memory, or lists in its place.
trait Call {
    type Element: Element + Cell;
    type Values;

    fn spec(&self) -> &dyn Debug;
    fn run<Q: Runner>(&mut self, queue: &Q, algorithm: i32) -> Result<(Self::Values, Kernel), String>;
    /// Whether all gradients have the same bits.
    fn same(a: &Self::Values, b: &Self::Values) -> bool;
    fn layers(&mut self) -> Vec<Layer<'_, Self::Element>>;
}

impl<T: Element + Cell, P: Element + Cell> Call for Case<T, P> {
    type Element = T;
    type Values = gradient_case::Values<T, P>;

    fn spec(&self) -> &dyn Debug {
        &self.spec
    }

    fn run<Q: Runner>(&mut self, queue: &Q, algorithm: i32) -> Result<(Self::Values, Kernel), String> {
        self.spec.algorithm = algorithm;
        Case::run(self, queue)
    }

    fn same(a: &Self::Values, b: &Self::Values) -> bool {
        same(a, b)
    }

    fn layers(&mut self) -> Vec<Layer<'_, T>> {
        self.targets.iter_mut().map(|target| (target.w.as_mut(), &mut target.quantized)).collect()
    }
}

impl<T: Element + Cell, P: Element + Cell> Call for tables::case::Case<T, P> {
    type Element = T;
    type Values = tables::case::Values<T, P>;

    fn spec(&self) -> &dyn Debug {
        &self.spec
    }

    fn run<Q: Runner>(&mut self, queue: &Q, algorithm: i32) -> Result<(Self::Values, Kernel), String> {
        self.spec.algorithm = algorithm;
        tables::case::Case::run(self, queue)
    }

    fn same(a: &Self::Values, b: &Self::Values) -> bool {
        tables::values::bits(a) == tables::values::bits(b)
    }

    fn layers(&mut self) -> Vec<Layer<'_, T>> {
        self.targets.iter_mut().map(|target| (target.w.as_mut(), &mut target.quantized)).collect()
    }
}

/// The bits of all gradients are those of the call with that W in memory.
fn check_on<C: Call, Q: Runner>(case: &mut C, queue: &Q, algorithm: i32) -> Result<(), String> {
    let (got, kernel) = case.run(queue, algorithm)?;
    let (again, _) = case.run(queue, algorithm)?;
    let lists: Vec<_> = case.layers().into_iter().map(|(_, lists)| lists.take()).collect();
    let dense = case.run(queue, algorithm);
    case.layers().into_iter().zip(lists).for_each(|((_, place), lists)| *place = lists);
    let (expected, of_dense) = dense?;
    let alike = kernel.rounding_steps == of_dense.rounding_steps && kernel.name == of_dense.name;
    if alike && C::same(&got, &expected) && C::same(&again, &expected) {
        return Ok(());
    }
    Err(format!("algorithm {algorithm}: other bits, {kernel:?}, {of_dense:?} {:#?}", case.spec()))
}

/// Gives the layers lists in place of their W, of descriptions from this number on.
fn quantize<C: Call>(case: &mut C, first: usize) {
    let (ws, places): (Vec<_>, Vec<_>) = case.layers().into_iter().unzip();
    places.into_iter().zip(quantized(first, ws.into_iter())).for_each(|(place, lists)| *place = lists);
}

fn check<C: Call>(number: usize, mut case: C) -> Result<(), String> {
    quantize(&mut case, number);
    check_lists(number, case)
}

/// Of a case that has its lists.
fn check_lists<C: Call>(number: usize, mut case: C) -> Result<(), String> {
    let say = |text: String| format!("{text} quantised as number {number}");
    if crate::cuda::is_active() {
        return ALGORITHMS
            .into_iter()
            .try_for_each(|algorithm| check_on(&mut case, &RawStream::legacy(0), algorithm))
            .map_err(say);
    }
    check_on(&mut case, &Cpu, 0).map_err(say)?;
    let algorithms = ALGORITHMS.into_iter().cycle().skip(number * emulators().count());
    for (queue, algorithm) in emulators().zip(algorithms) {
        check_on(&mut case, &queue, algorithm).map_err(|text| format!("{queue:?}: {}", say(text)))?;
    }
    Ok(())
}

/// m, n, k: one slab and several, rows and columns that are no multiples of anything.
const SHAPES: [[usize; 3]; 6] = [[1, 33, 50], [3, 40, 300], [70, 130, 520], [200, 20, 264], [64, 1, 16], [17, 300, 7]];

fn shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, [m, n, k]) in SHAPES.into_iter().enumerate() {
        for j in 0..3 {
            let number = 3 * i + j;
            let spec = Spec::new(m, n, k, 4, Numbers::Reals).with(|spec| {
                (spec.slab_bytes, spec.allow_tf32) = (number % 2, number % 5 == 2);
                spec.x = if number % 3 == 1 { Mode::Accumulate } else { Mode::Overwrite };
                spec.dropout = (number % 4 == 3).then_some((0.25, 3, 5));
                let target = &mut spec.targets[0];
                target.rank = (number % 3 != 2).then_some(4);
                target.row_scale = if j == 1 { BiasSpec::Shared(1) } else { BiasSpec::None };
            });
            check(number, Case::<T, P>::new(&spec))?;
        }
    }
    Ok(())
}

/// Several layers, of other books and none; batches; a gradient of x that nobody asks for.
fn others<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (number, (m, batches)) in [(9, 1), (40, 2), (70, 3)].into_iter().enumerate() {
        let spec = Spec::new(m, 0, 270, 4, Numbers::Reals).with(|spec| {
            spec.targets = [33, 64, 90].map(|n| TargetSpec::new(n, 3)).to_vec();
            spec.targets[1].dense = false;
            // W is one for all batches.
            (spec.batches, spec.shared, spec.slab_bytes) = (batches, 0b100, 1);
        });
        check(number, Case::<T, P>::new(&spec))?;
        check(number + 3, Case::<T, P>::new(&spec.with(|spec| spec.x = Mode::None)))?;
    }
    Ok(())
}

/// Both orders of x, dy, dx, da and db, with gaps and offsets, of one slab and of two.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let cases = [(40, 0b1_1100_0011, 8, 5), (260, 0b0_0100_0010, 3, 1), (24, 0b0_0000_0010, 0, 0)];
    for (number, (k, orders, gap, offset)) in cases.into_iter().enumerate() {
        let spec = Spec::new(24, 40, k, 4, Numbers::Reals).with(|spec| {
            (spec.arrangement, spec.slab_bytes) = (Arrangement::Orders { orders, gap, offset }, 1);
        });
        check(number, Case::<T, P>::new(&spec))?;
    }
    Ok(())
}

/// A layer with its W in memory between others, in a call of two slabs.
fn beside_dense<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let spec = Spec::new(20, 0, 260, 3, Numbers::Reals).with(|spec| {
        spec.targets = [33, 20, 40].map(|n| TargetSpec::new(n, 3)).to_vec();
        spec.slab_bytes = 1;
    });
    let mut case = Case::<T, P>::new(&spec);
    quantize(&mut case, 1);
    case.targets[1].quantized = None;
    check_lists(1, case)
}

/// Rows that choose from tables, by an index or segments, of layers with W and without.
fn of_tables<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (number, (m, batches)) in [(9, 1), (40, 2), (70, 3)].into_iter().enumerate() {
        let index = (0..batches * m).map(|row| row as i32 * 5 % 4 - 1).collect();
        let of = tables::case::TargetSpec::new;
        let targets = vec![of(33, &[3, 0, 17]), of(64, &[4, 2, 1]), of(90, &[1, 20, 5])];
        let spec = tables::case::Spec::new(m, 270, index, targets, Numbers::Reals).with(|spec| {
            spec.targets[1].dense = false;
            spec.targets[2].row_scale = if number == 1 { BiasSpec::Shared(1) } else { BiasSpec::None };
            if number == 2 {
                spec.rows = RowSpec::Segments(vec![(3, 60, Some(2)), (60, 61, None), (61, 190, Some(0))]);
            }
            // W is one for all batches.
            (spec.batches, spec.shared, spec.slab_bytes) = (batches, 0b100, 1);
            spec.dropout = (number != 0).then_some((0.25, 3, 5));
        });
        check(number, tables::case::Case::<T, P>::new(&spec))?;
    }
    Ok(())
}

/// A call as what a stream can be given.
pub fn exercise() -> Box<dyn Exercise> {
    let mut case = Case::<bf16, bf16>::new(&Spec::new(100, 72, 264, 16, Numbers::Reals));
    quantize(&mut case, 0);
    case.spec.slab_bytes = 1;
    gradient_case::exercise_of(case)
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::quantized::backward_shapes", shapes);
    for_types_and_devices!(trials, "lora::quantized::backward_others", others);
    trials.add("lora::quantized::backward_orders/f32", orders::<f32, f32>);
    trials.add("lora::quantized::backward_orders/bf16", orders::<bf16, bf16>);
    trials.add_on_device("lora::quantized::backward_orders/cuda/bf16", orders::<bf16, bf16>);
    trials.add("lora::quantized::backward_beside_dense/bf16", beside_dense::<bf16, bf16>);
    trials.add_on_device("lora::quantized::backward_beside_dense/cuda/bf16", beside_dense::<bf16, bf16>);
    trials.add("lora::quantized::backward_tables/f32", of_tables::<f32, f32>);
    trials.add("lora::quantized::backward_tables/bf16+f32", of_tables::<bf16, f32>);
    trials.add_on_device("lora::quantized::backward_tables/cuda/bf16+f32", of_tables::<bf16, f32>);
}
