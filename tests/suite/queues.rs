//! The queues that every test runs on, through one door: memory is named by its address.

use libtest_mimic::{Failed, Trial};
use peft_kernels::lora::{AdapterTable, BackwardTarget, GradientTable, Target};
use peft_kernels::storage::{RawSlice, RawSliceMut, Read, Write};
use peft_kernels::{Cpu, Element, Emulator, HostQueue, Queue};

use crate::buffer::{Buffer, Cell};

/// A queue that tests can give buffers to.
pub trait Runner: Queue + Sized {
    /// The buffer's elements, to be read.
    fn source<'a, T: Cell>(&self, buffer: &'a Buffer<T>) -> impl Read<'a, Self, Element = T> {
        self.source_at(buffer.address(), buffer.len())
    }
    /// The buffer's elements, to be written: several views of one buffer may be asked for.
    fn sink<'a, T: Cell>(&self, buffer: &'a Buffer<T>) -> impl Write<'a, Self, Element = T> {
        self.sink_at(buffer.address(), buffer.len())
    }
    /// Elements of a buffer at an address, to be read.
    fn source_at<'a, T: Copy + 'static>(&self, address: u64, length: usize) -> impl Read<'a, Self, Element = T>;
    /// Elements of a buffer at an address, to be written.
    fn sink_at<'a, T: Copy + 'static>(&self, address: u64, length: usize) -> impl Write<'a, Self, Element = T>;
    /// Whether operations may be incomplete when they return, and report to a status.
    fn is_stream(&self) -> bool {
        false
    }
    /// Waits until all operations are complete.
    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
    /// A target with a table.
    fn with_table<'a, T: Element, P: Element>(
        &self,
        target: Target<'a, T, P, Self>,
        table: &'a AdapterTable<'a, P, Self>,
    ) -> Target<'a, T, P, Self>;
    /// A target of a backward call with a table, and where the gradients of its adapters go.
    fn with_gradients<'a, T: Element, P: Element>(
        &self,
        target: BackwardTarget<'a, T, P, Self>,
        table: &'a AdapterTable<'a, P, Self>,
        gradients: Option<GradientTable<'a, P, Self>>,
    ) -> BackwardTarget<'a, T, P, Self>;
}

macro_rules! host_runner {
    ($queue:ty) => {
        impl Runner for $queue {
            fn source_at<'a, T: Copy + 'static>(
                &self,
                address: u64,
                length: usize,
            ) -> impl Read<'a, Self, Element = T> {
                // SAFETY: buffers outlive the calls of these tests, and no call writes to an input.
                unsafe { RawSlice::<'a, T>::from_raw(address, length) }
            }
            fn sink_at<'a, T: Copy + 'static>(&self, address: u64, length: usize) -> impl Write<'a, Self, Element = T> {
                // SAFETY: as above, and a buffer's views are disjoint or refused.
                unsafe { RawSliceMut::<'a, T>::from_raw(address, length) }
            }
            fn with_table<'a, T: Element, P: Element>(
                &self,
                target: Target<'a, T, P, Self>,
                table: &'a AdapterTable<'a, P, Self>,
            ) -> Target<'a, T, P, Self>
            where
                Self: HostQueue,
            {
                target.table(table)
            }
            fn with_gradients<'a, T: Element, P: Element>(
                &self,
                target: BackwardTarget<'a, T, P, Self>,
                table: &'a AdapterTable<'a, P, Self>,
                gradients: Option<GradientTable<'a, P, Self>>,
            ) -> BackwardTarget<'a, T, P, Self>
            where
                Self: HostQueue,
            {
                let target = target.table(table);
                match gradients {
                    Some(gradients) => target.table_gradients(gradients),
                    None => target,
                }
            }
        }
    };
}
host_runner!(Cpu);
host_runner!(Emulator);

/// The compute capabilities that the emulator imitates; those of the first few seeds differ most.
pub const CHIPS: [i32; 6] = [90, 80, 120, 86, 100, 89];

/// Seeds of the emulator's schedules: 0 … count − 1, with PEFT_KERNELS_TEST_SEEDS as the count.
pub fn seeds() -> u64 {
    let count = std::env::var("PEFT_KERNELS_TEST_SEEDS").ok();
    count.map_or(3, |text| text.parse().expect("PEFT_KERNELS_TEST_SEEDS is a number")).max(1)
}

/// The emulators of every seed; the chip changes with the seed.
pub fn emulators() -> impl Iterator<Item = Emulator> {
    (0..seeds()).map(|seed| Emulator::new(seed).compute_capability(CHIPS[seed as usize % CHIPS.len()]))
}

/// The trials, and what registers them.
#[derive(Default)]
pub struct Trials(pub Vec<Trial>);

impl Trials {
    pub fn add(&mut self, name: impl Into<String>, test: impl FnOnce() -> Result<(), String> + Send + 'static) {
        self.0.push(Trial::test(name, || test().map_err(Failed::from)));
    }

    /// A test of the device's queue, where there is one.
    pub fn add_on_device(
        &mut self,
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) {
        match crate::cuda::missing() {
            Some(reason) => self.ignore(name, &reason, true),
            None => self.add(name, || {
                let _session = crate::cuda::Session::begin();
                test()
            }),
        }
    }

    /// A test of two devices, where they are.
    pub fn add_on_two_devices(
        &mut self,
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) {
        match crate::cuda::missing() {
            None if crate::cuda::count() < 2 => self.needs(name, "needs two CUDA devices"),
            _ => self.add_on_device(name, test),
        }
    }

    /// A test of assertions.
    pub fn check(&mut self, name: impl Into<String>, test: impl FnOnce() + Send + 'static) {
        self.add(name, || {
            test();
            Ok(())
        });
    }

    /// A test that this machine or this build cannot run: ignored, with the reason as its kind, or failed where PEFT_KERNELS_REQUIRE asks for it.
    pub fn needs(&mut self, name: impl Into<String>, reason: &str) {
        self.ignore(name, reason, false);
    }

    /// As above; PEFT_KERNELS_REQUIRE=device asks for those alone that lack a device.
    fn ignore(&mut self, name: impl Into<String>, reason: &str, lacks_device: bool) {
        let required = std::env::var("PEFT_KERNELS_REQUIRE").is_ok_and(|value| match value.as_str() {
            "0" => false,
            "device" => lacks_device,
            _ => true,
        });
        let text = format!("PEFT_KERNELS_REQUIRE is set, and this {reason}");
        let trial = Trial::test(name, move || Err(Failed::from(text)));
        self.0.push(trial.with_kind(reason.to_owned()).with_ignored_flag(!required));
    }
}
