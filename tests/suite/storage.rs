//! Storage, workspace and status as a caller gives them, and the types of the crate across threads.

use peft_kernels::lora::{self, Adapter, AdapterTable, Forward, Segment, Target};
use peft_kernels::{
    Cpu, Emulator, Error, HostQueue, Mat, MatMut, Queue, Result, Status, StatusRecord, Vector, VectorMut, Workspace,
};

use crate::queues::{Runner, Trials};

/// x + 1, by way of each kind of storage.
fn kinds<Q: Runner + HostQueue>(queue: &Q) -> Result<()> {
    let run = |x: Mat<'_, f32, Q>, bias: Vector<'_, f32, Q>, y: MatMut<'_, f32, Q>| {
        let one = [1.0f32];
        let target = Target::dense(Mat::new(&one, 1, 1)?, y).bias(bias);
        lora::forward(queue, Forward::<f32, f32, Q>::new(x).target(target), Workspace::none())
    };
    let (array, vector) = ([1.0f32, 2.0], vec![1.0f32, 2.0]);
    let (mut y_array, mut y_vector, mut y_raw) = ([0.0f32; 2], vec![0.0f32; 2], [0.0f32; 2]);
    let one = vec![1.0f32];
    run(Mat::new(&array, 2, 1)?, Vector::whole(&one), MatMut::new(&mut y_array, 2, 1)?)?;
    run(Mat::new(&vector, 2, 1)?, Vector::whole(one.as_slice()), MatMut::new(&mut y_vector, 2, 1)?)?;
    let (x, y) = (queue.source_at(array.as_ptr() as u64, 2), queue.sink_at(y_raw.as_mut_ptr() as u64, 2));
    run(Mat::new(x, 2, 1)?, Vector::whole(&[1.0f32]), MatMut::new(y, 2, 1)?)?;
    assert_eq!((y_array, y_vector.as_slice(), y_raw), ([2.0, 3.0], &[2.0, 3.0][..], [2.0, 3.0]));
    let mut whole = [0.0f32; 3];
    assert_eq!(VectorMut::<f32, Q>::whole(whole.as_mut_slice()).extents(), [3]);
    assert_eq!(Vector::<f32, Q>::whole(&[0.0f32; 0]).extents(), [0]);
    Ok(())
}

fn branch<'a>([x, a, b]: [Mat<'a, f32, Emulator>; 3], y: &'a mut [f32]) -> Result<Forward<'a, f32, f32, Emulator>> {
    Ok(Forward::new(x).target(Target::branch_only(MatMut::new(y, 1, 1)?).adapter(a, b, 0.5)))
}

/// A workspace may start at any address; its size is checked to the byte.
fn workspaces() -> Result<()> {
    let queue = Emulator::new(1);
    for odd in 0..40 {
        let (x, a, b, mut y) = ([2.0f32; 3], [1.0f32; 3], [1.0f32], [0.0f32; 1]);
        let operands = [Mat::new(&x, 1, 3)?, Mat::new(&a, 1, 3)?, Mat::new(&b, 1, 1)?];
        let bytes = lora::forward_workspace(&queue, &branch(operands, &mut y)?)?;
        let mut memory = vec![0xcdu8; 2000];
        lora::forward(&queue, branch(operands, &mut y)?, Workspace::new(&mut memory[odd * 7..odd * 7 + bytes]))?;
        assert_eq!(y, [3.0]);
        assert!(memory[..odd * 7].iter().chain(&memory[odd * 7 + bytes..]).all(|&byte| byte == 0xcd));
        let error =
            lora::forward(&queue, branch(operands, &mut y)?, Workspace::new(&mut memory[..bytes - 1])).unwrap_err();
        assert_eq!(error, Error::Workspace { operation: "lora::forward", needed: bytes, got: bytes - 1 });
    }
    Ok(())
}

