//! The C interface without a device: every operation that takes a queue says so, before anything else happens.

use std::ffi::CStr;

use peft_kernels::HAS_CUDA;

use crate::queues::Trials;

#[path = "../../src/ffi/bindings.rs"]
#[allow(unused_imports)]
mod bindings;
use bindings::*;

const HEADER: &str = include_str!("../../cuda/include/peft_kernels.h");

/// An ordinal that no machine has.
const NO_SUCH_DEVICE: i32 = 1 << 20;

/// Called with a queue of a device that is not there, and otherwise well.
type Call = fn(&pk_queue) -> i32;

/// Every operation of the header: how to call it on a queue, or nothing where it asks no device.
const OPERATIONS: &[(&str, Option<Call>)] = &[
    ("pk_lora_forward", Some(forward)),
    ("pk_lora_forward_workspace", None),
    ("pk_lora_forward_pick", None),
    ("pk_lora_backward", Some(backward)),
    ("pk_lora_backward_workspace", None),
    ("pk_lora_backward_pick", None),
    ("pk_lora_sample_norms", Some(sample_norms)),
    ("pk_lora_sample_norms_workspace", None),
    ("pk_lora_sample_norms_pick", None),
    ("pk_lora_clip_weights", Some(clip_weights)),
    ("pk_lora_clip_weights_pick", None),
    ("pk_lora_add_noise", Some(add_noise)),
    ("pk_lora_add_noise_pick", None),
    ("pk_lora_merge", Some(|queue| merge(queue, pk_lora_merge))),
    ("pk_lora_unmerge", Some(|queue| merge(queue, pk_lora_unmerge))),
    ("pk_lora_merge_workspace", None),
    ("pk_lora_merge_pick", None),
    ("pk_lora_weight_norm", Some(weight_norm)),
    ("pk_lora_weight_norm_workspace", None),
    ("pk_lora_weight_norm_pick", None),
    ("pk_lora_magnitude_gradient", Some(magnitude_gradient)),
    ("pk_lora_magnitude_gradient_workspace", None),
    ("pk_lora_magnitude_gradient_pick", None),
    ("pk_lora_double_backward", Some(double_backward)),
    ("pk_lora_double_backward_workspace", None),
    ("pk_lora_double_backward_pick", None),
    ("pk_lora_quantize", Some(|queue| quantize(queue, pk_lora_quantize))),
    ("pk_lora_dequantize", Some(|queue| quantize(queue, pk_lora_dequantize))),
    ("pk_lora_quantize_workspace", None),
    ("pk_lora_quantize_pick", None),
    ("pk_haar_forward", Some(|queue| transform(queue, pk_haar_forward))),
    ("pk_haar_inverse", Some(|queue| transform(queue, pk_haar_inverse))),
    ("pk_haar_pick", None),
    ("pk_haar_hadamard", Some(hadamard)),
    ("pk_haar_hadamard_pick", None),
    ("pk_haar_wara_forward", Some(wara_forward)),
    ("pk_haar_wara_forward_workspace", None),
    ("pk_haar_wara_forward_pick", None),
    ("pk_haar_wara_backward", Some(wara_backward)),
    ("pk_haar_wara_backward_workspace", None),
    ("pk_haar_wara_backward_pick", None),
    ("pk_haar_wara_merge", Some(|queue| wara_merge(queue, pk_haar_wara_merge))),
    ("pk_haar_wara_unmerge", Some(|queue| wara_merge(queue, pk_haar_wara_unmerge))),
    ("pk_haar_wara_merge_pick", None),
    ("pk_abi_version", None),
    ("pk_has_queue", None),
    ("pk_device_count", None),
    ("pk_queue_chip", Some(chip)),
    // SAFETY: a queue.
    ("pk_prepare", Some(|queue| unsafe { pk_prepare(queue) })),
    ("pk_status_read", Some(status_read)),
    ("pk_last_error", None),
];

