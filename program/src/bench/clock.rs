//! How long calls take: on a device by events around replays of a graph, elsewhere by the wall clock.

use std::time::{Duration, Instant};

use peft_kernels::{HostQueue, Result};

use super::results::{Cache, Clock, Time};
use crate::memory::{Host, Memory};

/// Runs all copies of a call so many times, and says how long that took.
pub type Runner<'c> = Box<dyn FnMut(usize) -> Result<Duration> + 'c>;

/// A queue whose calls can be timed.
pub trait Timed: Memory {
    const CLOCK: Clock;

    /// How many copies of operands of so many bytes to rotate, and whether they are out of the cache then.
    fn rotation(&self, bytes: u64) -> (usize, Cache);
    /// What runs `enqueue(copy)` for every copy; the calls must be the same every time.
    fn runner<'c>(&'c self, copies: usize, enqueue: &'c mut dyn FnMut(usize) -> Result<()>) -> Result<Runner<'c>>;
    /// What copies memory, so that `bytes` are read and written together.
    fn copier(&self, copies: usize, bytes: u64) -> Result<Runner<'_>>;
}

impl<Q: HostQueue + 'static> Timed for Host<Q> {
    const CLOCK: Clock = Clock::Wall;

    fn rotation(&self, _: u64) -> (usize, Cache) {
        (1, Cache::Warm)
    }

    fn runner<'c>(&'c self, copies: usize, enqueue: &'c mut dyn FnMut(usize) -> Result<()>) -> Result<Runner<'c>> {
        Ok(Box::new(move |loops| {
            let begin = Instant::now();
            for _ in 0..loops {
                (0..copies).try_for_each(&mut *enqueue)?;
            }
            Ok(begin.elapsed())
        }))
    }

    fn copier(&self, copies: usize, bytes: u64) -> Result<Runner<'_>> {
        let source = vec![1u8; bytes as usize / 2];
        let mut destination = source.clone();
        Ok(Box::new(move |loops| {
            let begin = Instant::now();
            for _ in 0..loops * copies {
                destination.copy_from_slice(std::hint::black_box(&source));
                std::hint::black_box(&mut destination);
            }
            Ok(begin.elapsed())
        }))
    }
}

/// Something to be timed beside others.
pub struct Arm<'c> {
    pub runner: Runner<'c>,
    pub copies: usize,
}

/// The times of one call of each arm. Arms take turns, so that a change of the device's pace meets all of them.
pub fn interleaved(arms: &mut [Arm], rounds: usize, round: Duration) -> Result<Vec<Time>> {
    let mut loops = Vec::new();
    for arm in &mut *arms {
        (arm.runner)(1)?;
        let once = (arm.runner)(1)?.max(Duration::from_nanos(100));
        loops.push((round.as_secs_f64() / once.as_secs_f64()).clamp(1.0, 100_000.0) as usize);
    }
    let mut times = vec![Vec::new(); arms.len()];
    for _ in 0..rounds {
        for ((arm, &loops), times) in arms.iter_mut().zip(&loops).zip(&mut times) {
            let elapsed = (arm.runner)(loops)?.as_secs_f64() * 1e9;
            times.push((elapsed / (loops * arm.copies) as f64).max(f64::MIN_POSITIVE));
        }
    }
    Ok(times.into_iter().map(Time::of).collect())
}

#[cfg(feature = "cuda")]
mod device {
    use std::sync::Arc;

    use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
    use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DriverError, result};
    use peft_kernels::Error;

    use super::*;
    use crate::device::{Device, failed};

    /// Of copies that are rotated, at most.
    const COPIES: u64 = 64;

    /// Records the calls into a graph, and times replays of it.
    fn graph<'c>(stream: &Arc<CudaStream>, record: impl FnOnce() -> Result<()>) -> Result<Runner<'c>> {
        stream.synchronize().map_err(failed)?;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(failed)?;
        let recorded = record();
        // The capture ends in any case: the stream is of no use else.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed);
        recorded?;
        let empty = || Error::Cuda { operation: "bench", message: "the call recorded nothing".into() };
        let graph = graph?.ok_or_else(empty)?;
        graph.upload().map_err(failed)?;
        let stream = Arc::clone(stream);
        Ok(Box::new(move |loops| {
            let elapsed = || {
                let begin = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
                for _ in 0..loops {
                    graph.launch()?;
                }
                let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
                begin.elapsed_ms(&end)
            };
            let milliseconds: std::result::Result<f32, DriverError> = elapsed();
            Ok(Duration::from_secs_f64(f64::from(milliseconds.map_err(failed)?) * 1e-3))
        }))
    }

    impl Timed for Device {
        const CLOCK: Clock = Clock::Device;

        /// Together four times the L2 cache, at least two.
        fn rotation(&self, bytes: u64) -> (usize, Cache) {
            let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
            // Where the driver does not say, as much as the largest chip has.
            let cache = self.stream().context().attribute(attribute).map_or(128 << 20, |bytes| bytes as u64);
            let copies = (4 * cache).div_ceil(bytes.max(1)).max(2);
            if copies <= COPIES { (copies as usize, Cache::Cold) } else { (COPIES as usize, Cache::Warm) }
        }

        fn runner<'c>(&'c self, copies: usize, enqueue: &'c mut dyn FnMut(usize) -> Result<()>) -> Result<Runner<'c>> {
            graph(self.stream(), || (0..copies).try_for_each(enqueue))
        }

        fn copier(&self, copies: usize, bytes: u64) -> Result<Runner<'_>> {
            let (stream, half) = (self.stream(), (bytes as usize / 2).max(1));
            let mut buffers = Vec::new();
            for _ in 0..copies {
                let zeros = || stream.alloc_zeros::<u8>(half).map_err(failed);
                buffers.push((zeros()?, zeros()?));
            }
            let mut addresses = Vec::new();
            for (source, destination) in &mut buffers {
                addresses.push((source.device_ptr(stream).0, destination.device_ptr_mut(stream).0));
            }
            let mut replay = graph(stream, || {
                addresses.iter().try_for_each(|&(source, destination)| {
                    // SAFETY: both are allocations of `half` bytes, which the runner keeps; the stream is theirs.
                    unsafe { result::memcpy_dtod_async(destination, source, half, stream.cu_stream()) }.map_err(failed)
                })
            })?;
            Ok(Box::new(move |loops| {
                let _kept = &buffers;
                replay(loops)
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_take_turns_and_times_are_of_one_call() {
        let order = std::cell::RefCell::new(Vec::new());
        let arm = |name: char, copies: usize, milliseconds: u64| Arm {
            copies,
            runner: Box::new({
                let order = &order;
                move |loops| {
                    order.borrow_mut().push(name);
                    Ok(Duration::from_millis(milliseconds * loops as u64))
                }
            }),
        };
        let mut arms = [arm('a', 1, 2), arm('b', 4, 8)];
        let times = interleaved(&mut arms, 3, Duration::from_millis(20)).expect("nothing fails");
        assert_eq!(times[0], Time { median_ns: 2e6, lowest_ns: 2e6, highest_ns: 2e6, rounds: 3 });
        assert_eq!(times[0], times[1]);
        assert_eq!(order.borrow().iter().collect::<String>(), "aabbababab");
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(Time::of(vec![3.0, 1.0, 2.0]).median_ns, 2.0);
        assert_eq!(Time::of(vec![4.0, 1.0, 2.0, 8.0]).median_ns, 3.0);
    }
}
