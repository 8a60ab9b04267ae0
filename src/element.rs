//! Element types: what a matrix may hold.

use half::{bf16, f16};

/// An element type by value, as the C interface names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ElementType {
    /// IEEE binary32.
    F32 = 1,
    /// IEEE binary16.
    F16 = 2,
    /// The upper half of binary32.
    BF16 = 3,
    /// IEEE binary64.
    F64 = 4,
}

impl ElementType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            ElementType::F16 | ElementType::BF16 => 2,
            ElementType::F32 => 4,
            ElementType::F64 => 8,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::BF16 => "bf16",
            ElementType::F64 => "f64",
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A number that a matrix may hold: `f32`, `f16`, `bf16`, `f64`.
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The type by value.
    const TYPE: ElementType;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Rounded once, to the nearest, ties to even.
    fn from_f64(value: f64) -> Self;
    /// The distance between the two neighbours of `value` in this type: one unit in the last place.
    fn ulp(value: f64) -> f64 {
        let (digits, smallest_exponent) = match Self::TYPE {
            ElementType::F16 => (11, -14),
            ElementType::BF16 => (8, -126),
            ElementType::F32 => (24, -126),
            ElementType::F64 => (53, -1022),
        };
        let exponent = if value == 0.0 || !value.is_finite() {
            smallest_exponent
        } else {
            let biased = (value.to_bits() >> 52 & 0x7ff) as i32;
            (biased - 1023).max(smallest_exponent)
        };
        2f64.powi(exponent - digits + 1)
    }
}

macro_rules! element {
    ($type:ty, $variant:ident, $to:expr, $from:expr) => {
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to(self)
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
        }
    };
}

element!(f64, F64, |x| x, |x| x);
element!(f32, F32, f64::from, |x| x as f32);
element!(f16, F16, half_to_f64, f64_to_half);
element!(bf16, BF16, |x: bf16| f64::from(f32::from_bits(u32::from(x.to_bits()) << 16)), f64_to_brain);

// Without branches, and without a look-up of the processor's features for every element, so that loops of them become vectors.

const fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// To the nearest number of so many binary digits, ties to even. Below the first of the exponents digits are lost as in a subnormal number; beyond the second they need not be right.
#[inline(always)]
fn rounded(x: f64, digits: i64, [smallest, largest]: [i64; 2]) -> f64 {
    let power = f64::from_bits(x.to_bits() & f64::INFINITY.to_bits());
    let power = if power < power_of_two(smallest) { power_of_two(smallest) } else { power };
    let power = if power > power_of_two(largest) { power_of_two(largest) } else { power };
    // Its last place is where that of the result is to be.
    let large = power * (1.5 * power_of_two(53 - digits));
    ((x + large) - large).copysign(x)
}

#[inline(always)]
fn f64_to_brain(x: f64) -> bf16 {
    let exact = rounded(x, 8, [-126, 128]) as f32;
    bf16::from_bits((exact.to_bits() >> 16) as u16)
}

#[inline(always)]
fn f64_to_half(x: f64) -> f16 {
    let exact = rounded(x, 11, [-14, 16]) as f32;
    let (sign, magnitude) = (exact.to_bits() >> 16 & 0x8000, exact.abs());
    let limited = if magnitude > 65536.0 { 65536.0 } else { magnitude };
    // With an f16's exponents: subnormal where it is, infinite from 65536 on.
    let scaled = (limited * 2f32.powi(-112)).to_bits() >> 13;
    // What is no number has more exponent than that.
    f16::from_bits((sign | scaled & 0x7fff) as u16)
}

