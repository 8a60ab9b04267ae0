//! The comparator and the test buffer are tested too: they must refuse what is wrong.

use half::{bf16, f16};
use peft_kernels::lora::{self, Forward, Target};
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Element, Mat, MatMut};

use crate::buffer::{Buffer, Cell, Placement, indices, position};
use crate::compare;
use crate::lora::case::{Arrangement, Case, Spec};
use crate::numbers::Numbers;
use crate::queues::Trials;
use crate::shapes::{DEPTHS, LONG};

const EXTENTS: [usize; 3] = [1, 6, 10];

fn spec(k: usize, numbers: Numbers) -> Spec {
    Spec::new(EXTENTS[1], EXTENTS[2], k, 3, numbers)
}

/// What a kernel would return that drops the last of k, the last rank, or is a row off.
fn faults<T: Element + Cell>(k: usize, numbers: Numbers) -> Vec<(&'static str, Vec<T>)> {
    let rounded = |terms: &[Terms]| terms.iter().map(|terms| T::from_f64(terms.value)).collect::<Vec<_>>();
    let mut faults = Vec::new();
    let spec = spec(k, numbers);
    if k > 0 {
        let mut case = Case::<T, T>::new(&spec);
        (0..spec.m).for_each(|row| case.x.set([0, row, k - 1], T::from_f64(0.0)));
        faults.push(("the last k", rounded(&case.oracle()[0])));
        let mut case = Case::<T, T>::new(&spec);
        (0..EXTENTS[2]).for_each(|column| case.targets[0].factors[0].b.set([0, column, 2], T::from_f64(0.0)));
        faults.push(("the last rank", rounded(&case.oracle()[0])));
        let mut shifted = rounded(&Case::<T, T>::new(&spec).oracle()[0]);
        shifted.rotate_right(EXTENTS[2]);
        faults.push(("a row", shifted));
    }
    faults
}

/// Integers: at every depth of the list. Reals: where the bound is below what is missing; a wrong row and rank at every depth.
fn refuses<T: Element + Cell>() -> Result<(), String> {
    let mut refused = 0;
    for k in DEPTHS {
        let terms = &Case::<T, T>::new(&spec(k, Numbers::Integers)).oracle()[0];
        let right: Vec<_> = terms.iter().map(|terms| T::from_f64(terms.value)).collect();
        compare::exact(EXTENTS, &right, &right)?;
        compare::bounded(EXTENTS, &right, terms, 0)?;
        for (what, wrong) in faults::<T>(k, Numbers::Integers) {
            compare::exact(EXTENTS, &wrong, &right).err().ok_or(format!("accepted without {what} of {k}"))?;
            refused += 1;
        }
        let terms = &Case::<T, T>::new(&spec(k, Numbers::Reals)).oracle()[0];
        for (what, wrong) in faults::<T>(k, Numbers::Reals) {
            let verdict = compare::bounded(EXTENTS, &wrong, terms, k + 5);
            // With eight digits of bf16 or eleven of f16, one term of many is less than a unit in the last place.
            let visible = if size_of::<T>() == 2 { 17 } else { LONG };
            if k <= visible || what == "a row" {
                verdict.err().ok_or(format!("accepted reals without {what} of {k}"))?;
                refused += 1;
            }
        }
    }
    if refused > 60 { Ok(()) } else { Err(format!("only {refused} faults")) }
}