/// The operations of the header that enqueue work: those of the list that only ask, load or wait are not among them.
pub fn enqueueing() -> impl Iterator<Item = &'static str> {
    let others = ["pk_queue_chip", "pk_prepare", "pk_status_read"];
    let names = OPERATIONS.iter().filter(|(_, call)| call.is_some()).map(|(name, _)| *name);
    names.filter(move |name| !others.contains(name))
}

fn size_of_struct<T>() -> u64 {
    size_of::<T>() as u64
}

fn matrix(data: &mut [f32], rows: i64, columns: i64) -> pk_matrix {
    let row_stride = columns;
    let data = data.as_mut_ptr().cast();
    pk_matrix { data, rows, columns, row_stride, column_stride: 1, element_type: PK_F32, ..Default::default() }
}

fn forward(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut x, mut w, mut y, mut a, mut b) = ([1.0; 6], [1.0; 12], [7.0; 8], [1.0; 3], [1.0; 4]);
    let mut workspace = Workspace([7.0; 64]);
    let target = pk_lora_target {
        base: PK_LORA_BASE_DENSE,
        adapter_element_type: PK_F32,
        w: matrix(&mut w, 4, 3),
        y: matrix(&mut y, 2, 4),
        a: matrix(&mut a, 1, 3),
        b: matrix(&mut b, 4, 1),
        scale: 1.0,
        ..Default::default()
    };
    let descriptor = pk_lora_forward_descriptor {
        size: size_of_struct::<pk_lora_forward_descriptor>(),
        target_size: size_of_struct::<pk_lora_target>(),
        x: matrix(&mut x, 2, 3),
        targets: &target,
        target_count: 1,
        workspace: workspace.0.as_mut_ptr().cast(),
        workspace_bytes: size_of_struct::<Workspace>(),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_forward(queue, &descriptor) };
    assert!(y == [7.0; 8] && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn backward(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 192]);
    let (mut x, mut dy, mut a, mut b) = ([1.0; 6], [1.0; 8], [1.0; 3], [1.0; 4]);
    let (mut dx, mut da, mut db, mut dbias) = ([7.0; 6], [7.0; 3], [7.0; 4], [7.0; 4]);
    let mut workspace = Workspace([7.0; 192]);
    let target = pk_lora_gradient_target {
        adapter_element_type: PK_F32,
        dy: matrix(&mut dy, 2, 4),
        a: matrix(&mut a, 1, 3),
        b: matrix(&mut b, 4, 1),
        scale: 1.0,
        a_gradient: PK_GRADIENT_OVERWRITE,
        b_gradient: PK_GRADIENT_OVERWRITE,
        bias_gradient: PK_GRADIENT_OVERWRITE,
        da: matrix(&mut da, 1, 3),
        db: matrix(&mut db, 4, 1),
        dbias: matrix(&mut dbias, 1, 4),
        ..Default::default()
    };
    let descriptor = pk_lora_backward_descriptor {
        size: size_of_struct::<pk_lora_backward_descriptor>(),
        target_size: size_of_struct::<pk_lora_gradient_target>(),
        x: matrix(&mut x, 2, 3),
        dx: matrix(&mut dx, 2, 3),
        targets: &target,
        target_count: 1,
        x_gradient: PK_GRADIENT_OVERWRITE,
        workspace: workspace.0.as_mut_ptr().cast(),
        workspace_bytes: size_of_struct::<Workspace>(),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_backward(queue, &descriptor) };
    let written = dx != [7.0; 6] || da != [7.0; 3] || db != [7.0; 4] || dbias != [7.0; 4];
    assert!(!written && workspace.0 == [7.0; 192], "a refused call has written");
    status
}

