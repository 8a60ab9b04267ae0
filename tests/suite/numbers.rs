//! Numbers for operands: small integers, whose products and sums are exact in every type used, and random reals.

use peft_kernels::Element;

/// SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// A generator of its own for each text.
    pub fn of(text: &str) -> Self {
        // FNV-1a
        Self(
            text.bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)),
        )
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    pub fn choose<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// In −1 .. 1.
    pub fn real(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// What an operand is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// −2 … 2, so sparse that a sum of `terms` products of two of them stays below a few hundred; never 0 at the last of the summed axis.
    Integers,
    /// Reals in −1 … 1.
    Reals,
}

impl Numbers {
    /// A factor's element whose summed axis has `terms` elements; `last` says that it is the last along it.
    pub fn factor<T: Element>(self, random: &mut Random, terms: usize, last: bool) -> T {
        match self {
            Numbers::Integers => {
                let present = last || random.below(1 << 10) < (20 << 10) / (1 + terms.isqrt());
                let magnitude = 1 + random.below(2);
                let sign = if random.coin() { 1.0 } else { -1.0 };
                T::from_f64(if present { sign * magnitude as f64 } else { 0.0 })
            }
            Numbers::Reals => T::from_f64(random.real()),
        }
    }

    /// An element that is added as it is.
    pub fn term<T: Element>(self, random: &mut Random) -> T {
        match self {
            Numbers::Integers => T::from_f64(random.below(9) as f64 - 4.0),
            Numbers::Reals => T::from_f64(2.0 * random.real()),
        }
    }

    pub fn scale(self, random: &mut Random) -> f32 {
        match self {
            Numbers::Integers => random.choose(&[1.0, -1.0, 2.0, 0.5]),
            Numbers::Reals => random.real() as f32 * 2.0,
        }
    }
}
