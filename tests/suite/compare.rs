//! The comparator: bit for bit, or within the bound that the kernel states.

use peft_kernels::reference::Terms;
use peft_kernels::{Element, ElementType};

/// The bits of an element, as a number of its width.
pub fn hex<T: Element>(value: T) -> String {
    let wide = value.to_f64();
    let bits = match T::TYPE {
        ElementType::F32 => format!("{:#010x}", (wide as f32).to_bits()),
        ElementType::F16 => format!("{:#06x}", half::f16::from_f64(wide).to_bits()),
        ElementType::BF16 => format!("{:#06x}", half::bf16::from_f64(wide).to_bits()),
        _ => format!("{:#018x}", wide.to_bits()),
    };
    format!("{wide:?} = {bits}")
}

fn same<T: Element>(a: T, b: T) -> bool {
    let (a, b) = (a.to_f64(), b.to_f64());
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

struct Wrong {
    index: usize,
    /// How far beyond what is allowed.
    excess: f64,
}

/// The first and the worst of the wrong elements, with coordinates and bits.
fn report<T: Element>(extents: [usize; 3], got: &[T], wrong: &[Wrong], expected: impl Fn(usize) -> String) -> String {
    let [_, rows, columns] = extents;
    let line = |name: &str, wrong: &Wrong| {
        let (i, j) = (wrong.index / columns % rows, wrong.index % columns);
        let place = format!("[{}, {i}, {j}]", wrong.index / columns / rows);
        format!("  {name} {place}: got {}, expected {}\n", hex(got[wrong.index]), expected(wrong.index))
    };
    let worst = wrong.iter().max_by(|a, b| a.excess.total_cmp(&b.excess)).unwrap_or(&wrong[0]);
    let count = format!("{} of {} elements of {extents:?} are wrong\n", wrong.len(), got.len());
    count + &line("first", &wrong[0]) + &line("worst", worst)
}

/// The same bits (or both NaN).
pub fn exact<T: Element>(extents: [usize; 3], got: &[T], expected: &[T]) -> Result<(), String> {
    assert_eq!(got.len(), expected.len());
    let distance = |i: usize| (got[i].to_f64() - expected[i].to_f64()).abs();
    let wrong = (0..got.len()).filter(|&i| !same(got[i], expected[i]));
    let wrong: Vec<_> = wrong.map(|index| Wrong { index, excess: distance(index) }).collect();
    if wrong.is_empty() { Ok(()) } else { Err(report(extents, got, &wrong, |i| hex(expected[i]))) }
}

/// Each within `ulp(value) + L·2⁻²³·Σ|terms|` of the value. NaN for NaN, infinity for infinity.
pub fn bounded<T: Element>(extents: [usize; 3], got: &[T], terms: &[Terms], steps: usize) -> Result<(), String> {
    within(extents, got, terms, |terms| terms.allowed_error::<T>(steps))
}

/// Each the one that is nearest to what is within `L·2⁻²³·Σ|terms|` of the value.
pub fn nearest<T: Element>(extents: [usize; 3], got: &[T], terms: &[Terms], steps: usize) -> Result<(), String> {
    within(extents, got, terms, |terms| {
        let error = terms.allowed_error::<T>(steps) - terms.allowed_error::<T>(0);
        error + 0.5 * T::ulp(terms.value.abs() + error)
    })
}

fn within<T: Element>(
    extents: [usize; 3],
    got: &[T],
    terms: &[Terms],
    allowed: impl Fn(&Terms) -> f64,
) -> Result<(), String> {
    assert_eq!(got.len(), terms.len());
    let excess = |i: usize| {
        // Rounded, the value may be infinite.
        if same(got[i], T::from_f64(terms[i].value)) {
            return 0.0;
        }
        let (got, value) = (got[i].to_f64(), terms[i].value);
        if !value.is_finite() || !got.is_finite() {
            return f64::INFINITY;
        }
        (got - value).abs() / allowed(&terms[i]) - 1.0
    };
    let wrong = (0..got.len()).map(|index| Wrong { index, excess: excess(index) });
    let wrong: Vec<_> = wrong.filter(|wrong| wrong.excess > 0.0).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let expected = |i: usize| {
        let allowed = allowed(&terms[i]);
        format!("{} within {allowed:e}, of terms that add up to {:e}", hex(terms[i].value), terms[i].magnitude)
    };
    Err(report(extents, got, &wrong, expected))
}
