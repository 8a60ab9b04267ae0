//! Every exercise of every operation, in each of the ways that callers enqueue it.

use peft_kernels::RawStream;

use super::runtime::{self, OwnContext, Stream};
use super::{Exercise, Launch, OPERATIONS, Operation};
use crate::cuda;

/// Runs a check of each exercise; an error names the exercise.
fn for_each(check: impl FnMut(fn() -> Box<dyn Exercise>) -> Result<(), String>) -> Result<(), String> {
    for_each_of(|_| true, check)
}

/// As above, of some exercises.
fn for_each_of(
    is_wanted: fn(&Operation) -> bool,
    mut check: impl FnMut(fn() -> Box<dyn Exercise>) -> Result<(), String>,
) -> Result<(), String> {
    OPERATIONS.iter().copied().flatten().filter(|operation| is_wanted(operation)).try_for_each(|operation| {
        check(operation.make).map_err(|error| format!("{} ({}): {error}", operation.name, operation.of))
    })
}

fn enqueue(launch: &mut Launch) -> Result<(), String> {
    launch().map_err(|error| error.to_string())
}

/// The output on the device's legacy stream, with nothing else under way. What was there before is there again.
fn alone(exercise: &dyn Exercise, device: i32) -> Result<Vec<u8>, String> {
    exercise.reset();
    let before = exercise.output();
    exercise.with_launch(&RawStream::legacy(device), &mut enqueue)?;
    runtime::set_device(device)?;
    runtime::synchronize()?;
    let output = exercise.output();
    exercise.reset();
    if output == before { Err("the call wrote nothing".into()) } else { Ok(output) }
}

fn same(what: &str, got: &[u8], expected: &[u8]) -> Result<(), String> {
    match got.iter().zip(expected).position(|(got, expected)| got != expected) {
        None if got.len() == expected.len() => Ok(()),
        position => Err(format!("{what}: other bits than alone, first at byte {position:?}")),
    }
}

/// Short, and every operation: what compute-sanitizer is run over.
pub fn each_call_gives_the_same_bits_twice() -> Result<(), String> {
    for_each(|make| {
        let exercise = make();
        same("the second time", &alone(&*exercise, 0)?, &alone(&*exercise, 0)?)
    })
}

pub fn a_graph_replays_what_it_captured() -> Result<(), String> {
    for_each(|make| {
        let exercise = make();
        let expected = alone(&*exercise, 0)?;
        let before = exercise.output();
        let stream = Stream::new()?;
        peft_kernels::prepare(&stream.queue(0)).map_err(|error| error.to_string())?;
        let mut graph = None;
        exercise.with_launch(&stream.queue(0), &mut |launch| {
            graph = Some(stream.capture(|| enqueue(launch))?);
            Ok(())
        })?;
        let graph = graph.ok_or("nothing was captured")?;
        if graph.nodes()? == 0 {
            return Err("an empty graph was captured".into());
        }
        runtime::synchronize()?;
        same("after the capture, which must run nothing", &exercise.output(), &before)?;
        for _ in 0..3 {
            exercise.reset();
            stream.replay(&graph)?;
            stream.wait()?;
            same("replayed", &exercise.output(), &expected)?;
        }
        Ok(())
    })
}

pub fn two_streams_do_not_touch_each_other() -> Result<(), String> {
    for_each(|make| {
        let exercises = [make(), make()];
        let expected = alone(&*exercises[0], 0)?;
        let run = |exercise: &dyn Exercise| {
            let _active = cuda::Active::begin();
            let stream = Stream::new()?;
            for _ in 0..20 {
                exercise.with_launch(&stream.queue(0), &mut enqueue)?;
            }
            stream.wait()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| run(&*exercises[1]));
            run(&*exercises[0])?;
            other.join().map_err(|_| "a thread panicked")?
        })?;
        exercises.iter().try_for_each(|exercise| same("on one of two streams", &exercise.output(), &expected))
    })
}

/// Runs an exercise in a new thread and checks that the call leaves its context as it was.
fn in_a_thread(make: fn() -> Box<dyn Exercise>, own: bool) -> Result<(), String> {
    let exercise = make();
    let expected = alone(&*exercise, 0)?;
    let run = || {
        let context = if own { Some(OwnContext::new(0)?) } else { None };
        let expected = context.as_ref().map_or(0, OwnContext::address);
        exercise.with_launch(&RawStream::legacy(0), &mut |launch| {
            let before = runtime::current_context()?;
            enqueue(launch)?;
            match runtime::current_context()? {
                after if after == before && before == expected => Ok(()),
                after => Err(format!("context {before:#x} was current, and {after:#x} after, expected {expected:#x}")),
            }
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join().map_err(|_| "the thread panicked")?)?;
    runtime::synchronize()?;
    same("from a thread of its own", &exercise.output(), &expected)
}

pub fn a_thread_without_a_context_stays_so() -> Result<(), String> {
    for_each_of(|operation| !operation.allocates, |make| in_a_thread(make, false))
}

pub fn a_context_of_the_caller_stays_current() -> Result<(), String> {
    for_each_of(|operation| !operation.allocates, |make| in_a_thread(make, true))
}

pub fn a_second_device_gives_the_same_bits() -> Result<(), String> {
    let same_chip = runtime::compute_capability(0)? == runtime::compute_capability(1)?;
    for_each(|make| {
        let exercise = make();
        let expected = alone(&*exercise, 0)?;
        runtime::set_device(0)?;
        exercise.with_launch(&RawStream::legacy(1), &mut enqueue)?;
        if runtime::current_device()? != 0 {
            return Err("the call left another device current".into());
        }
        runtime::set_device(1)?;
        let waited = runtime::synchronize();
        runtime::set_device(0)?;
        waited?;
        if same_chip { same("on the second device", &exercise.output(), &expected) } else { Ok(()) }
    })
}
