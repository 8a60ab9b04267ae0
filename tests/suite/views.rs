//! Views: bounds, overlaps, parts, and what is left of numbers that do not fit.

use peft_kernels::lora::{self, Adapter, Forward, Merge, Target};
use peft_kernels::{Cpu, Emulator, Error, HostQueue, Layout, Mat, MatMut, Result, Tensor, TensorMut, Workspace};

use crate::queues::Trials;

fn layout<const N: usize>(offset: usize, extents: [usize; N], strides: [usize; N]) -> Layout<N> {
    Layout { offset, extents, strides }
}

fn read<const N: usize>(length: usize, layout: Layout<N>) -> Result<()> {
    let elements = vec![0.0f32; length];
    Tensor::<f32, Cpu, N>::with_layout(&elements, layout).map(drop)
}

fn write<const N: usize>(length: usize, layout: Layout<N>) -> Result<()> {
    let mut elements = vec![0.0f32; length];
    TensorMut::<f32, Cpu, N>::with_layout(&mut elements, layout).map(drop)
}

/// The last element is within the storage, one less is not.
fn bounds() {
    for (needed, layout) in [
        (12, layout(0, [1, 3, 4], [99, 4, 1])),
        (17, layout(2, [1, 3, 4], [99, 1, 4])),
        (1, layout(0, [1, 1, 1], [usize::MAX, usize::MAX, usize::MAX])),
        (5, layout(4, [1, 5, 7], [0, 0, 0])),
        (8, layout(8, [0, 5, 7], [100, 100, 100])),
        (8, layout(8, [usize::MAX, 0, usize::MAX], [usize::MAX; 3])),
        (0, layout(0, [0, 0, 0], [0, 0, 0])),
    ] {
        read(needed, layout).unwrap_or_else(|error| panic!("{error}"));
        if needed > 0 {
            let error = read(needed - 1, layout).unwrap_err();
            let expected = (needed as u128, needed - 1);
            assert!(matches!(error, Error::Bounds { needed, length, .. } if (needed, length) == expected), "{error}");
        }
    }
    let error = read(11, Layout::contiguous([3, 4])).unwrap_err().to_string();
    assert_eq!(error, "Tensor::with_layout: a view of [3, 4] needs 12 elements, but the storage has 11");
    let error = read(11, layout(1, [3, 4], [4, 1])).unwrap_err().to_string();
    let text = "Tensor::with_layout: a view of [3, 4] with strides [4, 1] at offset 1 needs 13 elements, but the storage has 11";
    assert_eq!(error, text);
}

/// Products and sums that do not fit usize, or u128, are beyond every storage.
fn overflow() {
    const MAX: usize = usize::MAX;
    // (2^64 − 2)·(2^64 − 1) + 2^33·(3·2^31) = 2^128 + 2
    for layout in [
        layout(0, [MAX, (1 << 33) + 1], [MAX, 3 << 31]),
        layout(MAX, [MAX, MAX], [MAX, MAX]),
        layout(0, [MAX, 1], [2, 1]),
        layout(MAX, [1, 1], [1, 1]),
        layout(MAX, [2, 1], [1, 1]),
        layout(0, [(1 << 32) + 1, (1 << 32) + 1], [1 << 32, 1 << 32]),
    ] {
        assert!(matches!(read(64, layout).unwrap_err(), Error::Bounds { .. }), "{layout:?}");
        assert!(matches!(write(64, layout).unwrap_err(), Error::Bounds { .. }), "{layout:?}");
    }
    // Four sums of 2^126
    let four = layout(0, [(1 << 63) + 1; 4], [1 << 63; 4]);
    assert!(matches!(read(64, four).unwrap_err(), Error::Bounds { .. }));
    assert!(matches!(read(64, Layout::contiguous([MAX, MAX, MAX])).unwrap_err(), Error::Bounds { .. }));
}

