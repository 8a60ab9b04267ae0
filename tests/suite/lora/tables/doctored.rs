//! A table on the device that is not what the host made: ranks are checked where they are read, and nothing is written for an adapter of a wrong one.

use peft_kernels::lora::{
    self, Adapter, AdapterGradient, AdapterTable, Backward, BackwardTarget, Gradient, GradientTable,
};
use peft_kernels::{Error, Mat, MatMut, Vector, Workspace};

use crate::lora::doctored_table::with_rank;
use crate::lora::gradient_case::ALGORITHMS;
use crate::queues::{Trials, emulators};

fn rank_is_refused(rank: i32) {
    let (m, n, k) = (5, 3, 4);
    let (x, dy, w) = (vec![1.0f32; m * k], vec![1.0f32; m * n], vec![2.0f32; n * k]);
    let (a, b) = (vec![1.0f32; 2 * k], vec![1.0f32; n * 2]);
    let rows = [0, 1, 1, 0, -1];
    for (queue, algorithm) in emulators().flat_map(|queue| ALGORITHMS.map(|algorithm| (queue, algorithm))) {
        let (mut dx, mut da, mut db) = (vec![f32::NAN; m * k], [[7.0f32; 8]; 2], [[7.0f32; 6]; 2]);
        let adapter = Adapter::new(Mat::new(&a, 2, k).unwrap(), Mat::new(&b, n, 2).unwrap(), 1.0);
        let adapters = [adapter, adapter];
        let table = AdapterTable::new(&queue, &adapters).unwrap();
        let entries = [table.entries()[0], with_rank(table.entries()[1], rank)];
        let ([da0, da1], [db0, db1]) = (da.each_mut(), db.each_mut());
        let to = |da, db| {
            let (da, db) = (MatMut::new(da, 2, k).unwrap(), MatMut::new(db, n, 2).unwrap());
            AdapterGradient::none().a(da).b(db)
        };
        let mut gradients = [to(da0, db0), to(da1, db1)];
        let target = BackwardTarget::new(Mat::new(&dy, m, n).unwrap()).dense(Mat::new(&w, n, k).unwrap());
        // SAFETY: what the kernels make of other entries is what this test is about: they read no adapter of a wrong rank.
        let target = unsafe { target.table_on_device(&table, Vector::whole(&entries)) };
        let target = target.table_gradients(GradientTable::new(&queue, &mut gradients).unwrap());
        let call = Backward::new(Mat::new(&x, m, k).unwrap())
            .target(target)
            .row_adapter(Vector::whole(&rows))
            .x_gradient(Gradient::overwrite(MatMut::new(&mut dx, m, k).unwrap()))
            .algorithm(algorithm);
        let mut scratch = vec![0u8; lora::backward_workspace(&queue, &call).unwrap()];
        match lora::backward(&queue, call, Workspace::new(&mut scratch)) {
            Err(Error::Data { argument: "adapter of row", index: 1, .. }) => {}
            other => panic!("rank {rank}, algorithm {algorithm}: {other:?}"),
        }
        drop(gradients);
        // dY·W is 6; dH is 3 for each of two ranks.
        let expected = rows.map(|adapter| if adapter == 0 { 12.0 } else { 6.0 });
        assert_eq!(dx, expected.iter().flat_map(|&value| [value; 4]).collect::<Vec<f32>>(), "rank {rank}");
        assert_eq!(da, [[6.0; 8], [7.0; 8]], "rank {rank}, algorithm {algorithm}");
        assert_eq!(db, [[8.0; 6], [7.0; 6]], "rank {rank}, algorithm {algorithm}");
    }
}

pub fn trials(trials: &mut Trials) {
    for rank in [-1, i32::MIN, 3, i32::MAX] {
        trials.check(format!("lora::backward::tables::doctored/{rank}"), move || rank_is_refused(rank));
    }
}