fn merge(queue: &pk_queue, run: unsafe extern "C" fn(*const pk_queue, *const pk_lora_merge_descriptor) -> i32) -> i32 {
    let (mut source, mut destination, a, b) = ([1.0; 12], [7.0; 12], [1.0f32; 3], [1.0f32; 4]);
    let adapter = pk_lora_adapter {
        a: a.as_ptr().cast(),
        b: b.as_ptr().cast(),
        a_row_stride: 3,
        a_column_stride: 1,
        b_row_stride: 1,
        b_column_stride: 1,
        rank: 1,
        scale: 1.0,
    };
    let descriptor = pk_lora_merge_descriptor {
        size: size_of_struct::<pk_lora_merge_descriptor>(),
        source: matrix(&mut source, 4, 3),
        destination: matrix(&mut destination, 4, 3),
        adapters: &adapter,
        adapter_count: 1,
        adapter_element_type: PK_F32,
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { run(queue, &descriptor) };
    assert_eq!(destination, [7.0; 12], "a refused call has written");
    status
}

fn sample_norms(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut x, mut dy, mut a, mut b) = ([1.0; 12], [1.0; 8], [1.0; 3], [1.0; 2]);
    let (mut squares, mut workspace) = ([7.0; 2], Workspace([7.0; 64]));
    let target = pk_lora_sample_norm_target {
        adapter_element_type: PK_F32,
        scale: 1.0,
        dy: matrix(&mut dy, 4, 2),
        a: matrix(&mut a, 1, 3),
        b: matrix(&mut b, 2, 1),
        a_counts: 1,
        b_counts: 1,
        ..Default::default()
    };
    let descriptor = pk_lora_sample_norms_descriptor {
        size: size_of_struct::<pk_lora_sample_norms_descriptor>(),
        target_size: size_of_struct::<pk_lora_sample_norm_target>(),
        x: matrix(&mut x, 4, 3),
        targets: &target,
        target_count: 1,
        samples: pk_samples { count: 2, ..Default::default() },
        squares: squares.as_mut_ptr(),
        mode: PK_GRADIENT_OVERWRITE,
        workspace: workspace.0.as_mut_ptr().cast(),
        workspace_bytes: size_of_struct::<Workspace>(),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_sample_norms(queue, &descriptor) };
    assert!(squares == [7.0; 2] && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn clip_weights(queue: &pk_queue) -> i32 {
    let (squares, mut weights) = ([4.0f32; 3], [7.0f32; 3]);
    let descriptor = pk_lora_clip_weights_descriptor {
        size: size_of_struct::<pk_lora_clip_weights_descriptor>(),
        squares: squares.as_ptr(),
        weights: weights.as_mut_ptr(),
        count: 3,
        max_norm: 1.0,
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_clip_weights(queue, &descriptor) };
    assert_eq!(weights, [7.0; 3], "a refused call has written");
    status
}

fn add_noise(queue: &pk_queue) -> i32 {
    let mut gradient = [7.0; 6];
    let descriptor = pk_lora_add_noise_descriptor {
        size: size_of_struct::<pk_lora_add_noise_descriptor>(),
        gradient: matrix(&mut gradient, 2, 3),
        scale: 1.0,
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_add_noise(queue, &descriptor) };
    assert_eq!(gradient, [7.0; 6], "a refused call has written");
    status
}

fn weight_norm(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut w, mut norm, mut workspace) = ([1.0; 12], [7.0; 4], Workspace([7.0; 64]));
    let descriptor = pk_lora_weight_norm_descriptor {
        size: size_of_struct::<pk_lora_weight_norm_descriptor>(),
        w: matrix(&mut w, 4, 3),
        adapter_element_type: PK_F32,
        norm: norm.as_mut_ptr(),
        norm_count: 4,
        workspace: workspace.0.as_mut_ptr().cast(),
        workspace_bytes: size_of_struct::<Workspace>(),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_weight_norm(queue, &descriptor) };
    assert!(norm == [7.0; 4] && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn magnitude_gradient(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut dy, mut y, mut magnitude) = ([1.0; 12], [1.0; 12], [1.0; 3]);
    let (mut gradient, mut workspace) = ([7.0; 3], Workspace([7.0; 64]));
    let descriptor = pk_lora_magnitude_gradient_descriptor {
        size: size_of_struct::<pk_lora_magnitude_gradient_descriptor>(),
        dy: matrix(&mut dy, 4, 3),
        y: matrix(&mut y, 4, 3),
        magnitude: matrix(&mut magnitude, 1, 3),
        dmagnitude: matrix(&mut gradient, 1, 3),
        mode: PK_GRADIENT_OVERWRITE,
        workspace: workspace.0.as_mut_ptr().cast(),
        workspace_bytes: size_of_struct::<Workspace>(),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_magnitude_gradient(queue, &descriptor) };
    assert!(gradient == [7.0; 3] && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn double_backward(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut x, mut dy, mut a, mut b) = ([1.0; 6], [1.0; 8], [1.0; 3], [1.0; 4]);
    let (mut ua, mut ub, mut workspace) = ([1.0; 3], [1.0; 4], Workspace([7.0; 64]));
    let (mut of_dy, mut of_x, mut of_a, mut of_b) = ([7.0; 8], [7.0; 6], [7.0; 3], [7.0; 4]);
    let descriptor = pk_lora_double_backward_descriptor {
        size: size_of_struct::<pk_lora_double_backward_descriptor>(),
        adapter_element_type: PK_F32,
        x: matrix(&mut x, 2, 3),
        dy: matrix(&mut dy, 2, 4),
        a: matrix(&mut a, 1, 3),
        b: matrix(&mut b, 4, 1),
        scale: 1.0,
        cotangents: (PK_LORA_COTANGENT_A | PK_LORA_COTANGENT_B) as u32,
        ua: matrix(&mut ua, 1, 3),
        ub: matrix(&mut ub, 4, 1),
        dy_gradient: PK_GRADIENT_OVERWRITE,
        x_gradient: PK_GRADIENT_OVERWRITE,
        a_gradient: PK_GRADIENT_OVERWRITE,
        b_gradient: PK_GRADIENT_OVERWRITE,
        ddy: matrix(&mut of_dy, 2, 4),
        dx: matrix(&mut of_x, 2, 3),
        da: matrix(&mut of_a, 1, 3),
        db: matrix(&mut of_b, 4, 1),
        workspace: workspace.0.as_mut_ptr().cast(),
        workspace_bytes: size_of_struct::<Workspace>(),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_lora_double_backward(queue, &descriptor) };
    let written = of_dy != [7.0; 8] || of_x != [7.0; 6] || of_a != [7.0; 3] || of_b != [7.0; 4];
    assert!(!written && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn quantize(
    queue: &pk_queue,
    run: unsafe extern "C" fn(*const pk_queue, *const pk_lora_quantize_descriptor) -> i32,
) -> i32 {
    let (mut weights, mut codes, mut absmax) = ([7.0; 16], [7u8; 4], [7.0f32; 1]);
    let (values, boundaries, order) = ([-1.0f32, 0.0, 0.5, 1.0], [-0.5f32, 0.25, 0.75], [0u8, 1, 2, 3]);
    let book = pk_lora_code_book {
        values: values.as_ptr(),
        boundaries: boundaries.as_ptr(),
        codes: order.as_ptr(),
        bits: 2,
        reserved: 0,
    };
    let descriptor = pk_lora_quantize_descriptor {
        size: size_of_struct::<pk_lora_quantize_descriptor>(),
        matrix: matrix(&mut weights, 2, 8),
        codes: codes.as_mut_ptr(),
        code_bytes: 4,
        absmax: absmax.as_mut_ptr(),
        absmax_count: 1,
        book,
        block: 16,
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { run(queue, &descriptor) };
    assert!(weights == [7.0; 16] && codes == [7; 4] && absmax == [7.0], "a refused call has written");
    status
}

fn transform(queue: &pk_queue, run: unsafe extern "C" fn(*const pk_queue, *const pk_haar_descriptor) -> i32) -> i32 {
    let (mut source, mut destination) = ([1.0; 16], [7.0; 16]);
    let descriptor = pk_haar_descriptor {
        size: size_of_struct::<pk_haar_descriptor>(),
        source: matrix(&mut source, 4, 4),
        destination: matrix(&mut destination, 4, 4),
        axes: PK_HAAR_ALONG_BOTH,
        levels: 2,
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { run(queue, &descriptor) };
    assert_eq!(destination, [7.0; 16], "a refused call has written");
    status
}

fn hadamard(queue: &pk_queue) -> i32 {
    let (mut source, mut destination) = ([1.0; 16], [7.0; 16]);
    let descriptor = pk_haar_hadamard_descriptor {
        size: size_of_struct::<pk_haar_hadamard_descriptor>(),
        source: matrix(&mut source, 2, 8),
        destination: matrix(&mut destination, 2, 8),
        ..Default::default()
    };
    // SAFETY: a queue and a descriptor whose operands are as large as they say.
    let status = unsafe { pk_haar_hadamard(queue, &descriptor) };
    assert_eq!(destination, [7.0; 16], "a refused call has written");
    status
}

/// One level of a layer [4, 2], of rank 1.
fn with_wara<R>(call: impl FnOnce(pk_haar_wara_adapter) -> R) -> R {
    let (mut a, mut b) = ([1.0; 2], [1.0; 4]);
    let (a, b) = (matrix(&mut a, 1, 2), matrix(&mut b, 4, 1));
    call(pk_haar_wara_adapter { a: &a, b: &b, factor_count: 1, levels: 1, scale: 1.0, ..Default::default() })
}

fn wara_forward(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut x, mut y, mut workspace) = ([1.0; 6], [7.0; 12], Workspace([7.0; 64]));
    let status = with_wara(|adapter| {
        let descriptor = pk_haar_wara_forward_descriptor {
            size: size_of_struct::<pk_haar_wara_forward_descriptor>(),
            adapter,
            base: PK_LORA_BASE_NONE,
            x: matrix(&mut x, 3, 2),
            y: matrix(&mut y, 3, 4),
            workspace: workspace.0.as_mut_ptr().cast(),
            workspace_bytes: size_of_struct::<Workspace>(),
            ..Default::default()
        };
        // SAFETY: a queue and a descriptor whose operands are as large as they say.
        unsafe { pk_haar_wara_forward(queue, &descriptor) }
    });
    assert!(y == [7.0; 12] && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn wara_backward(queue: &pk_queue) -> i32 {
    #[repr(align(256))]
    struct Workspace([f32; 64]);
    let (mut x, mut dy, mut dx, mut workspace) = ([1.0; 6], [1.0; 12], [7.0; 6], Workspace([7.0; 64]));
    let status = with_wara(|adapter| {
        let descriptor = pk_haar_wara_backward_descriptor {
            size: size_of_struct::<pk_haar_wara_backward_descriptor>(),
            adapter,
            x: matrix(&mut x, 3, 2),
            dy: matrix(&mut dy, 3, 4),
            dx: matrix(&mut dx, 3, 2),
            workspace: workspace.0.as_mut_ptr().cast(),
            workspace_bytes: size_of_struct::<Workspace>(),
            ..Default::default()
        };
        // SAFETY: a queue and a descriptor whose operands are as large as they say.
        unsafe { pk_haar_wara_backward(queue, &descriptor) }
    });
    assert!(dx == [7.0; 6] && workspace.0 == [7.0; 64], "a refused call has written");
    status
}

fn wara_merge(
    queue: &pk_queue,
    run: unsafe extern "C" fn(*const pk_queue, *const pk_haar_wara_merge_descriptor) -> i32,
) -> i32 {
    let (mut source, mut destination) = ([1.0; 8], [7.0; 8]);
    let status = with_wara(|adapter| {
        let descriptor = pk_haar_wara_merge_descriptor {
            size: size_of_struct::<pk_haar_wara_merge_descriptor>(),
            adapter,
            source: matrix(&mut source, 4, 2),
            destination: matrix(&mut destination, 4, 2),
            ..Default::default()
        };
        // SAFETY: a queue and a descriptor whose operands are as large as they say.
        unsafe { run(queue, &descriptor) }
    });
    assert_eq!(destination, [7.0; 8], "a refused call has written");
    status
}

fn chip(queue: &pk_queue) -> i32 {
    let mut chip = pk_chip { size: size_of_struct::<pk_chip>(), ..Default::default() };
    // SAFETY: a queue and a chip.
    unsafe { pk_queue_chip(queue, &mut chip) }
}

fn status_read(queue: &pk_queue) -> i32 {
    let (record, mut host) = (pk_status_record::default(), pk_status_record::default());
    // SAFETY: a queue and two records.
    unsafe { pk_status_read(queue, &record, &mut host) }
}

/// `pk_lora_merge`, and whether it takes a queue, of each declaration of the header.
fn declared() -> Vec<(&'static str, bool)> {
    let declarations = HEADER.split("PK_API ").skip(2);
    let parse = |text: &'static str| {
        let (head, rest) = text.split_once('(').expect("a declaration has parameters");
        let parameters = rest.split_once(')').expect("parameters end").0;
        let name = head.split_whitespace().last().expect("a declaration has a name");
        (name, parameters.contains("const pk_queue *queue"))
    };
    declarations.filter(|text| text.contains('(')).map(parse).collect()
}

/// No operation of the header is missing above, and none is wrongly said to need no device.
fn is_complete() -> Result<(), String> {
    let listed: Vec<_> = OPERATIONS.iter().map(|(name, call)| (*name, call.is_some())).collect();
    let declared = declared();
    match declared == listed {
        true => Ok(()),
        false => Err(format!("the header declares\n{declared:?}\nand the tests know\n{listed:?}")),
    }
}

fn last_error() -> String {
    let mut text = [0; 1024];
    // SAFETY: so many characters; what was written ends with a zero.
    let text = unsafe {
        pk_last_error(text.as_mut_ptr(), text.len() as u64);
        CStr::from_ptr(text.as_ptr())
    };
    text.to_string_lossy().into_owned()
}

fn refuse(device: i32) -> Result<(), String> {
    let expected = if HAS_CUDA { PK_ERROR_NO_DEVICE } else { PK_ERROR_NOT_BUILT };
    for stream in [0, u64::from(PK_STREAM_LEGACY as u32), u64::from(PK_STREAM_PER_THREAD as u32)] {
        let queue = pk_queue { size: size_of_struct::<pk_queue>(), kind: PK_QUEUE_CUDA, device, stream };
        for (name, call) in OPERATIONS {
            let Some(call) = call else { continue };
            let status = call(&queue);
            if status != expected || last_error().is_empty() {
                return Err(format!("{name} on device {device}: {status} ({}), expected {expected}", last_error()));
            }
        }
    }
    Ok(())
}

/// On a machine without a driver or a device.
fn count_is_refused() -> Result<(), String> {
    let mut count = 7;
    // SAFETY: it writes one number.
    let status = unsafe { pk_device_count(&mut count) };
    let expected = if HAS_CUDA { PK_ERROR_NO_DEVICE } else { PK_ERROR_NOT_BUILT };
    match (status, count) {
        (status, 7) if status == expected => Ok(()),
        _ => Err(format!("pk_device_count: {status} ({}), count {count}, expected {expected}", last_error())),
    }
}

pub fn trials(trials: &mut Trials) {
    trials.add("operations::are_those_of_the_header", is_complete);
    trials.add("operations::say_that_there_is_no_such_device", || refuse(NO_SUCH_DEVICE));
    match crate::cuda::missing() {
        Some(_) => {
            trials.add("operations::say_that_there_is_no_device", || refuse(0));
            trials.add("operations::count_no_device", count_is_refused);
        }
        None => {
            trials.needs("operations::say_that_there_is_no_device", "needs a machine without a CUDA device");
            trials.needs("operations::count_no_device", "needs a machine without a CUDA device");
        }
    }
}