fn messages() {
    let terms = |value: f64| {
        let mut terms = Terms::default();
        (terms.value, terms.magnitude) = (value, value.abs());
        terms
    };
    let got = [1.0f32, 2.0, 3.0, 4.5, 5.0, 7.0].map(f16::from_f32);
    let expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let report = compare::exact([1, 2, 3], &got, &expected.map(f16::from_f64)).unwrap_err();
    let text = "2 of 6 elements of [1, 2, 3] are wrong\n  first [0, 1, 0]: got 4.5 = 0x4480, expected 4.0 = 0x4400\n  \
                worst [0, 1, 2]: got 7.0 = 0x4700, expected 6.0 = 0x4600\n";
    assert_eq!(report, text);
    let report = compare::bounded([1, 2, 3], &got, &expected.map(terms), 1).unwrap_err();
    assert!(
        report.contains("first [0, 1, 0]: got 4.5 = 0x4480, expected 4.0 = 0x4010000000000000 within 3.9"),
        "{report}"
    );
    // One unit in the last place is allowed, two are not.
    let next = |steps: u16| [f16::from_bits(0x3c00 + steps)];
    compare::bounded([1, 1, 1], &next(1), &[terms(1.0)], 0).unwrap();
    compare::bounded([1, 1, 1], &next(2), &[terms(1.0)], 0).unwrap_err();
    // What is nearest is half a unit away, of the larger ones where it rounds up to a power of two.
    let near = |got: f64, value: f64, steps| compare::nearest([1, 1, 1], &[f16::from_f64(got)], &[terms(value)], steps);
    near(1.0, 1.0 + 2f64.powi(-11), 0).unwrap();
    near(1.0, 1.0 + 1.01 * 2f64.powi(-11), 0).unwrap_err();
    near(1.0, 1.0 + 1.01 * 2f64.powi(-11), 50).unwrap();
    near(2.0, 2.0 - 2f64.powi(-11), 0).unwrap();
    near(2.0, 2.0 - 2f64.powi(-10), 50).unwrap_err();
    // No numbers.
    let one = |got: f32, value: f64| compare::bounded([1, 1, 1], &[got], &[terms(value)], 1000);
    one(f32::NAN, f64::NAN).unwrap();
    one(f32::INFINITY, f64::INFINITY).unwrap();
    one(f32::NEG_INFINITY, f64::INFINITY).unwrap_err();
    one(f32::NAN, 1.0).unwrap_err();
    one(1.0, f64::NAN).unwrap_err();
    one(f32::INFINITY, 1.0).unwrap_err();
    compare::exact([1, 1, 1], &[0.0f32], &[-0.0]).unwrap_err();
    compare::exact([1, 1, 1], &[f32::NAN], &[-f32::NAN]).unwrap();
}

/// Writes of any one element outside the views are found, those inside are not.
fn padding() {
    for column_major in [false, true] {
        let placement = Placement { column_major, gap: 2, offset: 3, batch_gap: 1 };
        let layout = placement.layout([2, 3, 4]);
        let buffer = Buffer::<bf16>::new(layout, |_| bf16::from_f32(1.0));
        let inside: Vec<_> = indices(layout.extents).map(|index| position(&layout, index)).collect();
        assert_eq!(buffer.len(), inside.iter().max().unwrap() + 1);
        for i in 0..buffer.len() {
            buffer.write(i, bf16::from_f32(9.0));
            assert_eq!(buffer.check_padding("y", &[layout]).is_ok(), inside.contains(&i), "element {i}");
            assert!(buffer.check_untouched("y").is_err());
            assert_eq!(buffer.check_padding("y", &[layout, layout]).is_ok(), inside.contains(&i));
            buffer.reset();
        }
        buffer.check_untouched("y").unwrap();
        assert!(buffer.read(0).is_nan() && (buffer.address() + 2 * buffer.len() as u64).is_multiple_of(4096));
    }
}

/// The reference's own terms are those of the plain formula.
fn reference_terms() {
    let spec = spec(33, Numbers::Reals).with(|spec| (spec.batches, spec.arrangement) = (2, Arrangement::Random));
    let case = Case::<f16, f32>::new(&spec);
    let terms = case.with_call(&Cpu, |call| lora_terms(&call));
    for (got, expected) in terms[0].iter().zip(&case.oracle()[0]) {
        assert!((got.value - expected.value).abs() <= 1e-14 * expected.magnitude, "{got:?} {expected:?}");
        assert!((got.magnitude / expected.magnitude - 1.0).abs() < 1e-14, "{got:?} {expected:?}");
    }
    // A bound of no term is one unit in the last place of zero.
    let (x, mut y) = ([0.0f32; 0], [1.0f32]);
    let target = Target::branch_only(MatMut::new(&mut y, 1, 1).unwrap());
    let call = Forward::<f32, f32, Cpu>::new(Mat::new(&x, 1, 0).unwrap()).target(target);
    assert_eq!(lora_terms(&call), [[Terms::default()]]);
    lora::forward(&Cpu, call, peft_kernels::Workspace::none()).unwrap();
    assert_eq!(y, [0.0]);
}

fn lora_terms<T: Element, P: Element>(call: &Forward<'_, T, P, Cpu>) -> Vec<Vec<Terms>> {
    peft_kernels::reference::lora::forward_terms(call).expect("a call that is right")
}

pub fn trials(trials: &mut Trials) {
    trials.add("compare::refuses/f32", refuses::<f32>);
    trials.add("compare::refuses/f16", refuses::<f16>);
    trials.add("compare::refuses/bf16", refuses::<bf16>);
    trials.check("compare::messages", messages);
    trials.check("compare::padding", padding);
    trials.check("compare::reference_terms", reference_terms);
}
