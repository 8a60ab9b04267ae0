//! A table on the device that is not what the host made: its ranks are checked where they are read.

use peft_kernels::lora::{self, Adapter, AdapterEntry, AdapterTable, Forward, Target};
use peft_kernels::{Error, Mat, MatMut, Vector, Workspace};

use crate::queues::{Trials, emulators};

/// Where an entry has its rank, in bytes.
const RANK: usize = 48;

/// An entry that says another rank than its adapter has.
pub fn with_rank(entry: AdapterEntry, rank: i32) -> AdapterEntry {
    let mut changed = entry;
    // SAFETY: an entry is plain numbers and addresses, with a 32-bit rank there.
    unsafe { (&raw mut changed).cast::<u8>().add(RANK).cast::<i32>().write_unaligned(rank) };
    changed
}

/// Rows whose adapter claims a rank that the host did not see are the base alone, and the first is reported.
fn rank_is_refused(rank: i32) {
    let (m, n, k) = (5, 3, 4);
    let (x, w) = (vec![1.0f32; m * k], vec![2.0f32; n * k]);
    let (a, b) = (vec![1.0f32; 2 * k], vec![1.0f32; n * 2]);
    let rows = [0, 1, 1, 0, -1];
    for queue in emulators() {
        let mut y = vec![f32::NAN; m * n];
        let adapter = Adapter::new(Mat::new(&a, 2, k).unwrap(), Mat::new(&b, n, 2).unwrap(), 1.0);
        let adapters = [adapter, adapter];
        let table = AdapterTable::new(&queue, &adapters).unwrap();
        let entries = [table.entries()[0], with_rank(table.entries()[1], rank)];
        let target = Target::dense(Mat::new(&w, n, k).unwrap(), MatMut::new(&mut y, m, n).unwrap());
        // SAFETY: what the kernels make of other entries is what this test is about: they read no adapter of a wrong rank.
        let target = unsafe { target.table_on_device(&table, Vector::whole(&entries)) };
        let call = Forward::new(Mat::new(&x, m, k).unwrap()).target(target).row_adapter(Vector::whole(&rows));
        let mut scratch = vec![0u8; lora::forward_workspace(&queue, &call).unwrap()];
        match lora::forward(&queue, call, Workspace::new(&mut scratch)) {
            Err(Error::Data { argument: "adapter of row", index: 1, .. }) => {}
            other => panic!("rank {rank}: {other:?}"),
        }
        let expected = rows.map(|adapter| if adapter == 0 { 16.0 } else { 8.0 });
        assert_eq!(y, expected.iter().flat_map(|&value| [value; 3]).collect::<Vec<f32>>(), "rank {rank}");
    }
}

pub fn trials(trials: &mut Trials) {
    for rank in [-1, i32::MIN, 3, i32::MAX] {
        trials.check(format!("lora::forward::doctored_table/{rank}"), move || rank_is_refused(rank));
    }
}
