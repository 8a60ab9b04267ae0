//! Bad input: errors with the numbers, and nothing is written.

use peft_kernels::haar::{self, Boundary, Wara, WaraBackward, WaraForward, WaraMerge};
use peft_kernels::storage::{RawSlice, RawSliceMut};
use peft_kernels::{Cpu, Emulator, Error, HostQueue, Mat, MatMut, Place, Workspace};

use crate::queues::Trials;

type Change<Q> = dyn for<'a> Fn(Wara<'a, f32, Q>) -> Wara<'a, f32, Q>;

/// Of a layer [n, k] with m rows: factors of `ranks` and these extents of an image, and what to change.
struct Call<'c, Q> {
    extents: [usize; 3],
    pairs: usize,
    rank: usize,
    /// Rows of b, columns of a.
    image: [usize; 2],
    change: &'c Change<Q>,
}

impl<Q: HostQueue> Call<'_, Q> {
    fn new(extents: [usize; 3]) -> Self {
        let [_, n, k] = extents;
        Self { extents, pairs: 1, rank: 2, image: [n, k], change: &|adapter| adapter }
    }

    /// What forward, backward and (in weight mode) merge say of it.
    fn texts(&self, queue: &Q) -> Vec<String> {
        let [m, n, k] = self.extents;
        let [rows, columns] = self.image;
        let (x, dy, a, b) =
            (vec![1.0f32; m * k], vec![1.0; m * n], vec![1.0; self.rank * columns], vec![1.0; rows * self.rank]);
        let adapter = || {
            let pair = || {
                (
                    Mat::new(&a[..], self.rank, columns).expect("it fits"),
                    Mat::new(&b[..], rows, self.rank).expect("it fits"),
                )
            };
            (self.change)(Wara::per_band((0..self.pairs).map(|_| pair()), 1.0))
        };
        let (mut y, mut dx, mut w, mut scratch) =
            (vec![7.0f32; m * n], vec![7.0; m * k], vec![7.0; n * k], vec![0; 1 << 14]);
        let x = || Mat::new(&x[..], m, k).expect("it fits");
        let call = WaraForward::new(x(), MatMut::new(&mut y[..], m, n).expect("it fits"), adapter());
        let forward = haar::wara_forward(queue, call, Workspace::new(&mut scratch[..]));
        let call = WaraBackward::new(x(), Mat::new(&dy[..], m, n).expect("it fits"), adapter());
        let call = call.input_gradient(MatMut::new(&mut dx[..], m, k).expect("it fits"));
        let backward = haar::wara_backward(queue, call, Workspace::new(&mut scratch[..]));
        let call = WaraMerge::in_place(MatMut::new(&mut w[..], n, k).expect("it fits"), adapter());
        let merge = haar::wara_merge(queue, call);
        assert!(y.iter().chain(&dx).chain(&w).all(|&value| value == 7.0), "a refused call has written");
        let text = |outcome: peft_kernels::Result<()>| outcome.map_or_else(|error| error.to_string(), |()| "Ok".into());
        [forward, backward, merge].map(text).into()
    }

    fn expect(&self, queue: &Q, text: &str) -> Result<(), String> {
        let got = self.texts(queue);
        let names = ["haar::wara_forward", "haar::wara_backward", "haar::wara_merge"];
        for (got, name) in got.iter().zip(names) {
            let expected = format!("{name}: {text}");
            let of_merge = name.ends_with("merge")
                && *got
                    == "haar::wara_merge: the adapter is activation mode, expected weight mode, which has weights to merge";
            if *got != expected && !of_merge {
                return Err(format!("{got}\nexpected\n{expected}"));
            }
        }
        Ok(())
    }
}

