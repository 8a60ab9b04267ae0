//! Every operation, mode and element type against the definition, and the reference's gradients against differences.

use half::{bf16, f16};
use peft_kernels::haar::Boundary;
use peft_kernels::{Cpu, Element, Emulator, RawStream};

use super::case::{Base, Case, OPERATIONS, Operation, Spec, mat, mat_mut};
use crate::buffer::{Buffer, Cell};
use crate::numbers::{Numbers, Random};
use crate::queues::Trials;

const BOUNDARIES: [Boundary; 5] =
    [Boundary::None, Boundary::Zero, Boundary::Edge, Boundary::Symmetric, Boundary::Periodic];

/// What is left open, by chance.
pub fn random(spec: Spec, seed: u64) -> Spec {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9) + spec.shape[1] as u64);
    spec.with(|spec| {
        let per_band = random.below(2) == 0;
        spec.ranks = match per_band {
            true => (0..spec.bands()).map(|_| 1 + random.below(spec.ranks[0])).collect(),
            false => spec.ranks.clone(),
        };
        let multiple = 1 << spec.levels;
        let extents = spec.grid.unwrap_or(spec.shape);
        let ragged = extents.iter().any(|extent| extent % multiple != 0);
        spec.boundary = BOUNDARIES[if ragged { 1 + random.below(4) } else { random.below(5) }];
        spec.gains = random.coin();
        spec.base = random.choose(&[Base::None, Base::Dense, Base::InY]);
        spec.in_place = random.coin();
        spec.numbers = random.choose(&[Numbers::Integers, Numbers::Reals]);
        spec.seed = seed;
    })
}

/// [m, n, k], levels, rank
const WEIGHTS: [([usize; 3], u32, usize); 8] = [
    ([1, 2, 2], 1, 1),
    ([5, 6, 10], 1, 3),
    ([66, 70, 34], 1, 17),
    ([3, 64, 128], 1, 16),
    ([4, 7, 9], 1, 2),
    ([9, 33, 67], 2, 5),
    ([2, 12, 20], 2, 4),
    ([3, 75, 21], 4, 3),
];

fn weight<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, (extents, levels, rank)) in WEIGHTS.into_iter().enumerate() {
        for seed in 0..3 {
            let spec = Spec::new(extents, rank).with(|spec| spec.levels = levels);
            Case::<T, P>::new(random(spec, 17 * i as u64 + seed)).everywhere()?;
        }
    }
    Ok(())
}

/// [rows and columns of a grid, grids, n, k], levels, rank
const GRIDS: [([usize; 5], u32, usize); 5] = [
    ([2, 2, 1, 3, 5], 1, 1),
    ([4, 6, 3, 70, 9], 1, 17),
    ([3, 5, 2, 8, 66], 1, 4),
    ([7, 6, 2, 5, 3], 2, 3),
    ([8, 11, 1, 6, 6], 3, 2),
];

fn tokens(([rows, columns, grids, n, k], levels, rank): ([usize; 5], u32, usize)) -> Spec {
    Spec::new([rows * columns * grids, n, k], rank)
        .with(|spec| (spec.levels, spec.grid) = (levels, Some([rows, columns])))
}

fn activation<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, grid) in GRIDS.into_iter().enumerate() {
        for seed in 0..4 {
            Case::<T, P>::new(random(tokens(grid), 31 * i as u64 + seed)).everywhere()?;
        }
    }
    Ok(())
}

/// No rows at all: y is empty, the factors' gradients are zeros.
fn no_rows() -> Result<(), String> {
    for grid in [None, Some([2, 2])] {
        let case = Case::<f32, f32>::new(Spec::new([0, 6, 4], 2).with(|spec| spec.grid = grid));
        for got in [
            case.run(Operation::Forward, &Cpu)?,
            case.run(Operation::Forward, &Emulator::new(0))?,
            case.run(Operation::Backward, &Cpu)?,
            case.run(Operation::Backward, &Emulator::new(0))?,
        ] {
            if got.of_factors.iter().flatten().any(|&value| value != 0.0) {
                return Err("a gradient of nothing is not zero".into());
            }
        }
    }
    Ok(())
}

