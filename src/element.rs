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
element!(f16, F16, half_to_f64, |x| f16::from_f32(round_to_odd(x)));
element!(bf16, BF16, |x: bf16| f64::from(f32::from_bits(u32::from(x.to_bits()) << 16)), |x| bf16::from_f32(
    round_to_odd(x)
));

/// f64 to f32, to the neighbour with an odd last bit where it is inexact: rounding the result again, to 16 bits, then gives what rounding `x` once gives.
#[inline(always)]
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let back = f64::from(nearest);
    let bits = nearest.to_bits();
    if back == x || x.is_nan() || bits & 1 == 1 {
        return nearest;
    }
    f32::from_bits(if back.abs() < x.abs() { bits + 1 } else { bits - 1 })
}

/// Without a look-up of the processor's features for every element, which `f16::to_f32` makes.
#[inline(always)]
fn half_to_f64(x: f16) -> f64 {
    let bits = u32::from(x.to_bits());
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    if magnitude >= 0x7c00 {
        return f64::from(f32::from_bits(sign | 0x7f80_0000 | (magnitude & 0x3ff) << 13));
    }
    // Exponent and fraction in place, then scaled: right for subnormals too.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    f64::from(f32::from_bits(sign | scaled.to_bits()))
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