fn texts<Q: HostQueue>(queue: &Q) -> Result<(), String> {
    let call = || Call::<Q>::new([3, 4, 6]);
    Call { rank: 0, ..call() }.expect(queue, "rank is 0, expected 1 to 113025455")?;
    Call { change: &|adapter| adapter.levels(0), ..call() }.expect(queue, "levels is 0, expected 1 to 6")?;
    Call { change: &|adapter| adapter.levels(7), ..call() }.expect(queue, "levels is 7, expected 1 to 6")?;
    Call { change: &|adapter| adapter.levels(3), ..call() }
        .expect(queue, "levels is 3, expected 1 to 2 along rows of the weights of 4 elements")?;
    Call { change: &|adapter| adapter.levels(2), ..call() }.expect(
        queue,
        "columns of the weights is 6, expected a multiple of 4 for 2 levels, or a boundary mode that pads",
    )?;
    Call { change: &|adapter| adapter.levels(2).boundary(Boundary::Zero), ..call() }
        .expect(queue, "a is [2, 6], expected [2, 7]")?;
    Call { image: [5, 6], ..call() }.expect(queue, "b is [5, 2], expected [4, 2]")?;
    Call { pairs: 4, ..call() }.expect(queue, "a is [2, 6], expected [2, 3]")?;
    Call { pairs: 3, ..call() }
        .expect(queue, "the number of pairs of factors is 3, expected 1 or 4, one for each band of 1 levels")?;
    Call { change: &|adapter| adapter.gains(&[1.0; 3]), ..call() }
        .expect(queue, "the number of gains is 3, expected 4, one for each band of 1 levels")?;
    Call { change: &|adapter| adapter.activations([2, 2]), ..call() }
        .expect(queue, "rows of x is 3, expected whole grids of 2 × 2 tokens")?;
    Call { change: &|adapter| adapter.activations([0, 2]), ..call() }
        .expect(queue, "rows of x is 3, expected whole grids of 0 × 2 tokens")?;
    Call { change: &|adapter| adapter.activations([3, 1]), ..call() }
        .expect(queue, "rows of the grid is 3, expected a multiple of 2 for 1 levels, or a boundary mode that pads")?;
    Call { change: &|adapter| adapter.activations([3, 1]).boundary(Boundary::Edge), ..call() }
        .expect(queue, "levels is 1, expected more than one element along columns of the grid for any level")?;
    Ok(())
}

fn y_of<Q: HostQueue>(y: &mut [f32; 8], rows: usize, columns: usize) -> MatMut<'_, f32, Q> {
    MatMut::new(&mut y[..], rows, columns).expect("it fits")
}

/// What is about one operation.
fn others<Q: HostQueue>(queue: &Q) -> Result<(), String> {
    let (x, a, b, w) = ([1.0f32; 8], [1.0f32; 4], [1.0f32; 4], [1.0f32; 16]);
    let adapter = || Wara::new(Mat::new(&a, 1, 4).expect("it fits"), Mat::new(&b, 4, 1).expect("it fits"), 1.0);
    let x = || Mat::<f32, Q>::new(&x[..], 2, 4).expect("it fits");
    let expect = |got: peft_kernels::Result<()>, text: &str| match got {
        Err(error) if error.to_string() == text => Ok(()),
        got => Err(format!("{got:?}\nexpected\n{text}")),
    };
    let mut y = [7.0; 8];
    let call = WaraForward::new(x(), y_of(&mut y, 1, 4), adapter());
    expect(haar::wara_forward(queue, call, Workspace::none()), "haar::wara_forward: y is [1, 4], expected [2, 4]")?;
    let call = WaraForward::new(x(), y_of(&mut y, 2, 4), adapter()).weights(Mat::new(&w, 2, 4).expect("it fits"));
    expect(haar::wara_forward(queue, call, Workspace::none()), "haar::wara_forward: w is [2, 4], expected [4, 4]")?;
    if queue.place() != Place::Cpu {
        let call = WaraForward::new(x(), y_of(&mut y, 2, 4), adapter());
        match haar::wara_forward(queue, call, Workspace::none()) {
            Err(Error::Workspace { needed: 287, got: 0, .. }) => {}
            got => return Err(format!("{got:?} without a workspace")),
        }
        let call = WaraForward::new(x(), y_of(&mut y, 2, 4), adapter()).algorithm(9);
        let text = "haar::wara_forward: algorithm 9 does not exist, expected 0 (automatic) or 1 (simt)";
        expect(haar::wara_forward(queue, call, Workspace::new(&mut [0; 512][..])), text)?;
    }
    let dy = || Mat::<f32, Q>::new(&w[..8], 2, 4).expect("it fits");
    let mut gradients = [[7.0; 4]; 4];
    let [da, db, other_da, other_db] = &mut gradients;
    let call = WaraBackward::new(x(), dy(), adapter())
        .factor_gradients(
            MatMut::new(&mut da[..], 1, 4).expect("it fits"),
            MatMut::new(&mut db[..], 4, 1).expect("it fits"),
        )
        .factor_gradients(
            MatMut::new(&mut other_da[..], 1, 4).expect("it fits"),
            MatMut::new(&mut other_db[..], 4, 1).expect("it fits"),
        );
    let text =
        "haar::wara_backward: the number of factor gradients is 2, expected 0 or 1, one for each pair of factors";
    expect(haar::wara_backward(queue, call, Workspace::none()), text)?;
    let call = WaraBackward::new(x(), dy(), adapter()).factor_gradients(
        MatMut::new(&mut da[..], 4, 1).expect("it fits"),
        MatMut::new(&mut db[..], 4, 1).expect("it fits"),
    );
    expect(haar::wara_backward(queue, call, Workspace::none()), "haar::wara_backward: da is [4, 1], expected [1, 4]")?;
    if y == [7.0; 8] && gradients == [[7.0; 4]; 4] { Ok(()) } else { Err("a refused call has written".into()) }
}