/// The record keeps the failure with the smallest row over several calls, until it is zeroed.
fn status<Q: HostQueue>(queue: &Q) -> Result<()> {
    let (x, a, b) = ([1.0f32; 8], [1.0f32], [1.0f32]);
    let adapters = [Adapter::new(Mat::<f32, Q>::new(&a, 1, 1)?, Mat::new(&b, 1, 1)?, 1.0)];
    let table = AdapterTable::new(queue, &adapters)?;
    assert_eq!((table.max_rank(), table.entries().len()), (1, 1));
    let mut records = [StatusRecord::default(); 2];
    {
        let status = Status::new(&mut records[..1])?;
        status.read(queue)?;
        let run = |rows: &[i32]| {
            let (mut y, mut memory) = ([0.0f32; 8], [0u8; 1000]);
            let target = Target::branch_only(MatMut::new(&mut y, 8, 1)?).table(&table);
            let call =
                Forward::new(Mat::new(&x, 8, 1)?).target(target).row_adapter(Vector::whole(rows)).status(&status);
            lora::forward(queue, call, Workspace::new(&mut memory))
        };
        let row = |result: Result<()>| match result {
            Ok(()) => None,
            Err(Error::Data { argument: "row_adapter", index, problem: "no adapter of the table", .. }) => Some(index),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(row(run(&[0; 8])), None);
        assert_eq!(row(status.read(queue)), None);
        assert_eq!(row(run(&[0, 0, 0, 0, 0, 7, 9, -1])), Some(5));
        assert_eq!(row(status.read(queue)), Some(5));
        // A later failure is the call's own error, and the record's only where its row is smaller.
        assert_eq!(row(run(&[0, 0, 0, 0, 0, 0, -2, 0])), Some(6));
        assert_eq!(row(status.read(queue)), Some(5));
        assert_eq!(row(run(&[0, 0, 3, 0, 0, 0, 0, 0])), Some(2));
        assert_eq!(row(run(&[0; 8])), None);
        assert_eq!(row(status.read(queue)), Some(2));
        let error = status.read(queue).unwrap_err().to_string();
        assert_eq!(error, "Status::read: row_adapter at index 2 is no adapter of the table");
    }
    assert_ne!(records[0], StatusRecord::default());
    assert_eq!(records[1], StatusRecord::default());
    records[0] = StatusRecord::default();
    Status::new(&mut records)?.read(queue)?;
    assert!(matches!(Status::<Q>::new(&mut records[..0]), Err(Error::Bounds { .. })));
    Ok(())
}

/// Numbers of segments that no table or matrix reaches.
fn segments_out_of_range() {
    let far = usize::MAX;
    assert_eq!(Segment::new(0..far, Some(u32::MAX)), Segment::new(0..i64::MAX as usize, Some(i32::MAX as u32)));
    assert_ne!(Segment::new(0..4, Some(u32::MAX)), Segment::new(0..4, None));
}

/// Queues go to other threads; views and guards stay.
fn threads() {
    fn sends<T: Send + Sync>() {}
    fn is_queue<Q: Queue>(_: &Q) {}
    sends::<Cpu>();
    sends::<Emulator>();
    sends::<peft_kernels::RawStream>();
    sends::<Error>();
    sends::<Segment>();
    sends::<peft_kernels::lora::AdapterEntry>();
    is_queue(&Cpu);
}

/// Which kernel runs, and what is not there.
fn kernels() -> Result<()> {
    let (x, mut y) = ([1.0f32], [0.0f32]);
    let target = Target::branch_only(MatMut::new(&mut y, 1, 1)?);
    let call = Forward::<f32, f32, Cpu>::new(Mat::new(&x, 1, 1)?).target(target);
    let kernel = lora::forward_kernel(&Cpu, &call)?;
    assert_eq!((kernel.name.as_str(), kernel.algorithm, kernel.rounding_steps), ("reference", 0, 0));
    peft_kernels::prepare(&Cpu)?;
    peft_kernels::prepare(&Emulator::default())?;
    const { assert!(peft_kernels::HAS_EMULATOR) };
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    let text = |error: Error| error.to_string();
    trials.add("storage::kinds/cpu", move || kinds(&Cpu).map_err(text));
    trials.add("storage::kinds/emulator", move || kinds(&Emulator::new(2)).map_err(text));
    trials.add("storage::workspaces", move || workspaces().map_err(text));
    trials.add("storage::status/cpu", move || status(&Cpu).map_err(text));
    trials.add("storage::status/emulator", move || status(&Emulator::new(2)).map_err(text));
    trials.add("storage::kernels", move || kernels().map_err(text));
    trials.check("storage::segments_out_of_range", segments_out_of_range);
    trials.check("storage::threads", threads);
}
