//! What the tests of the emulator share: its C interface, and random data.

use std::ffi::{CStr, c_char};

pub const ERROR_NO_DEVICE: i32 = -6;
pub const ERROR_CUDA: i32 = -7;
pub const ERROR_EMULATOR: i32 = -8;

/// `pk_queue` of an emulator.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    size: u64,
    kind: i32,
    device: i32, // compute capability times ten; 0 is 90
    seed: u64,
}

impl Queue {
    pub fn new(seed: u64) -> Self {
        Self::of_chip(0, seed)
    }

    pub fn of_chip(device: i32, seed: u64) -> Self {
        Self { size: size_of::<Self>() as u64, kind: 1, device, seed }
    }
}

unsafe extern "C" {
    fn emulator_test_last_error() -> *const c_char;
}

/// The status of a launch and, of a failed one, its text.
pub fn outcome(status: i32) -> Result<(), (i32, String)> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: a zero-terminated text of this thread, which stays as it is until its next launch
    let text = unsafe { CStr::from_ptr(emulator_test_last_error()) };
    Err((status, text.to_string_lossy().into_owned()))
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bits32(&mut self) -> u32 {
        (self.bits() >> 32) as u32
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.bits32() % bound
    }

    /// In -1 .. 1.
    pub fn float(&mut self) -> f32 {
        self.bits32() as i32 as f32 / 2_147_483_648.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}