/// Outputs that share elements with inputs or with each other.
fn overlap<Q: HostQueue>(queue: &Q) -> Result<(), String>
where
    for<'a> RawSlice<'a, f32>: peft_kernels::storage::Read<'a, Q, Element = f32>,
    for<'a> RawSliceMut<'a, f32>: peft_kernels::storage::Write<'a, Q, Element = f32>,
{
    let mut memory = [7.0f32; 64];
    let address = memory.as_mut_ptr() as u64;
    // SAFETY: the memory outlives the calls, which are refused.
    let read = |first: u64, rows, columns| unsafe {
        Mat::<f32, Q>::new(RawSlice::<f32>::from_raw(address + 4 * first, rows * columns), rows, columns)
            .expect("it fits")
    };
    // SAFETY: as above.
    let write = |first: u64, rows, columns| unsafe {
        MatMut::<f32, Q>::new(RawSliceMut::<f32>::from_raw(address + 4 * first, rows * columns), rows, columns)
            .expect("it fits")
    };
    let adapter = || Wara::new(read(40, 1, 4), read(44, 4, 1), 1.0);
    let mut scratch = vec![0; 1 << 12];
    let mut outcomes = vec![
        haar::wara_forward(
            queue,
            WaraForward::new(read(0, 2, 4), write(4, 2, 4), adapter()),
            Workspace::new(&mut scratch[..]),
        ),
        haar::wara_forward(
            queue,
            WaraForward::new(read(0, 2, 4), write(36, 2, 4), adapter()),
            Workspace::new(&mut scratch[..]),
        ),
        haar::wara_merge(queue, WaraMerge::new(read(0, 4, 4), write(8, 4, 4), adapter())),
        haar::wara_merge(queue, WaraMerge::in_place(write(30, 4, 4), adapter())),
    ];
    let backward = || WaraBackward::new(read(0, 2, 4), read(8, 2, 4), adapter());
    for call in [
        backward().input_gradient(write(4, 2, 4)),
        backward().input_gradient(write(12, 2, 4)),
        backward().factor_gradients(write(40, 1, 4), write(50, 4, 1)),
        backward().factor_gradients(write(50, 1, 4), write(52, 4, 1)),
        backward().input_gradient(write(16, 2, 4)).factor_gradients(write(20, 1, 4), write(52, 4, 1)),
    ] {
        outcomes.push(haar::wara_backward(queue, call, Workspace::new(&mut scratch[..])));
    }
    for (i, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(Error::Overlap { .. }) => {}
            got => return Err(format!("call {i}: {got:?}")),
        }
    }
    if memory == [7.0; 64] { Ok(()) } else { Err("a refused call has written".into()) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::wara::refused::texts/cpu", || texts(&Cpu));
    trials.add("haar::wara::refused::texts/emulator", || texts(&Emulator::new(0)));
    trials.add("haar::wara::refused::others/cpu", || others(&Cpu));
    trials.add("haar::wara::refused::others/emulator", || others(&Emulator::new(0)));
    trials.add("haar::wara::refused::overlap/cpu", || overlap(&Cpu));
    trials.add("haar::wara::refused::overlap/emulator", || overlap(&Emulator::new(0)));
}
