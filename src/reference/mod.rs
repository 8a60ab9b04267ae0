//! What is right: every operation in plain Rust, f64 inside, rounded once.
//!
//! This is what [`crate::Cpu`] runs. The same code also returns [`Terms`], from which the error that a kernel is allowed follows.

mod philox;
mod product;

pub mod haar;
pub mod lora;
pub(crate) mod quantize;
pub mod weight_norm;

pub(crate) use philox::philox;

/// A value and the sum of the absolute values of the terms it was added up from: what a rounding error is relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// The result in f64, not rounded to the output's type.
    pub value: f64,
    /// Σ|terms|.
    pub magnitude: f64,
}

impl Terms {
    /// The error that a kernel is allowed whose longest chain of f32 roundings is `rounding_steps` and that then rounds to `T`: `ulp(value) + L·2⁻²³·Σ|terms|`.
    pub fn allowed_error<T: crate::Element>(&self, rounding_steps: usize) -> f64 {
        T::ulp(self.value) + rounding_steps as f64 * 2f64.powi(-23) * self.magnitude
    }
}

/// What a product is added up in: f64 for values alone, [`Terms`] for values and magnitudes.
pub(crate) trait Number: Copy + Default + Send + Sync {
    fn new(value: f64) -> Self;
    /// `self += a * b`
    fn add_product(&mut self, a: Self, b: f64);
    /// `self += a`
    fn add(&mut self, a: Self);
    /// `self * b`
    fn times(self, b: f64) -> Self;
    /// `self * other`
    fn multiplied(self, other: Self) -> Self;
}

impl Number for f64 {
    #[inline(always)]
    fn new(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn add_product(&mut self, a: Self, b: f64) {
        *self += a * b;
    }
    #[inline(always)]
    fn add(&mut self, a: Self) {
        *self += a;
    }
    #[inline(always)]
    fn times(self, b: f64) -> Self {
        self * b
    }
    #[inline(always)]
    fn multiplied(self, other: Self) -> Self {
        self * other
    }
}

impl Number for Terms {
    #[inline(always)]
    fn new(value: f64) -> Self {
        Self { value, magnitude: value.abs() }
    }
    #[inline(always)]
    fn add_product(&mut self, a: Self, b: f64) {
        self.value += a.value * b;
        self.magnitude += a.magnitude * b.abs();
    }
    #[inline(always)]
    fn add(&mut self, a: Self) {
        self.value += a.value;
        self.magnitude += a.magnitude;
    }
    #[inline(always)]
    fn times(self, b: f64) -> Self {
        Self { value: self.value * b, magnitude: self.magnitude * b.abs() }
    }
    #[inline(always)]
    fn multiplied(self, other: Self) -> Self {
        Self { value: self.value * other.value, magnitude: self.magnitude * other.magnitude }
    }
}