/// Values need not be asked for all at once.
fn some_outputs() -> Result<(), String> {
    use peft_kernels::{Workspace, haar};
    let case = Case::<bf16, f32>::new(Spec::new([3, 6, 10], 2));
    let queue = Emulator::new(0);
    let mut workspace = vec![0u8; 1 << 12];
    let whole = case.run(Operation::Backward, &queue)?;
    let call = || haar::WaraBackward::new(mat(&queue, &case.x), mat(&queue, &case.dy), case.adapter(&queue));
    case.dx.reset();
    case.da[0].reset();
    let call_of_dx = call().weights(mat(&queue, &case.w)).input_gradient(mat_mut(&queue, &case.dx));
    haar::wara_backward(&queue, call_of_dx, Workspace::new(&mut workspace[..])).map_err(|error| error.to_string())?;
    case.da[0].check_untouched("da")?;
    if case.dx.elements(&case.dx.layout) != whole.of_x[0] {
        return Err("dx alone is another one".into());
    }
    let gradients = [mat_mut(&queue, &case.da[0]), mat_mut(&queue, &case.db[0])];
    let [da, db] = gradients;
    haar::wara_backward(&queue, call().factor_gradients(da, db), Workspace::new(&mut workspace[..]))
        .map_err(|error| error.to_string())?;
    match case.da[0].elements(&case.da[0].layout) == whole.of_factors[0] {
        true => Ok(()),
        false => Err("dA without dx is another one".into()),
    }
}

/// A merge by tiles reads and writes the weights once, in whole sectors, in either order.
fn merge_moves_weights_once<T: Element + Cell>() -> Result<(), String> {
    use peft_kernels::counters::{self, Kind};
    use peft_kernels::haar;
    for (seed, levels) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
        let spec = Spec::new([1, 256, 384], 16).with(|spec| (spec.levels, spec.seed) = (levels, seed as u64));
        let mut case = Case::<T, f32>::new(spec);
        let placement = crate::buffer::Placement { column_major: seed >= 3, ..Default::default() };
        for buffer in [&mut case.w, &mut case.merged] {
            *buffer = Buffer::new(placement.layout([1, 256, 384]), |_| T::from_f64(1.0));
        }
        let queue = Emulator::new(seed as u64);
        let (outcome, rows) = counters::count(|| haar::wara_merge(&queue, case.merge(&queue)));
        outcome.map_err(|error| error.to_string())?;
        let bytes = (256 * 384 * size_of::<T>()) as u64;
        for (kind, operand) in [(Kind::GlobalRead, "source"), (Kind::GlobalWrite, "destination")] {
            let of_weights = rows.iter().filter(|row| row.kind == kind && row.operand() == operand);
            let (moved, sectors) = of_weights.fold((0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.parts));
            let kernels = rows.iter().all(|row| row.kernel() == "haar_wara_merge_tile");
            if !kernels || (moved, sectors) != (bytes, bytes / 32) {
                return Err(format!("{operand}: {moved} bytes of {bytes} in {sectors} sectors {:#?}", case.spec));
            }
        }
    }
    Ok(())
}

/// The gradients of an image's factors read the intermediates of a tile of 64 rows or columns for the bands that it has, and for no others.
fn gradients_read_their_bands() -> Result<(), String> {
    use peft_kernels::counters::{self, Kind};
    let [m, n, k, rank] = [3, 128, 192, 4];
    let case = Case::<f32, f32>::new(Spec::new([m, n, k], rank));
    let queue = Emulator::new(1);
    let needed = case.workspace(Operation::Backward, &queue).map_err(|error| error.to_string())?;
    let workspace = Buffer::<u8>::list(&vec![0; needed]);
    let (outcome, rows) = counters::count(|| case.enqueue(Operation::Backward, &queue, &workspace));
    outcome.map_err(|error| error.to_string())?;
    let reads =
        rows.iter().filter(|row| row.kernel().starts_with("haar_wara_gradient") && row.kind == Kind::GlobalRead);
    let read: u64 = reads.filter(|row| ["h", "t"].contains(&row.operand())).map(|row| row.bytes).sum();
    // One level: a row is of two bands' approximations or details. 128 rows are two tiles, a band's 64 each; 192 columns are three, of which the middle one has both.
    let (of_b, of_a) = (2 * 2, 2 + 4 + 2);
    let expected = ((of_b + of_a) * m * rank * 4) as u64;
    if read == expected { Ok(()) } else { Err(format!("{read} bytes of intermediates, expected {expected}")) }
}

/// `Σ dy ∘ y` of the reference.
fn loss(case: &Case<f32, f32>) -> f64 {
    let y = case.reference(Operation::Forward).expect("the call is sound").remove(0);
    y.iter().zip(case.dy.elements(&case.dy.layout)).map(|(y, dy)| y.value * f64::from(dy)).sum()
}