/// Exact.
#[inline(always)]
fn half_to_f64(x: f16) -> f64 {
    let bits = u32::from(x.to_bits());
    let (sign, magnitude) = ((bits & 0x8000) << 16, bits & 0x7fff);
    // Exponent and fraction in place, then scaled: right for subnormals too.
    let scaled = (f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000)).to_bits();
    let beyond = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f64::from(f32::from_bits(sign | scaled | beyond))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sixteen_bit_value_survives_the_round_trip() {
        for bits in 0..=u16::MAX {
            let (h, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert_eq!(Element::to_f64(h).is_nan(), h.is_nan());
            if !h.is_nan() {
                assert_eq!(Element::to_f64(h), f64::from(h.to_f32()));
                assert_eq!(<f16 as Element>::from_f64(Element::to_f64(h)).to_bits(), bits);
            }
            if !b.is_nan() {
                assert_eq!(<bf16 as Element>::from_f64(Element::to_f64(b)).to_bits(), bits);
            }
        }
    }

    /// Between every two neighbours, and on both sides of the middle.
    fn rounds_to_the_nearest<T: Element>(from_bits: impl Fn(u16) -> T, infinity: u16) {
        for bits in 0..infinity {
            let (below, above) = (from_bits(bits), from_bits(bits + 1));
            // What is beyond the largest number is as far away as its other neighbour.
            let step = if bits + 1 == infinity { T::ulp(below.to_f64()) } else { above.to_f64() - below.to_f64() };
            let middle = below.to_f64() + step / 2.0;
            let even = if bits % 2 == 0 { below } else { above };
            for (x, expected) in [(middle.next_down(), below), (middle, even), (middle.next_up(), above)] {
                let (got, negative) = (T::from_f64(x).to_f64(), T::from_f64(-x).to_f64());
                assert_eq!(got.to_bits(), expected.to_f64().to_bits(), "{x:e} after {bits:#x}");
                assert_eq!(negative.to_bits(), (-expected.to_f64()).to_bits(), "-{x:e} after {bits:#x}");
            }
        }
        for (x, expected) in [(f64::MAX, f64::INFINITY), (f64::INFINITY, f64::INFINITY), (f64::MIN_POSITIVE, 0.0)] {
            assert_eq!(T::from_f64(x).to_f64(), expected);
            assert_eq!(T::from_f64(-x).to_f64().to_bits(), (-expected).to_bits());
        }
        for bits in [f64::NAN.to_bits(), f64::INFINITY.to_bits() | 1, u64::MAX, u64::MAX >> 1] {
            assert!(T::from_f64(f64::from_bits(bits)).to_f64().is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn halves_round_to_the_nearest() {
        rounds_to_the_nearest(f16::from_bits, f16::INFINITY.to_bits());
    }

    #[test]
    fn brain_floats_round_to_the_nearest() {
        rounds_to_the_nearest(bf16::from_bits, bf16::INFINITY.to_bits());
    }

    #[test]
    fn f64_is_rounded_once() {
        // Just above the middle of two neighbours: rounding to f32 first would land on the middle and then go to even.
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(<f16 as Element>::from_f64(above).to_f32(), 1.0 + 2f32.powi(-10));
        assert_eq!(<f16 as Element>::from_f64(-above).to_f32(), -1.0 - 2f32.powi(-10));
        let above = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        assert_eq!(<bf16 as Element>::from_f64(above).to_f32(), 1.0 + 2f32.powi(-7));
        // Exactly the middle: to even.
        assert_eq!(<f16 as Element>::from_f64(1.0 + 2f64.powi(-11)).to_f32(), 1.0);
        // Overflow and the largest finite value.
        assert_eq!(<f16 as Element>::from_f64(65519.999).to_f32(), 65504.0);
        assert_eq!(<f16 as Element>::from_f64(65520.0).to_f32(), f32::INFINITY);
        assert_eq!(<f16 as Element>::from_f64(1e300).to_f32(), f32::INFINITY);
        assert_eq!(<f16 as Element>::from_f64(2f64.powi(-25)).to_bits(), 0);
        assert_eq!(<f16 as Element>::from_f64(2f64.powi(-25) * 1.0000001).to_bits(), 1);
    }

    #[test]
    fn one_unit_in_the_last_place() {
        assert_eq!(<f16 as Element>::ulp(1.5), 2f64.powi(-10));
        assert_eq!(<bf16 as Element>::ulp(-4.0), 2f64.powi(-5));
        assert_eq!(<f32 as Element>::ulp(0.0), 2f64.powi(-149));
        assert_eq!(<f16 as Element>::ulp(1e-7), 2f64.powi(-24));
    }
}
