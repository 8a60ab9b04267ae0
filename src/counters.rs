//! What the kernels did on the emulator, counted: for tests and for `peft-kernels check`, and no part of the stable interface.
//!
//! Launches are counted where they are made, on the calling thread: [`count`] does not see those of other threads.

/// What is counted. As `Counted` of `cuda/emulator/counters.h`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Launches,
    GlobalRead,
    GlobalWrite,
    GlobalAtomic,
    SharedRead,
    SharedWrite,
    Barriers,
    MatrixInstructions,
}

/// What launches of one kernel did with one operand, or array of shared memory. As `CounterRow` of `cuda/emulator/counters.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Row {
    kernel: [u8; 64],
    operand: [u8; 32],
    pub kind: Kind,
    reserved: u32,
    /// Launches, requests of a warp, barriers or instructions.
    pub count: u64,
    /// Of all lanes, as often as they were asked for.
    pub bytes: u64,
    /// Sectors of 32 bytes that the requests touched, or wavefronts that they take.
    pub parts: u64,
    /// Of these, what requests for as many different bytes, or of as many lanes, take at best.
    pub least: u64,
}

impl Row {
    const EMPTY: Self = Self {
        kernel: [0; 64],
        operand: [0; 32],
        kind: Kind::Launches,
        reserved: 0,
        count: 0,
        bytes: 0,
        parts: 0,
        least: 0,
    };

    /// The kernel's name.
    pub fn kernel(&self) -> &str {
        text(&self.kernel)
    }

    /// The operand's name, `shared 0` for the first array of shared memory, or the matrix instruction.
    pub fn operand(&self) -> &str {
        text(&self.operand)
    }
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or_default()
}

unsafe extern "C" {
    fn pk_emulator_counters_begin();
    fn pk_emulator_counters_take(rows: *mut Row, capacity: u64) -> u64;
    fn pk_emulator_counters_end();
}

/// Counts launches from this thread, from zero, until the value is dropped.
pub struct Counting(std::marker::PhantomData<*const ()>);

impl Counting {
    pub fn begin() -> Self {
        // SAFETY: concerns this thread alone.
        unsafe { pk_emulator_counters_begin() };
        Self(std::marker::PhantomData)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // SAFETY: as above; the value does not leave its thread.
        unsafe { pk_emulator_counters_end() };
    }
}

/// What this thread's launches did since counting began or this was called last; nothing where nobody counts.
pub fn take() -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        // SAFETY: there is room for as many rows as it says.
        let count = unsafe { pk_emulator_counters_take(rows.as_mut_ptr(), rows.len() as u64) } as usize;
        if count <= rows.len() {
            rows.truncate(count);
            return rows;
        }
        rows.resize(count, Row::EMPTY);
    }
}

/// What the launches of a call did.
pub fn count<R>(run: impl FnOnce() -> R) -> (R, Vec<Row>) {
    let counting = Counting::begin();
    let result = run();
    let rows = take();
    drop(counting);
    (result, rows)
}
