//! Rank 0 is the base alone, whatever the scale: a scale that is no number belongs to nothing then.

use peft_kernels::lora::{self, Adapter, AdapterTable, Backward, BackwardTarget, Forward, Gradient, Merge, Target};
use peft_kernels::{Cpu, HostQueue, Mat, MatMut, Vector, Workspace};

use super::case::ALGORITHMS;
use crate::queues::{Trials, emulators};

const SCALES: [f32; 3] = [f32::NAN, f32::INFINITY, 1.0];

fn forward_is_base<Q: HostQueue>(queue: &Q, algorithm: i32) {
    let (m, n, k) = (2, 3, 4);
    // Products of zeros: a base of −0 would become +0 by adding anything to it.
    let (x, w, y_before, none) = ([1.0f32; 8], [0.5f32; 12], [-0.0f32; 6], [0.0f32; 0]);
    for scale in SCALES {
        let mut y = [f32::NAN; 6];
        let target = Target::dense(Mat::new(&w, n, k).unwrap(), MatMut::new(&mut y, m, n).unwrap());
        let target = target.adapter(Mat::new(&none, 0, k).unwrap(), Mat::new(&none, n, 0).unwrap(), scale);
        let call = Forward::new(Mat::new(&x, m, k).unwrap()).target(target).algorithm(algorithm);
        lora::forward(queue, call, Workspace::none()).unwrap();
        assert_eq!(y, [2.0; 6], "scale {scale}");

        let mut y = y_before;
        let target = Target::accumulate(MatMut::new(&mut y, m, n).unwrap());
        let target = target.adapter(Mat::new(&none, 0, k).unwrap(), Mat::new(&none, n, 0).unwrap(), scale);
        let call = Forward::new(Mat::new(&x, m, k).unwrap()).target(target).algorithm(algorithm);
        lora::forward(queue, call, Workspace::none()).unwrap();
        assert_eq!(y.map(f32::to_bits), y_before.map(f32::to_bits), "scale {scale}, base in y");

        // Of a table: rows of an adapter of rank 0 beside rows of others.
        let (a, b) = ([1.0f32; 4], [0.25f32; 3]);
        let nothing = Adapter::new(Mat::new(&none, 0, k).unwrap(), Mat::new(&none, n, 0).unwrap(), scale);
        let one = Adapter::new(Mat::new(&a, 1, k).unwrap(), Mat::new(&b, n, 1).unwrap(), 1.0);
        let adapters = [nothing, one];
        let table = AdapterTable::new(queue, &adapters).unwrap();
        let mut y = [f32::NAN; 6];
        let target = Target::dense(Mat::new(&w, n, k).unwrap(), MatMut::new(&mut y, m, n).unwrap()).table(&table);
        let call = Forward::new(Mat::new(&x, m, k).unwrap()).target(target).algorithm(algorithm);
        let call = call.row_adapter(Vector::whole(&[0, 1]));
        let mut workspace = vec![0u8; lora::forward_workspace(queue, &call).unwrap()];
        lora::forward(queue, call, Workspace::new(&mut workspace)).unwrap();
        assert_eq!(y, [2.0, 2.0, 2.0, 3.0, 3.0, 3.0], "scale {scale}, of a table");
    }
}

fn backward_is_base<Q: HostQueue>(queue: &Q, algorithm: i32) {
    let (m, n, k) = (2, 3, 4);
    let (x, dy, w, none) = ([1.0f32; 8], [1.0f32; 6], [0.5f32; 12], [0.0f32; 0]);
    for scale in SCALES {
        let mut dx = [f32::NAN; 8];
        let target = BackwardTarget::new(Mat::new(&dy, m, n).unwrap()).dense(Mat::new(&w, n, k).unwrap());
        let target = target.adapter(Mat::new(&none, 0, k).unwrap(), Mat::new(&none, n, 0).unwrap(), scale);
        let call = Backward::new(Mat::new(&x, m, k).unwrap()).target(target).algorithm(algorithm);
        let call = call.x_gradient(Gradient::overwrite(MatMut::new(&mut dx, m, k).unwrap()));
        let mut workspace = vec![0u8; lora::backward_workspace(queue, &call).unwrap()];
        lora::backward(queue, call, Workspace::new(&mut workspace)).unwrap();
        assert_eq!(dx, [1.5; 8], "scale {scale}");
    }
}

fn merge_is_copy<Q: HostQueue>(queue: &Q) {
    let (w, none) = ([1.5f32; 6], [0.0f32; 0]);
    for scale in SCALES {
        let mut merged = [f32::NAN; 6];
        let adapter = Adapter::new(Mat::new(&none, 0, 3).unwrap(), Mat::new(&none, 2, 0).unwrap(), scale);
        let call = Merge::new(Mat::new(&w, 2, 3).unwrap(), MatMut::new(&mut merged, 2, 3).unwrap());
        lora::merge(queue, call.adapter(adapter)).unwrap();
        assert_eq!(merged, w, "scale {scale}");
    }
}

pub fn trials(trials: &mut Trials) {
    trials.check("lora::forward::rank_zero_has_no_scale", || {
        forward_is_base(&Cpu, 0);
        emulators().for_each(|queue| ALGORITHMS.iter().for_each(|&algorithm| forward_is_base(&queue, algorithm)));
    });
    trials.check("lora::backward::rank_zero_has_no_scale", || {
        backward_is_base(&Cpu, 0);
        emulators().for_each(|queue| (0..=3).for_each(|algorithm| backward_is_base(&queue, algorithm)));
    });
    trials.check("lora::merge::rank_zero_has_no_scale", || {
        merge_is_copy(&Cpu);
        emulators().for_each(|queue| merge_is_copy(&queue));
    });
}