/// Against the set of positions, over all small layouts with a stride of 1.
fn self_overlap() {
    let mut refused = 0;
    for rows in 0..4 {
        for columns in 0..4 {
            for stride in 0..6 {
                for strides in [[stride, 1], [1, stride]] {
                    let layout = layout(0, [rows, columns], strides);
                    let positions = (0..rows).flat_map(|i| (0..columns).map(move |j| i * strides[0] + j * strides[1]));
                    let mut positions: Vec<_> = positions.collect();
                    positions.sort_unstable();
                    let twice = positions.windows(2).any(|pair| pair[0] == pair[1]);
                    let result = write(100, layout);
                    assert_eq!(result.is_err(), twice, "{layout:?}");
                    assert!(read(100, layout).is_ok());
                    refused += usize::from(twice);
                }
            }
        }
    }
    assert!(refused > 20);
    let error = write(10, layout(0, [2, 3], [2, 1])).unwrap_err();
    let text = "TensorMut::with_layout: a view of [2, 3] with strides [2, 1] at offset 0 reaches one element by two indices and \
                cannot be written";
    assert_eq!(error.to_string(), text);
    assert!(matches!(error, Error::SelfOverlap { .. }));
    assert!(matches!(write(10, layout(0, [2, 1, 2], [0, 5, 1])).unwrap_err(), Error::SelfOverlap { .. }));
}

fn parts() -> Result<()> {
    let elements: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let matrix = Mat::<f32, Cpu>::new(&elements, 4, 6)?;
    assert_eq!(*matrix.narrow(1, 2..5)?.narrow(0, 1..2)?.layout(), layout(8, [1, 3], [6, 1]));
    assert_eq!(*matrix.t().narrow(0, 2..5)?.layout(), layout(2, [3, 4], [1, 6]));
    assert_eq!(matrix.t().t().layout(), matrix.layout());
    // Empty parts keep an offset that is within the storage, wherever they are cut.
    for at in 0..=4 {
        assert_eq!(matrix.narrow(0, at..at)?.extents(), [0, 6]);
        assert!(matrix.narrow(0, at..at)?.narrow(1, 6..6).is_ok());
    }
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..5, 5..5, 3..2, usize::MAX..usize::MAX] {
        assert!(matches!(matrix.narrow(0, range).unwrap_err(), Error::Argument { .. }));
    }
    let error = matrix.narrow(1, 2..7).unwrap_err().to_string();
    assert_eq!(error, "Tensor::narrow: range is 2..7, expected a range within 0..6");

    let mut elements = vec![0.0f32; 24];
    for at in 0..=6 {
        {
            let (left, right) = MatMut::<f32, Cpu>::new(&mut elements, 4, 6)?.split_columns(at)?;
            assert_eq!((left.extents(), right.extents()), ([4, at], [4, 6 - at]));
            assert!(at == 6 || right.layout().offset == at);
        }
        let (top, bottom) = MatMut::<f32, Cpu>::new(&mut elements, 4, 6)?.t().split_rows(at)?;
        assert_eq!((top.extents(), bottom.extents()), ([at, 4], [6 - at, 4]));
    }
    for at in [7, usize::MAX] {
        let error = MatMut::<f32, Cpu>::new(&mut elements, 4, 6)?.split_columns(at).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }
    assert_eq!(format!("{matrix:?}"), "Layout { offset: 0, extents: [4, 6], strides: [6, 1] }");
    Ok(())
}

