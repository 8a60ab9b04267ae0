//! Which elements of x the adapters see.

use crate::check::Check;
use crate::{Error, Result, ffi, reference::philox};

/// Dropout on what the adapters read: element (row, column) of x is kept or not as a Philox generator says, and what is kept counts `1 / (1 − probability)` times. The base sees all of x.
///
/// A pure function of seed, offset, row (of all batches) and column, the same on every queue and in every kernel: [`crate::lora::forward`] and [`crate::lora::backward`] make it when they need it,
/// and nothing is stored. Give each call of a training step another offset, and its backward the same one.
///
/// Word `column % 4` of Philox4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw: *Parallel random numbers: as easy as 1, 2, 3*, 2011) with the key `seed` and the counter
/// `(column / 4, row, offset)`, of 32, 32 and 64 bits, is compared with `probability · 2³²`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    probability: f32,
    seed: u64,
    offset: u64,
}

impl Dropout {
    /// Drops an element with this probability.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is not in [0, 1).
    pub fn new(probability: f32, seed: u64, offset: u64) -> Result<Self> {
        if (0.0..1.0).contains(&probability) {
            return Ok(Self { probability, seed, offset });
        }
        Err(Error::Argument {
            operation: "lora::Dropout::new",
            argument: "the probability",
            expected: "at least 0 and below 1".into(),
            got: probability.to_string(),
        })
    }

    /// Whether element (row, column) is kept.
    pub fn keeps(&self, row: usize, column: usize) -> bool {
        let counter = [(column / 4) as u32, row as u32, self.offset as u32, (self.offset >> 32) as u32];
        let words = philox(counter, [self.seed as u32, (self.seed >> 32) as u32]);
        words[column % 4] >= (f64::from(self.probability) * 2f64.powi(32)) as u32
    }

    /// What the branch is multiplied by.
    pub(crate) fn factor(&self) -> f64 {
        1.0 / (1.0 - f64::from(self.probability))
    }

    /// Rows and columns that a counter holds.
    pub(crate) fn check(&self, check: Check, rows: usize, columns: usize) -> Result<()> {
        if self.probability == 0.0 || (rows as u64 <= 1 << 32 && columns as u64 <= 1 << 34) {
            return Ok(());
        }
        Err(Error::Argument {
            operation: check.0,
            argument: "x with dropout",
            expected: "at most 2^32 rows and 2^34 columns".into(),
            got: format!("[{rows}, {columns}]"),
        })
    }

    pub(crate) fn descriptor(&self) -> ffi::pk_dropout {
        ffi::pk_dropout { seed: self.seed, offset: self.offset, probability: self.probability, reserved: 0 }
    }
}
