//! What the codes of a block-wise quantisation stand for.

use std::sync::LazyLock;

use crate::{Error, Result, ffi};

/// The values of codes of 2, 3, 4 or 8 bits, and which numbers get which code.
///
/// A number between −1 and 1 gets the nearest value's code. One half-way between two values gets the lower one's, as it does in bitsandbytes.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeBook {
    bits: u32,
    values: Vec<f32>,
    boundaries: Vec<f32>,
    codes: Vec<u8>,
}

/// Of the largest and smallest value, as bitsandbytes and LQ-LoRA choose it.
const QUANTILE: f64 = 0.9677083;

#[rustfmt::skip]
const NF4: [f32; 16] = [
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
];

/// Of a sign, two bits of exponent and one of mantissa, from 0 to 12 twelfths.
const FP4: [f32; 8] = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0];
/// Between the magnitudes of neighbours, with the digits that bitsandbytes has.
const FP4_BOUNDARIES: [f32; 7] = [0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333];

impl CodeBook {
    /// NF4 of QLoRA: quantiles of the normal distribution, with bitsandbytes' digits.
    pub fn nf4() -> &'static Self {
        static BOOK: LazyLock<CodeBook> = LazyLock::new(|| CodeBook::of_values(4, NF4.to_vec()));
        &BOOK
    }

    /// FP4 of bitsandbytes: numbers of a sign, two bits of exponent and one of mantissa. A number half-way between two magnitudes gets the smaller one's code, as bitsandbytes has it on a GPU.
    pub fn fp4() -> &'static Self {
        static BOOK: LazyLock<CodeBook> = LazyLock::new(|| {
            let values = [1.0, -1.0].iter().flat_map(|sign| FP4.map(|value| sign * value / 12.0 + 0.0)).collect();
            // A number is above the boundary before it exactly where it is at least the boundary.
            let below = FP4_BOUNDARIES.iter().rev().map(|&boundary| (-boundary).next_down());
            let boundaries = below.chain([0f32.next_down()]).chain(FP4_BOUNDARIES).collect();
            CodeBook { bits: 4, values, boundaries, codes: vec![11, 10, 13, 12, 15, 14, 9, 8, 0, 1, 6, 7, 4, 5, 2, 3] }
        });
        &BOOK
    }

    /// The signed 8-bit values of a dynamic exponent, with which bitsandbytes quantises absmax a second time.
    pub fn dynamic() -> &'static Self {
        static BOOK: LazyLock<CodeBook> = LazyLock::new(|| {
            let mut values = vec![0.0, 1.0];
            for exponent in 0..7 {
                // The middles of 2^exponent equal parts of 0.1 … 1, whose edges are each rounded once.
                let parts = 1usize << exponent;
                let (begin, step) = (f64::from(0.1f32), f64::from((1.0 - 0.1f32) / parts as f32));
                let edge = |i: usize| match i {
                    i if i < parts.div_ceil(2) => (begin + step * i as f64) as f32,
                    i => (1.0 - step * (parts - i) as f64) as f32,
                };
                let scale = 10f64.powi(exponent - 6) as f32;
                for value in (0..parts).map(|i| scale * ((edge(i) + edge(i + 1)) / 2.0)) {
                    values.extend([value, -value]);
                }
            }
            values.sort_by(f32::total_cmp);
            CodeBook::of_values(8, values)
        });
        &BOOK
    }

    /// NF of `bits` bits of LQ-LoRA (H. Guo et al., ICLR 2024): quantiles of the normal distribution from −1 through 0 to 1, one more above 0 than below it. With 4 bits [`CodeBook::nf4`].
    ///
    /// # Errors
    /// [`Error::Argument`] unless there are 2, 3, 4 or 8 bits.
    pub fn normal_float(bits: u32) -> Result<Self> {
        if !matches!(bits, 2 | 3 | 4 | 8) {
            let (expected, got) = ("2, 3, 4 or 8".into(), bits.to_string());
            return Err(Error::Argument { operation: "lora::CodeBook::normal_float", argument: "bits", expected, got });
        }
        if bits == 4 {
            return Ok(Self::nf4().clone());
        }
        let half = 1 << (bits - 1);
        let between = |from: f64, to: f64, i: usize, parts: usize| from + (to - from) * i as f64 / parts as f64;
        let lower = (0..half - 1).map(|i| between(1.0 - QUANTILE, 0.5, i, half - 1));
        let upper = (0..=half).map(|i| between(0.5, QUANTILE, i, half));
        let values = lower.chain(upper).map(|quantile| (normal_quantile(quantile) / normal_quantile(QUANTILE)) as f32);
        Ok(Self::of_values(bits, values.collect()))
    }

    /// Any values, by code: 4, 8, 16 or 256 of them, and with 256 in ascending order, −0 before 0.
    ///
    /// # Errors
    /// [`Error::Argument`] for another number of values, one that is not finite, or 256 in another order.
    pub fn new(values: &[f32]) -> Result<Self> {
        let wrong = |expected: &str, got: String| {
            let (operation, expected) = ("lora::CodeBook::new", expected.into());
            Err(Error::Argument { operation, argument: "values", expected, got })
        };
        let bits = values.len().checked_ilog2().unwrap_or(0);
        if values.len() != 1 << bits || !matches!(bits, 2 | 3 | 4 | 8) {
            return wrong("4, 8, 16 or 256 of them", format!("{} values", values.len()));
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return wrong("finite", value.to_string());
        }
        // In the order in which `of_values` has them: of 256 kernels take a code's place in it for the code.
        let unsorted = |pair: &&[f32]| pair[0].total_cmp(&pair[1]).is_gt();
        if let (8, Some(pair)) = (bits, values.windows(2).find(unsorted)) {
            return wrong("256 of them in ascending order", format!("{} before {}", pair[0], pair[1]));
        }
        Ok(Self::of_values(bits, values.to_vec()))
    }

    fn of_values(bits: u32, values: Vec<f32>) -> Self {
        let mut codes: Vec<u8> = (0..values.len()).map(|code| code as u8).collect();
        codes.sort_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
        let middle = |pair: &[u8]| values[pair[0] as usize] / 2.0 + values[pair[1] as usize] / 2.0;
        let boundaries = codes.windows(2).map(middle).collect();
        Self { bits, values, boundaries, codes }
    }

    /// Bits of a code.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The values by code.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Where one code ends and the next begins, in ascending order: a number above exactly r of them gets the r-th code of [`CodeBook::codes`].
    pub fn boundaries(&self) -> &[f32] {
        &self.boundaries
    }

    /// The codes in the order of their values.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The code of a number; a NaN gets that of the smallest.
    #[inline(always)]
    pub(crate) fn code(&self, number: f32) -> u8 {
        self.codes[self.boundaries.partition_point(|&boundary| number > boundary)]
    }

    /// As the C side reads it.
    pub(crate) fn descriptor(&self) -> ffi::pk_lora_code_book {
        let Self { bits, values, boundaries, codes } = self;
        let [values, boundaries] = [values, boundaries].map(|list| list.as_ptr());
        ffi::pk_lora_code_book { values, boundaries, codes: codes.as_ptr(), bits: *bits as i32, reserved: 0 }
    }
}

/// The number below which a part `p` of the normal distribution lies, `e^-25 < p < 1 - e^-25`: M. Wichura, *Algorithm AS 241*, 1988, to 16 digits.
#[allow(clippy::excessive_precision)] // as published
fn normal_quantile(p: f64) -> f64 {
    fn ratio(numerator: [f64; 8], denominator: [f64; 8], x: f64) -> f64 {
        let polynomial = |coefficients: [f64; 8]| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
        polynomial(numerator) / polynomial(denominator)
    }
    #[rustfmt::skip]
    const NEAR: [[f64; 8]; 2] = [
        [3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
         4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3],
        [1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
         2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3],
    ];
    #[rustfmt::skip]
    const FAR: [[f64; 8]; 2] = [
        [1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
         1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4],
        [1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
         1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9],
    ];
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(NEAR[0], NEAR[1], 0.180625 - q * q);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt() - 1.6;
    ratio(FAR[0], FAR[1], r).copysign(q)
}