/// Extents that strides of 0 and matrices of nothing make of no memory at all are refused, or cost nothing.
fn extents_without_memory() -> Result<()> {
    fn on<Q: HostQueue>(queue: &Q) -> Result<()> {
        let one = [1.0f32];
        let input = |rows, columns| {
            Mat::<f32, Q>::with_layout(&one, layout(0, [rows, columns], [0, usize::from(columns <= 1)]))
        };
        let column = |rows| Mat::<f32, Q>::with_layout(&one, layout(0, [rows, 1], [0, 1]));
        let run = |x: Mat<'_, f32, Q>, a: Mat<'_, f32, Q>, b: Mat<'_, f32, Q>, y: MatMut<'_, f32, Q>| {
            lora::forward(queue, Forward::new(x).target(Target::branch_only(y).adapter(a, b, 1.0)), Workspace::none())
        };
        // More intermediates than 64 bits count: 2^16 rows of rank 2^48.
        let mut y = vec![7.0f32; 1 << 16];
        for rank in [1 << 31, 1 << 48, (1 << 48) + 1] {
            let b = Mat::<f32, Q>::with_layout(&one, layout(0, [1, rank], [1, 0]))?;
            let error = run(column(1 << 16)?, column(rank)?, b, MatMut::new(&mut y, 1 << 16, 1)?).unwrap_err();
            assert_eq!(error.to_string(), format!("lora::forward: rank is {rank}, expected at most 2147483647"));
        }
        // 2^18 rows times 2^31 − 1 ranks.
        let mut long = vec![7.0f32; 1 << 18];
        let b = Mat::<f32, Q>::with_layout(&one, layout(0, [1, i32::MAX as usize], [1, 0]))?;
        let error = run(column(1 << 18)?, column(i32::MAX as usize)?, b, MatMut::new(&mut long, 1 << 18, 1)?);
        let text =
            "lora::forward: the number of rows times all ranks is 262144 times 2147483647, expected at most 2^48";
        assert_eq!(error.unwrap_err().to_string(), text);
        assert!(y.iter().all(|&y| y == 7.0));
        // Rows without columns: nothing to compute, whatever their number.
        let mut none = [0.0f32; 0];
        for rows in [1usize << 40, 1 << 60, usize::MAX] {
            let y = MatMut::<f32, Q>::with_layout(&mut none, layout(0, [rows, 0], [1, 1]))?;
            let b = Mat::<f32, Q>::with_layout(&one, layout(0, [0, 3], [1, 1]))?;
            match run(column(rows)?, column(3)?, b, y) {
                Ok(()) => assert!(rows <= 1 << 48),
                Err(Error::Shape { .. }) => assert!(rows > 1 << 48),
                Err(Error::Workspace { .. }) => {}
                Err(error) => panic!("{rows} rows: {error}"),
            }
        }
        // A stride that no index multiplies may be anything.
        let mut y = [0.0f32; 2];
        let x = Mat::<f32, Q>::with_layout(&one, layout(0, [1, 1], [usize::MAX, usize::MAX]))?;
        let w = Mat::<f32, Q>::with_layout(&[2.0f32, 3.0], layout(0, [2, 1], [1, usize::MAX]))?;
        let out = MatMut::<f32, Q>::with_layout(&mut y, layout(0, [1, 2], [usize::MAX - 5, 1]))?;
        let call = Forward::<f32, f32, Q>::new(x).target(Target::dense(w, out));
        lora::forward(queue, call, Workspace::none())?;
        assert_eq!(y, [2.0, 3.0]);
        // Empty merges of any extent.
        let mut none = [0.0f32; 0];
        for n in [5, 1 << 48, 1 << 62] {
            let weights = MatMut::<f32, Q>::with_layout(&mut none, layout(0, [n, 0], [1, 1]))?;
            let b = Mat::<f32, Q>::with_layout(&one, layout(0, [n, 1], [0, 1]))?;
            let adapter = Adapter::new(input(1, 0)?, b, 1.0);
            let result = lora::merge(queue, Merge::in_place(weights).adapter(adapter));
            assert_eq!(result.is_ok(), n <= 1 << 48, "{n}: {result:?}");
        }
        Ok(())
    }
    on(&Cpu)?;
    on(&Emulator::new(1))
}

/// No batch: nothing is written where y would be.
fn no_batch() -> Result<()> {
    fn on<Q: HostQueue>(queue: &Q) -> Result<()> {
        let (x, w, mut memory) = ([1.0f32; 4], [1.0f32; 4], [5.0f32; 8]);
        let (y, _) = memory.split_at_mut(0);
        let x = Tensor::<f32, Q, 3>::contiguous(&x, [0, 2, 2])?;
        let target = Target::dense(Mat::new(&w, 2, 2)?, TensorMut::<f32, Q, 3>::contiguous(y, [0, 2, 2])?);
        lora::forward(queue, Forward::<f32, f32, Q>::new(x).target(target), Workspace::none())?;
        assert_eq!(memory, [5.0; 8]);
        Ok(())
    }
    on(&Cpu)?;
    on(&Emulator::new(0))
}

pub fn trials(trials: &mut Trials) {
    trials.check("views::bounds", bounds);
    trials.check("views::overflow", overflow);
    trials.check("views::self_overlap", self_overlap);
    let text = |error: Error| error.to_string();
    trials.add("views::parts", move || parts().map_err(text));
    trials.add("views::extents_without_memory", move || extents_without_memory().map_err(text));
    trials.add("views::no_batch", move || no_batch().map_err(text));
}