/// x, or one of the factors.
fn operand(case: &mut Case<f32, f32>, which: usize, factor: usize) -> &mut Buffer<f32> {
    match which {
        0 => &mut case.x,
        1 => &mut case.a[factor],
        _ => &mut case.b[factor],
    }
}

/// y is linear in x and in each factor, so that central differences in f64 are exact.
fn differences() -> Result<(), String> {
    let mut random = Random(5);
    for (i, grid) in [None, Some([3, 4]), None, Some([5, 2])].into_iter().enumerate() {
        let levels = if i == 2 { 2 } else { 1 };
        let spec = Spec::new([grid.map_or(5, |grid: [usize; 2]| 2 * grid.iter().product::<usize>()), 7, 9], 2);
        let spec = spec.with(|spec| {
            (spec.grid, spec.levels, spec.boundary, spec.seed) = (grid, levels, BOUNDARIES[1 + i], i as u64);
            if i >= 2 {
                spec.ranks = vec![1; spec.bands()];
            }
        });
        let mut case = Case::<f32, f32>::new(spec);
        let gradients = case.reference(Operation::Backward).map_err(|error| error.to_string())?;
        for _ in 0..24 {
            let factor = random.below(case.a.len());
            let which = random.below(3);
            let gradient = &gradients[[0, 1 + factor, 1 + case.a.len() + factor][which]];
            let buffer = operand(&mut case, which, factor);
            let [_, rows, columns] = buffer.layout.extents;
            let at = [0, random.below(rows), random.below(columns)];
            let value = buffer.get(at);
            let step = 0.5;
            let mut losses = [0.0; 2];
            for (loss_of, sign) in losses.iter_mut().zip([1.0, -1.0]) {
                operand(&mut case, which, factor).set(at, value + sign * step);
                *loss_of = loss(&case);
            }
            operand(&mut case, which, factor).set(at, value);
            // As the two sums were rounded.
            let distance = f64::from(value + step) - f64::from(value - step);
            let difference = (losses[0] - losses[1]) / distance;
            let terms = gradient[at[1] * columns + at[2]];
            if (difference - terms.value).abs() > 1e-10 * (1.0 + terms.magnitude) {
                return Err(format!("{which} {at:?}: {difference} by differences, {terms:?} {:#?}", case.spec));
            }
        }
    }
    Ok(())
}

fn on_device<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for seed in 0..12 {
        let (extents, levels, rank) = WEIGHTS[seed % WEIGHTS.len()];
        let weight = Spec::new(extents, rank).with(|spec| spec.levels = levels);
        for spec in [weight, tokens(GRIDS[seed % GRIDS.len()])] {
            let case = Case::<T, P>::new(random(spec, seed as u64));
            let operations = if case.spec.grid.is_some() { &OPERATIONS[..2] } else { &OPERATIONS[..] };
            for &operation in operations {
                case.merged.reset();
                case.y.reset();
                case.check(operation, &RawStream::legacy(0), &case.oracle(operation))?;
            }
        }
    }
    Ok(())
}

macro_rules! typed {
    ($trials:expr, $add:ident, $name:literal, $test:ident, $suffix:literal) => {
        $trials.$add(concat!("haar::wara::", $name, "/f32", $suffix), $test::<f32, f32>);
        $trials.$add(concat!("haar::wara::", $name, "/f16", $suffix), $test::<f16, f16>);
        $trials.$add(concat!("haar::wara::", $name, "/bf16", $suffix), $test::<bf16, bf16>);
        $trials.$add(concat!("haar::wara::", $name, "/f16+f32", $suffix), $test::<f16, f32>);
        $trials.$add(concat!("haar::wara::", $name, "/bf16+f32", $suffix), $test::<bf16, f32>);
    };
}

pub fn trials(trials: &mut Trials) {
    typed!(trials, add, "weight", weight, "");
    typed!(trials, add, "activation", activation, "");
    typed!(trials, add_on_device, "values", on_device, "/cuda");
    trials.add("haar::wara::no_rows", no_rows);
    trials.add("haar::wara::some_outputs", some_outputs);
    trials.add("haar::wara::differences", differences);
    trials.add("haar::wara::gradients_read_their_bands", gradients_read_their_bands);
    trials.add("haar::wara::merge_moves_weights_once/f32", merge_moves_weights_once::<f32>);
    trials.add("haar::wara::merge_moves_weights_once/bf16", merge_moves_weights_once::<bf16>);
}
