//! Row scales of a backward call that are no numbers, and whose products with W are beyond W's type.

use peft_kernels::{Cpu, Element, Emulator};

use super::backward::check_case;
use super::case::BiasSpec;
use super::gradient_case::{ALGORITHMS, Case, Mode, Spec};
use crate::buffer::Cell;
use crate::numbers::Numbers;
use crate::queues::{CHIPS, Trials};

/// A row scale that is infinite or NaN: of B's gradient it multiplies the sum over the rows that have it, so that rows of zeros beside others make no NaN.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    struct One {
        scale: f32,
        of: BiasSpec,
        batches: usize,
        /// Whether B's gradient is the sum over batches.
        summed: bool,
        /// Whether column 3 of dY is 1 in one row of the last batch, and 0 elsewhere.
        sparse: bool,
        /// Columns of B's gradient that are NaN.
        nan: &'static [usize],
    }
    let (inf, shared, batched) = (f32::INFINITY, BiasSpec::Shared(2), BiasSpec::Batched(1));
    let one = One { scale: inf, of: shared, batches: 1, summed: false, sparse: true, nan: &[] };
    let cases = [
        One { ..one },
        One { scale: -inf, sparse: false, ..one },
        One { scale: f32::NAN, nan: &[3], ..one },
        // A gradient of each batch, of which the first has zeros alone; and of all.
        One { batches: 2, nan: &[3], ..one },
        One { batches: 2, summed: true, ..one },
        One { batches: 2, summed: true, of: batched, ..one },
        One { batches: 2, summed: true, scale: f32::NAN, of: batched, nan: &[3], ..one },
    ];
    for (i, One { scale, of, batches, summed, sparse, nan }) in cases.into_iter().enumerate() {
        let m = [70, 6][i % 2];
        let mut case = Case::<T, P>::new(&Spec::new(m, 7, 10, 2, Numbers::Reals).with(|spec| {
            (spec.batches, spec.targets[0].summed, spec.targets[0].row_scale) = (batches, [summed; 3], of);
        }));
        let target = &mut case.targets[0];
        let of_batch = if of == batched { batches - 1 } else { 0 };
        target.row_scale.as_mut().expect("a row scale").set([of_batch, 0, 3], scale);
        if sparse {
            for (batch, row) in (0..batches).flat_map(|batch| (0..m).map(move |row| (batch, row))) {
                let last = batch + 1 == batches && row == 4;
                target.dy.set([batch, row, 3], T::from_f64(if last { 1.0 } else { 0.0 }));
            }
        }
        let oracle = case.oracle();
        let is_nan = |column: &usize| oracle.factors[0][1][column * 2].value.is_nan();
        assert_eq!((0..7).filter(is_nan).collect::<Vec<_>>(), nan, "{i}");
        check_case(&case, &oracle, &Cpu)?;
        for (algorithm, chip) in ALGORITHMS.into_iter().zip(CHIPS) {
            case.spec.algorithm = algorithm;
            check_case(&case, &oracle, &Emulator::new(i as u64).compute_capability(chip))?;
        }
    }
    Ok(())
}

/// Of f16 the tensor cores' kernels make infinities of a product of row scale and W beyond 65504, and NaN where its dY is 0; the plain kernel and the CPU queue keep it.
fn products_beyond_f16() -> Result<(), String> {
    let mut case = Case::<half::f16, half::f16>::new(&Spec::new(20, 40, 24, 3, Numbers::Reals).with(|spec| {
        spec.targets[0].row_scale = BiasSpec::Shared(1);
        spec.targets[0].modes = [Mode::None; 3];
    }));
    let (f16, target) = (half::f16::from_f64, &mut case.targets[0]);
    let scale = target.row_scale.as_mut().expect("a row scale");
    (0..40).for_each(|column| scale.set([0, 0, column], if column == 5 { 1024.0 } else { 1.0 }));
    // 131072 at column 2 of dX; 65504 at column 3 is f16's.
    let w = target.w.as_mut().expect("a base");
    (0..24).for_each(|i| w.set([0, 5, i], f16(if i == 2 { 128.0 } else { 65504.0 / 1024.0 })));
    (0..20).for_each(|row| target.dy.set([0, row, 5], f16(if row % 2 == 0 { 2f64.powi(-10) } else { 0.0 })));
    let (oracle, mut beyond) = (case.oracle(), case.oracle());
    for row in 0..20 {
        beyond.dx[row * 24 + 2].value = if row % 2 == 0 { f64::INFINITY } else { f64::NAN };
    }
    check_case(&case, &oracle, &Cpu)?;
    for algorithm in ALGORITHMS {
        case.spec.algorithm = algorithm;
        let expected = if algorithm == 1 { &oracle } else { &beyond };
        check_case(&case, expected, &Emulator::new(1))?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::row_scales::not_numbers", not_numbers);
    trials.add("lora::row_scales::products_beyond_f16", products_beyond_f16);
}
