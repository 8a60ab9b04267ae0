//! Numbers: from a file's bytes, from a seed, and back to bits.

use std::borrow::Cow;

use half::{bf16, f16};
use peft_kernels::{Element, ElementType};

/// An element type that the checks run with.
pub trait Value: Element {
    /// What outputs hold before the operation writes them.
    const NAN: Self;
    /// From little-endian bytes, as many as the type has.
    fn from_bytes(bytes: &[u8]) -> Self;
    /// To compare bit by bit.
    fn bits(self) -> u32;
}

macro_rules! value {
    ($($type:ty),*) => {
        $(impl Value for $type {
            const NAN: Self = <$type>::NAN;
            fn from_bytes(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
            fn bits(self) -> u32 {
                self.to_bits().into()
            }
        })*
    };
}
value!(f32, f16, bf16);

/// Stored numbers as a slice of `T`: where they are if they are stored as `T`, else converted.
pub fn view<T: Value>(bytes: &[u8], stored: ElementType) -> Cow<'_, [T]> {
    if stored == T::TYPE && cfg!(target_endian = "little") {
        // SAFETY: f32, f16 and bf16 have no padding, and every bit pattern is a value.
        let (before, values, after) = unsafe { bytes.align_to::<T>() };
        if before.is_empty() && after.is_empty() {
            return Cow::Borrowed(values);
        }
    }
    Cow::Owned(match stored {
        ElementType::F16 => convert::<f16, T>(bytes),
        ElementType::BF16 => convert::<bf16, T>(bytes),
        _ => convert::<f32, T>(bytes),
    })
}

fn convert<S: Value, T: Value>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<S>()).map(|bytes| T::from_f64(S::from_bytes(bytes).to_f64())).collect()
}

/// Whether no stored number is NaN or infinite.
pub fn all_finite(bytes: &[u8], stored: ElementType) -> bool {
    fn check<S: Value>(bytes: &[u8], exponent: u32) -> bool {
        bytes.chunks_exact(size_of::<S>()).all(|bytes| S::from_bytes(bytes).bits() & exponent != exponent)
    }
    match stored {
        ElementType::F16 => check::<f16>(bytes, 0x7c00),
        ElementType::BF16 => check::<bf16>(bytes, 0x7f80),
        _ => check::<f32>(bytes, 0x7f80_0000),
    }
}

/// Numbers that depend on a seed and a name alone: SplitMix64.
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each name.
    pub fn new(seed: u64, name: &str) -> Self {
        let start = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xcbf2_9ce4_8422_2325;
        Self(name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// `count` numbers, uniform between −`limit` and `limit`.
    pub fn uniform<T: Value>(&mut self, count: usize, limit: f64) -> Vec<T> {
        let unit = 2f64.powi(-53);
        (0..count).map(|_| T::from_f64(((self.next() >> 11) as f64 * unit * 2.0 - 1.0) * limit)).collect()
    }
}
