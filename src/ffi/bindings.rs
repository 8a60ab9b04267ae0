// Generated from cuda/include/peft_kernels.h by `cargo run -p peft-kernels-tools -- bindings`: do not edit.
#![allow(missing_docs, dead_code, non_camel_case_types, clippy::all, clippy::undocumented_unsafe_blocks)]

pub const PK_ABI_VERSION: i32 = 1;
pub const PK_OK: i32 = 0;
pub const PK_ERROR_VERSION: i32 = -1;
pub const PK_ERROR_ARGUMENT: i32 = -2;
pub const PK_ERROR_ELEMENT_TYPE: i32 = -3;
pub const PK_ERROR_WORKSPACE: i32 = -4;
pub const PK_ERROR_NOT_BUILT: i32 = -5;
pub const PK_ERROR_NO_DEVICE: i32 = -6;
pub const PK_ERROR_CUDA: i32 = -7;
pub const PK_ERROR_EMULATOR: i32 = -8;
pub const PK_ERROR_ALGORITHM: i32 = -9;
pub const PK_F32: i32 = 1;
pub const PK_F16: i32 = 2;
pub const PK_BF16: i32 = 3;
pub const PK_F64: i32 = 4;
pub const PK_QUEUE_EMULATOR: i32 = 1;
pub const PK_QUEUE_CUDA: i32 = 2;
pub const PK_STREAM_LEGACY: i32 = 1;
pub const PK_STREAM_PER_THREAD: i32 = 2;
pub const PK_FAILURE_ADAPTER_INDEX: i32 = 1;
pub const PK_FAILURE_ADAPTER_RANK: i32 = 2;
pub const PK_FAILURE_ZERO_NORM: i32 = 3;
pub const PK_FAILURE_SAMPLE: i32 = 4;
pub const PK_FAILURE_RANK: i32 = 5;
pub const PK_FAILURE_ZERO_MAGNITUDE: i32 = 6;
pub const PK_FAILURE_ZERO_ROW_SCALE: i32 = 7;
pub const PK_WORKSPACE_ALIGNMENT: i32 = 256;
pub const PK_FLAG_ALLOW_TF32: i32 = 1;
pub const PK_FLAG_ALLOW_ATOMICS: i32 = 2;
pub const PK_FLAG_BATCH_INVARIANT: i32 = 4;
pub const PK_LORA_BASE_NONE: i32 = 0;
pub const PK_LORA_BASE_DENSE: i32 = 1;
pub const PK_LORA_BASE_IN_Y: i32 = 2;
pub const PK_LORA_BASE_QUANTIZED: i32 = 3;
pub const PK_LORA_MIDDLE_RANKS: i32 = 1;
pub const PK_LORA_MIDDLE_HOST_RANKS: i32 = 2;
pub const PK_LORA_MIDDLE_SCALE: i32 = 4;
pub const PK_LORA_MIDDLE_GATE: i32 = 8;
pub const PK_LORA_MIDDLE_CORE: i32 = 16;
pub const PK_GRADIENT_NONE: i32 = 0;
pub const PK_GRADIENT_OVERWRITE: i32 = 1;
pub const PK_GRADIENT_ACCUMULATE: i32 = 2;
pub const PK_LORA_BACKWARD_TARGETS: i32 = 8;
pub const PK_LORA_MERGE_ADAPTERS: i32 = 64;
pub const PK_LORA_COTANGENT_X: i32 = 1;
pub const PK_LORA_COTANGENT_A: i32 = 2;
pub const PK_LORA_COTANGENT_B: i32 = 4;
pub const PK_HAAR_ALONG_COLUMNS: i32 = 1;
pub const PK_HAAR_ALONG_ROWS: i32 = 2;
pub const PK_HAAR_ALONG_BOTH: i32 = 3;
pub const PK_HAAR_BOUNDARY_NONE: i32 = 0;
pub const PK_HAAR_BOUNDARY_ZERO: i32 = 1;
pub const PK_HAAR_BOUNDARY_EDGE: i32 = 2;
pub const PK_HAAR_BOUNDARY_SYMMETRIC: i32 = 3;
pub const PK_HAAR_BOUNDARY_PERIODIC: i32 = 4;
pub const PK_HAAR_MALLAT: i32 = 0;
pub const PK_HAAR_INTERLEAVED: i32 = 1;
pub const PK_HAAR_ORTHONORMAL: i32 = 0;
pub const PK_HAAR_SUMS: i32 = 1;
pub const PK_HAAR_HADAMARD_COLUMNS: i32 = 32768;
pub const PK_HAAR_WARA_WEIGHT: i32 = 0;
pub const PK_HAAR_WARA_ACTIVATION: i32 = 1;
pub const PK_HAAR_WARA_LEVELS: i32 = 6;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq, Eq)]
pub struct pk_queue {
    pub size: u64,
    pub kind: i32,
    pub device: i32,
    pub stream: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_queue"][::core::mem::size_of::<pk_queue>() - 24usize];
    ["Alignment of pk_queue"][::core::mem::align_of::<pk_queue>() - 8usize];
    ["Offset of field: pk_queue::size"][::core::mem::offset_of!(pk_queue, size) - 0usize];
    ["Offset of field: pk_queue::kind"][::core::mem::offset_of!(pk_queue, kind) - 8usize];
    ["Offset of field: pk_queue::device"][::core::mem::offset_of!(pk_queue, device) - 12usize];
    ["Offset of field: pk_queue::stream"][::core::mem::offset_of!(pk_queue, stream) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_matrix {
    pub data: *mut ::core::ffi::c_void,
    pub rows: i64,
    pub columns: i64,
    pub row_stride: i64,
    pub column_stride: i64,
    pub batch_stride: i64,
    pub element_type: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_matrix"][::core::mem::size_of::<pk_matrix>() - 56usize];
    ["Alignment of pk_matrix"][::core::mem::align_of::<pk_matrix>() - 8usize];
    ["Offset of field: pk_matrix::data"][::core::mem::offset_of!(pk_matrix, data) - 0usize];
    ["Offset of field: pk_matrix::rows"][::core::mem::offset_of!(pk_matrix, rows) - 8usize];
    ["Offset of field: pk_matrix::columns"][::core::mem::offset_of!(pk_matrix, columns) - 16usize];
    ["Offset of field: pk_matrix::row_stride"][::core::mem::offset_of!(pk_matrix, row_stride) - 24usize];
    ["Offset of field: pk_matrix::column_stride"][::core::mem::offset_of!(pk_matrix, column_stride) - 32usize];
    ["Offset of field: pk_matrix::batch_stride"][::core::mem::offset_of!(pk_matrix, batch_stride) - 40usize];
    ["Offset of field: pk_matrix::element_type"][::core::mem::offset_of!(pk_matrix, element_type) - 48usize];
    ["Offset of field: pk_matrix::reserved"][::core::mem::offset_of!(pk_matrix, reserved) - 52usize];
};
impl Default for pk_matrix {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq, Eq)]
pub struct pk_status_record {
    pub failure: u64,
    pub reserved: [u64; 3usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_status_record"][::core::mem::size_of::<pk_status_record>() - 32usize];
    ["Alignment of pk_status_record"][::core::mem::align_of::<pk_status_record>() - 8usize];
    ["Offset of field: pk_status_record::failure"][::core::mem::offset_of!(pk_status_record, failure) - 0usize];
    ["Offset of field: pk_status_record::reserved"][::core::mem::offset_of!(pk_status_record, reserved) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_kernel_choice {
    pub algorithm: i32,
    pub reserved: i32,
    pub rounding_steps: i64,
    pub name: [::core::ffi::c_char; 48usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_kernel_choice"][::core::mem::size_of::<pk_kernel_choice>() - 64usize];
    ["Alignment of pk_kernel_choice"][::core::mem::align_of::<pk_kernel_choice>() - 8usize];
    ["Offset of field: pk_kernel_choice::algorithm"][::core::mem::offset_of!(pk_kernel_choice, algorithm) - 0usize];
    ["Offset of field: pk_kernel_choice::reserved"][::core::mem::offset_of!(pk_kernel_choice, reserved) - 4usize];
    ["Offset of field: pk_kernel_choice::rounding_steps"]
        [::core::mem::offset_of!(pk_kernel_choice, rounding_steps) - 8usize];
    ["Offset of field: pk_kernel_choice::name"][::core::mem::offset_of!(pk_kernel_choice, name) - 16usize];
};
impl Default for pk_kernel_choice {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq, Eq)]
pub struct pk_chip {
    pub size: u64,
    pub compute_capability: i32,
    pub multiprocessors: i32,
    pub shared_memory_per_block: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_chip"][::core::mem::size_of::<pk_chip>() - 24usize];
    ["Alignment of pk_chip"][::core::mem::align_of::<pk_chip>() - 8usize];
    ["Offset of field: pk_chip::size"][::core::mem::offset_of!(pk_chip, size) - 0usize];
    ["Offset of field: pk_chip::compute_capability"][::core::mem::offset_of!(pk_chip, compute_capability) - 8usize];
    ["Offset of field: pk_chip::multiprocessors"][::core::mem::offset_of!(pk_chip, multiprocessors) - 12usize];
    ["Offset of field: pk_chip::shared_memory_per_block"]
        [::core::mem::offset_of!(pk_chip, shared_memory_per_block) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_adapter {
    pub a: *const ::core::ffi::c_void,
    pub b: *const ::core::ffi::c_void,
    pub a_row_stride: i64,
    pub a_column_stride: i64,
    pub b_row_stride: i64,
    pub b_column_stride: i64,
    pub rank: i32,
    pub scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_adapter"][::core::mem::size_of::<pk_lora_adapter>() - 56usize];
    ["Alignment of pk_lora_adapter"][::core::mem::align_of::<pk_lora_adapter>() - 8usize];
    ["Offset of field: pk_lora_adapter::a"][::core::mem::offset_of!(pk_lora_adapter, a) - 0usize];
    ["Offset of field: pk_lora_adapter::b"][::core::mem::offset_of!(pk_lora_adapter, b) - 8usize];
    ["Offset of field: pk_lora_adapter::a_row_stride"]
        [::core::mem::offset_of!(pk_lora_adapter, a_row_stride) - 16usize];
    ["Offset of field: pk_lora_adapter::a_column_stride"]
        [::core::mem::offset_of!(pk_lora_adapter, a_column_stride) - 24usize];
    ["Offset of field: pk_lora_adapter::b_row_stride"]
        [::core::mem::offset_of!(pk_lora_adapter, b_row_stride) - 32usize];
    ["Offset of field: pk_lora_adapter::b_column_stride"]
        [::core::mem::offset_of!(pk_lora_adapter, b_column_stride) - 40usize];
    ["Offset of field: pk_lora_adapter::rank"][::core::mem::offset_of!(pk_lora_adapter, rank) - 48usize];
    ["Offset of field: pk_lora_adapter::scale"][::core::mem::offset_of!(pk_lora_adapter, scale) - 52usize];
};
impl Default for pk_lora_adapter {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_segment {
    pub row_begin: i64,
    pub row_end: i64,
    pub adapter: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_segment"][::core::mem::size_of::<pk_lora_segment>() - 24usize];
    ["Alignment of pk_lora_segment"][::core::mem::align_of::<pk_lora_segment>() - 8usize];
    ["Offset of field: pk_lora_segment::row_begin"][::core::mem::offset_of!(pk_lora_segment, row_begin) - 0usize];
    ["Offset of field: pk_lora_segment::row_end"][::core::mem::offset_of!(pk_lora_segment, row_end) - 8usize];
    ["Offset of field: pk_lora_segment::adapter"][::core::mem::offset_of!(pk_lora_segment, adapter) - 16usize];
    ["Offset of field: pk_lora_segment::reserved"][::core::mem::offset_of!(pk_lora_segment, reserved) - 20usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct pk_dropout {
    pub seed: u64,
    pub offset: u64,
    pub probability: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_dropout"][::core::mem::size_of::<pk_dropout>() - 24usize];
    ["Alignment of pk_dropout"][::core::mem::align_of::<pk_dropout>() - 8usize];
    ["Offset of field: pk_dropout::seed"][::core::mem::offset_of!(pk_dropout, seed) - 0usize];
    ["Offset of field: pk_dropout::offset"][::core::mem::offset_of!(pk_dropout, offset) - 8usize];
    ["Offset of field: pk_dropout::probability"][::core::mem::offset_of!(pk_dropout, probability) - 16usize];
    ["Offset of field: pk_dropout::reserved"][::core::mem::offset_of!(pk_dropout, reserved) - 20usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_samples {
    pub count: i64,
    pub offsets: *const i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_samples"][::core::mem::size_of::<pk_samples>() - 16usize];
    ["Alignment of pk_samples"][::core::mem::align_of::<pk_samples>() - 8usize];
    ["Offset of field: pk_samples::count"][::core::mem::offset_of!(pk_samples, count) - 0usize];
    ["Offset of field: pk_samples::offsets"][::core::mem::offset_of!(pk_samples, offsets) - 8usize];
};
impl Default for pk_samples {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_code_book {
    pub values: *const f32,
    pub boundaries: *const f32,
    pub codes: *const u8,
    pub bits: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_code_book"][::core::mem::size_of::<pk_lora_code_book>() - 32usize];
    ["Alignment of pk_lora_code_book"][::core::mem::align_of::<pk_lora_code_book>() - 8usize];
    ["Offset of field: pk_lora_code_book::values"][::core::mem::offset_of!(pk_lora_code_book, values) - 0usize];
    ["Offset of field: pk_lora_code_book::boundaries"][::core::mem::offset_of!(pk_lora_code_book, boundaries) - 8usize];
    ["Offset of field: pk_lora_code_book::codes"][::core::mem::offset_of!(pk_lora_code_book, codes) - 16usize];
    ["Offset of field: pk_lora_code_book::bits"][::core::mem::offset_of!(pk_lora_code_book, bits) - 24usize];
    ["Offset of field: pk_lora_code_book::reserved"][::core::mem::offset_of!(pk_lora_code_book, reserved) - 28usize];
};
impl Default for pk_lora_code_book {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_quantized {
    pub codes: *const u8,
    pub code_bytes: i64,
    pub absmax: *const f32,
    pub absmax_count: i64,
    pub absmax_codes: *const u8,
    pub absmax_code_count: i64,
    pub absmax_offset: *const f32,
    pub book: pk_lora_code_book,
    pub absmax_book: pk_lora_code_book,
    pub block: i32,
    pub absmax_block: i32,
    pub short_block: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_quantized"][::core::mem::size_of::<pk_lora_quantized>() - 136usize];
    ["Alignment of pk_lora_quantized"][::core::mem::align_of::<pk_lora_quantized>() - 8usize];
    ["Offset of field: pk_lora_quantized::codes"][::core::mem::offset_of!(pk_lora_quantized, codes) - 0usize];
    ["Offset of field: pk_lora_quantized::code_bytes"][::core::mem::offset_of!(pk_lora_quantized, code_bytes) - 8usize];
    ["Offset of field: pk_lora_quantized::absmax"][::core::mem::offset_of!(pk_lora_quantized, absmax) - 16usize];
    ["Offset of field: pk_lora_quantized::absmax_count"]
        [::core::mem::offset_of!(pk_lora_quantized, absmax_count) - 24usize];
    ["Offset of field: pk_lora_quantized::absmax_codes"]
        [::core::mem::offset_of!(pk_lora_quantized, absmax_codes) - 32usize];
    ["Offset of field: pk_lora_quantized::absmax_code_count"]
        [::core::mem::offset_of!(pk_lora_quantized, absmax_code_count) - 40usize];
    ["Offset of field: pk_lora_quantized::absmax_offset"]
        [::core::mem::offset_of!(pk_lora_quantized, absmax_offset) - 48usize];
    ["Offset of field: pk_lora_quantized::book"][::core::mem::offset_of!(pk_lora_quantized, book) - 56usize];
    ["Offset of field: pk_lora_quantized::absmax_book"]
        [::core::mem::offset_of!(pk_lora_quantized, absmax_book) - 88usize];
    ["Offset of field: pk_lora_quantized::block"][::core::mem::offset_of!(pk_lora_quantized, block) - 120usize];
    ["Offset of field: pk_lora_quantized::absmax_block"]
        [::core::mem::offset_of!(pk_lora_quantized, absmax_block) - 124usize];
    ["Offset of field: pk_lora_quantized::short_block"]
        [::core::mem::offset_of!(pk_lora_quantized, short_block) - 128usize];
    ["Offset of field: pk_lora_quantized::reserved"][::core::mem::offset_of!(pk_lora_quantized, reserved) - 132usize];
};
impl Default for pk_lora_quantized {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_middle {
    pub has: u32,
    pub reserved: i32,
    pub ranks: *const i32,
    pub rank_count: i64,
    pub scale: pk_matrix,
    pub gate: pk_matrix,
    pub core: pk_matrix,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_middle"][::core::mem::size_of::<pk_lora_middle>() - 192usize];
    ["Alignment of pk_lora_middle"][::core::mem::align_of::<pk_lora_middle>() - 8usize];
    ["Offset of field: pk_lora_middle::has"][::core::mem::offset_of!(pk_lora_middle, has) - 0usize];
    ["Offset of field: pk_lora_middle::reserved"][::core::mem::offset_of!(pk_lora_middle, reserved) - 4usize];
    ["Offset of field: pk_lora_middle::ranks"][::core::mem::offset_of!(pk_lora_middle, ranks) - 8usize];
    ["Offset of field: pk_lora_middle::rank_count"][::core::mem::offset_of!(pk_lora_middle, rank_count) - 16usize];
    ["Offset of field: pk_lora_middle::scale"][::core::mem::offset_of!(pk_lora_middle, scale) - 24usize];
    ["Offset of field: pk_lora_middle::gate"][::core::mem::offset_of!(pk_lora_middle, gate) - 80usize];
    ["Offset of field: pk_lora_middle::core"][::core::mem::offset_of!(pk_lora_middle, core) - 136usize];
};
impl Default for pk_lora_middle {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_target {
    pub base: i32,
    pub adapter_element_type: i32,
    pub w: pk_matrix,
    pub y: pk_matrix,
    pub bias: pk_matrix,
    pub a: pk_matrix,
    pub b: pk_matrix,
    pub scale: f32,
    pub reserved: i32,
    pub adapters: *const pk_lora_adapter,
    pub adapter_count: i64,
    pub max_rank: i64,
    pub saved_h: pk_matrix,
    pub row_scale: pk_matrix,
    pub middle: pk_lora_middle,
    pub quantized: pk_lora_quantized,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_target"][::core::mem::size_of::<pk_lora_target>() - 760usize];
    ["Alignment of pk_lora_target"][::core::mem::align_of::<pk_lora_target>() - 8usize];
    ["Offset of field: pk_lora_target::base"][::core::mem::offset_of!(pk_lora_target, base) - 0usize];
    ["Offset of field: pk_lora_target::adapter_element_type"]
        [::core::mem::offset_of!(pk_lora_target, adapter_element_type) - 4usize];
    ["Offset of field: pk_lora_target::w"][::core::mem::offset_of!(pk_lora_target, w) - 8usize];
    ["Offset of field: pk_lora_target::y"][::core::mem::offset_of!(pk_lora_target, y) - 64usize];
    ["Offset of field: pk_lora_target::bias"][::core::mem::offset_of!(pk_lora_target, bias) - 120usize];
    ["Offset of field: pk_lora_target::a"][::core::mem::offset_of!(pk_lora_target, a) - 176usize];
    ["Offset of field: pk_lora_target::b"][::core::mem::offset_of!(pk_lora_target, b) - 232usize];
    ["Offset of field: pk_lora_target::scale"][::core::mem::offset_of!(pk_lora_target, scale) - 288usize];
    ["Offset of field: pk_lora_target::reserved"][::core::mem::offset_of!(pk_lora_target, reserved) - 292usize];
    ["Offset of field: pk_lora_target::adapters"][::core::mem::offset_of!(pk_lora_target, adapters) - 296usize];
    ["Offset of field: pk_lora_target::adapter_count"]
        [::core::mem::offset_of!(pk_lora_target, adapter_count) - 304usize];
    ["Offset of field: pk_lora_target::max_rank"][::core::mem::offset_of!(pk_lora_target, max_rank) - 312usize];
    ["Offset of field: pk_lora_target::saved_h"][::core::mem::offset_of!(pk_lora_target, saved_h) - 320usize];
    ["Offset of field: pk_lora_target::row_scale"][::core::mem::offset_of!(pk_lora_target, row_scale) - 376usize];
    ["Offset of field: pk_lora_target::middle"][::core::mem::offset_of!(pk_lora_target, middle) - 432usize];
    ["Offset of field: pk_lora_target::quantized"][::core::mem::offset_of!(pk_lora_target, quantized) - 624usize];
};
impl Default for pk_lora_target {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_forward_descriptor {
    pub size: u64,
    pub target_size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub x: pk_matrix,
    pub targets: *const pk_lora_target,
    pub target_count: i64,
    pub row_adapter: *const i32,
    pub segments: *const pk_lora_segment,
    pub segment_count: i64,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub status: *mut pk_status_record,
    pub dropout: pk_dropout,
    pub slab_bytes: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_forward_descriptor"][::core::mem::size_of::<pk_lora_forward_descriptor>() - 184usize];
    ["Alignment of pk_lora_forward_descriptor"][::core::mem::align_of::<pk_lora_forward_descriptor>() - 8usize];
    ["Offset of field: pk_lora_forward_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_forward_descriptor::target_size"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, target_size) - 8usize];
    ["Offset of field: pk_lora_forward_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, algorithm) - 16usize];
    ["Offset of field: pk_lora_forward_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, flags) - 20usize];
    ["Offset of field: pk_lora_forward_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, batch_count) - 24usize];
    ["Offset of field: pk_lora_forward_descriptor::x"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, x) - 32usize];
    ["Offset of field: pk_lora_forward_descriptor::targets"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, targets) - 88usize];
    ["Offset of field: pk_lora_forward_descriptor::target_count"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, target_count) - 96usize];
    ["Offset of field: pk_lora_forward_descriptor::row_adapter"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, row_adapter) - 104usize];
    ["Offset of field: pk_lora_forward_descriptor::segments"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, segments) - 112usize];
    ["Offset of field: pk_lora_forward_descriptor::segment_count"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, segment_count) - 120usize];
    ["Offset of field: pk_lora_forward_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, workspace) - 128usize];
    ["Offset of field: pk_lora_forward_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, workspace_bytes) - 136usize];
    ["Offset of field: pk_lora_forward_descriptor::status"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, status) - 144usize];
    ["Offset of field: pk_lora_forward_descriptor::dropout"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, dropout) - 152usize];
    ["Offset of field: pk_lora_forward_descriptor::slab_bytes"]
        [::core::mem::offset_of!(pk_lora_forward_descriptor, slab_bytes) - 176usize];
};
impl Default for pk_lora_forward_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_adapter_gradient {
    pub da: *mut ::core::ffi::c_void,
    pub db: *mut ::core::ffi::c_void,
    pub da_row_stride: i64,
    pub da_column_stride: i64,
    pub db_row_stride: i64,
    pub db_column_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_adapter_gradient"][::core::mem::size_of::<pk_lora_adapter_gradient>() - 48usize];
    ["Alignment of pk_lora_adapter_gradient"][::core::mem::align_of::<pk_lora_adapter_gradient>() - 8usize];
    ["Offset of field: pk_lora_adapter_gradient::da"][::core::mem::offset_of!(pk_lora_adapter_gradient, da) - 0usize];
    ["Offset of field: pk_lora_adapter_gradient::db"][::core::mem::offset_of!(pk_lora_adapter_gradient, db) - 8usize];
    ["Offset of field: pk_lora_adapter_gradient::da_row_stride"]
        [::core::mem::offset_of!(pk_lora_adapter_gradient, da_row_stride) - 16usize];
    ["Offset of field: pk_lora_adapter_gradient::da_column_stride"]
        [::core::mem::offset_of!(pk_lora_adapter_gradient, da_column_stride) - 24usize];
    ["Offset of field: pk_lora_adapter_gradient::db_row_stride"]
        [::core::mem::offset_of!(pk_lora_adapter_gradient, db_row_stride) - 32usize];
    ["Offset of field: pk_lora_adapter_gradient::db_column_stride"]
        [::core::mem::offset_of!(pk_lora_adapter_gradient, db_column_stride) - 40usize];
};
impl Default for pk_lora_adapter_gradient {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_gradient_target {
    pub base: i32,
    pub adapter_element_type: i32,
    pub w: pk_matrix,
    pub dy: pk_matrix,
    pub a: pk_matrix,
    pub b: pk_matrix,
    pub scale: f32,
    pub h_saved: i32,
    pub h: pk_matrix,
    pub a_gradient: i32,
    pub b_gradient: i32,
    pub bias_gradient: i32,
    pub reserved: i32,
    pub da: pk_matrix,
    pub db: pk_matrix,
    pub dbias: pk_matrix,
    pub middle: pk_lora_middle,
    pub scale_gradient: i32,
    pub gate_gradient: i32,
    pub core_gradient: i32,
    pub middle_reserved: i32,
    pub dscale: pk_matrix,
    pub dgate: pk_matrix,
    pub dcore: pk_matrix,
    pub row_scale: pk_matrix,
    pub quantized: pk_lora_quantized,
    pub adapters: *const pk_lora_adapter,
    pub adapter_count: i64,
    pub max_rank: i64,
    pub gradients: *const pk_lora_adapter_gradient,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_gradient_target"][::core::mem::size_of::<pk_lora_gradient_target>() - 1080usize];
    ["Alignment of pk_lora_gradient_target"][::core::mem::align_of::<pk_lora_gradient_target>() - 8usize];
    ["Offset of field: pk_lora_gradient_target::base"][::core::mem::offset_of!(pk_lora_gradient_target, base) - 0usize];
    ["Offset of field: pk_lora_gradient_target::adapter_element_type"]
        [::core::mem::offset_of!(pk_lora_gradient_target, adapter_element_type) - 4usize];
    ["Offset of field: pk_lora_gradient_target::w"][::core::mem::offset_of!(pk_lora_gradient_target, w) - 8usize];
    ["Offset of field: pk_lora_gradient_target::dy"][::core::mem::offset_of!(pk_lora_gradient_target, dy) - 64usize];
    ["Offset of field: pk_lora_gradient_target::a"][::core::mem::offset_of!(pk_lora_gradient_target, a) - 120usize];
    ["Offset of field: pk_lora_gradient_target::b"][::core::mem::offset_of!(pk_lora_gradient_target, b) - 176usize];
    ["Offset of field: pk_lora_gradient_target::scale"]
        [::core::mem::offset_of!(pk_lora_gradient_target, scale) - 232usize];
    ["Offset of field: pk_lora_gradient_target::h_saved"]
        [::core::mem::offset_of!(pk_lora_gradient_target, h_saved) - 236usize];
    ["Offset of field: pk_lora_gradient_target::h"][::core::mem::offset_of!(pk_lora_gradient_target, h) - 240usize];
    ["Offset of field: pk_lora_gradient_target::a_gradient"]
        [::core::mem::offset_of!(pk_lora_gradient_target, a_gradient) - 296usize];
    ["Offset of field: pk_lora_gradient_target::b_gradient"]
        [::core::mem::offset_of!(pk_lora_gradient_target, b_gradient) - 300usize];
    ["Offset of field: pk_lora_gradient_target::bias_gradient"]
        [::core::mem::offset_of!(pk_lora_gradient_target, bias_gradient) - 304usize];
    ["Offset of field: pk_lora_gradient_target::reserved"]
        [::core::mem::offset_of!(pk_lora_gradient_target, reserved) - 308usize];
    ["Offset of field: pk_lora_gradient_target::da"][::core::mem::offset_of!(pk_lora_gradient_target, da) - 312usize];
    ["Offset of field: pk_lora_gradient_target::db"][::core::mem::offset_of!(pk_lora_gradient_target, db) - 368usize];
    ["Offset of field: pk_lora_gradient_target::dbias"]
        [::core::mem::offset_of!(pk_lora_gradient_target, dbias) - 424usize];
    ["Offset of field: pk_lora_gradient_target::middle"]
        [::core::mem::offset_of!(pk_lora_gradient_target, middle) - 480usize];
    ["Offset of field: pk_lora_gradient_target::scale_gradient"]
        [::core::mem::offset_of!(pk_lora_gradient_target, scale_gradient) - 672usize];
    ["Offset of field: pk_lora_gradient_target::gate_gradient"]
        [::core::mem::offset_of!(pk_lora_gradient_target, gate_gradient) - 676usize];
    ["Offset of field: pk_lora_gradient_target::core_gradient"]
        [::core::mem::offset_of!(pk_lora_gradient_target, core_gradient) - 680usize];
    ["Offset of field: pk_lora_gradient_target::middle_reserved"]
        [::core::mem::offset_of!(pk_lora_gradient_target, middle_reserved) - 684usize];
    ["Offset of field: pk_lora_gradient_target::dscale"]
        [::core::mem::offset_of!(pk_lora_gradient_target, dscale) - 688usize];
    ["Offset of field: pk_lora_gradient_target::dgate"]
        [::core::mem::offset_of!(pk_lora_gradient_target, dgate) - 744usize];
    ["Offset of field: pk_lora_gradient_target::dcore"]
        [::core::mem::offset_of!(pk_lora_gradient_target, dcore) - 800usize];
    ["Offset of field: pk_lora_gradient_target::row_scale"]
        [::core::mem::offset_of!(pk_lora_gradient_target, row_scale) - 856usize];
    ["Offset of field: pk_lora_gradient_target::quantized"]
        [::core::mem::offset_of!(pk_lora_gradient_target, quantized) - 912usize];
    ["Offset of field: pk_lora_gradient_target::adapters"]
        [::core::mem::offset_of!(pk_lora_gradient_target, adapters) - 1048usize];
    ["Offset of field: pk_lora_gradient_target::adapter_count"]
        [::core::mem::offset_of!(pk_lora_gradient_target, adapter_count) - 1056usize];
    ["Offset of field: pk_lora_gradient_target::max_rank"]
        [::core::mem::offset_of!(pk_lora_gradient_target, max_rank) - 1064usize];
    ["Offset of field: pk_lora_gradient_target::gradients"]
        [::core::mem::offset_of!(pk_lora_gradient_target, gradients) - 1072usize];
};
impl Default for pk_lora_gradient_target {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_backward_descriptor {
    pub size: u64,
    pub target_size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub x: pk_matrix,
    pub dx: pk_matrix,
    pub targets: *const pk_lora_gradient_target,
    pub target_count: i64,
    pub x_gradient: i32,
    pub reserved: i32,
    pub dropout: pk_dropout,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub samples: pk_samples,
    pub sample_weights: *const f32,
    pub status: *mut pk_status_record,
    pub slab_bytes: i64,
    pub row_adapter: *const i32,
    pub segments: *const pk_lora_segment,
    pub segment_count: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_backward_descriptor"][::core::mem::size_of::<pk_lora_backward_descriptor>() - 272usize];
    ["Alignment of pk_lora_backward_descriptor"][::core::mem::align_of::<pk_lora_backward_descriptor>() - 8usize];
    ["Offset of field: pk_lora_backward_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_backward_descriptor::target_size"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, target_size) - 8usize];
    ["Offset of field: pk_lora_backward_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, algorithm) - 16usize];
    ["Offset of field: pk_lora_backward_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, flags) - 20usize];
    ["Offset of field: pk_lora_backward_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, batch_count) - 24usize];
    ["Offset of field: pk_lora_backward_descriptor::x"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, x) - 32usize];
    ["Offset of field: pk_lora_backward_descriptor::dx"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, dx) - 88usize];
    ["Offset of field: pk_lora_backward_descriptor::targets"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, targets) - 144usize];
    ["Offset of field: pk_lora_backward_descriptor::target_count"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, target_count) - 152usize];
    ["Offset of field: pk_lora_backward_descriptor::x_gradient"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, x_gradient) - 160usize];
    ["Offset of field: pk_lora_backward_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, reserved) - 164usize];
    ["Offset of field: pk_lora_backward_descriptor::dropout"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, dropout) - 168usize];
    ["Offset of field: pk_lora_backward_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, workspace) - 192usize];
    ["Offset of field: pk_lora_backward_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, workspace_bytes) - 200usize];
    ["Offset of field: pk_lora_backward_descriptor::samples"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, samples) - 208usize];
    ["Offset of field: pk_lora_backward_descriptor::sample_weights"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, sample_weights) - 224usize];
    ["Offset of field: pk_lora_backward_descriptor::status"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, status) - 232usize];
    ["Offset of field: pk_lora_backward_descriptor::slab_bytes"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, slab_bytes) - 240usize];
    ["Offset of field: pk_lora_backward_descriptor::row_adapter"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, row_adapter) - 248usize];
    ["Offset of field: pk_lora_backward_descriptor::segments"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, segments) - 256usize];
    ["Offset of field: pk_lora_backward_descriptor::segment_count"]
        [::core::mem::offset_of!(pk_lora_backward_descriptor, segment_count) - 264usize];
};
impl Default for pk_lora_backward_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_sample_norm_target {
    pub adapter_element_type: i32,
    pub scale: f32,
    pub dy: pk_matrix,
    pub a: pk_matrix,
    pub b: pk_matrix,
    pub a_counts: i32,
    pub b_counts: i32,
    pub bias_counts: i32,
    pub h_saved: i32,
    pub h: pk_matrix,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_sample_norm_target"][::core::mem::size_of::<pk_lora_sample_norm_target>() - 248usize];
    ["Alignment of pk_lora_sample_norm_target"][::core::mem::align_of::<pk_lora_sample_norm_target>() - 8usize];
    ["Offset of field: pk_lora_sample_norm_target::adapter_element_type"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, adapter_element_type) - 0usize];
    ["Offset of field: pk_lora_sample_norm_target::scale"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, scale) - 4usize];
    ["Offset of field: pk_lora_sample_norm_target::dy"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, dy) - 8usize];
    ["Offset of field: pk_lora_sample_norm_target::a"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, a) - 64usize];
    ["Offset of field: pk_lora_sample_norm_target::b"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, b) - 120usize];
    ["Offset of field: pk_lora_sample_norm_target::a_counts"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, a_counts) - 176usize];
    ["Offset of field: pk_lora_sample_norm_target::b_counts"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, b_counts) - 180usize];
    ["Offset of field: pk_lora_sample_norm_target::bias_counts"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, bias_counts) - 184usize];
    ["Offset of field: pk_lora_sample_norm_target::h_saved"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, h_saved) - 188usize];
    ["Offset of field: pk_lora_sample_norm_target::h"]
        [::core::mem::offset_of!(pk_lora_sample_norm_target, h) - 192usize];
};
impl Default for pk_lora_sample_norm_target {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_sample_norms_descriptor {
    pub size: u64,
    pub target_size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub x: pk_matrix,
    pub targets: *const pk_lora_sample_norm_target,
    pub target_count: i64,
    pub dropout: pk_dropout,
    pub samples: pk_samples,
    pub squares: *mut f32,
    pub mode: i32,
    pub reserved: i32,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub status: *mut pk_status_record,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_sample_norms_descriptor"][::core::mem::size_of::<pk_lora_sample_norms_descriptor>() - 184usize];
    ["Alignment of pk_lora_sample_norms_descriptor"]
        [::core::mem::align_of::<pk_lora_sample_norms_descriptor>() - 8usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::target_size"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, target_size) - 8usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, algorithm) - 16usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, flags) - 20usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, batch_count) - 24usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::x"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, x) - 32usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::targets"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, targets) - 88usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::target_count"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, target_count) - 96usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::dropout"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, dropout) - 104usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::samples"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, samples) - 128usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::squares"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, squares) - 144usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::mode"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, mode) - 152usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, reserved) - 156usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, workspace) - 160usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, workspace_bytes) - 168usize];
    ["Offset of field: pk_lora_sample_norms_descriptor::status"]
        [::core::mem::offset_of!(pk_lora_sample_norms_descriptor, status) - 176usize];
};
impl Default for pk_lora_sample_norms_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_clip_weights_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub squares: *const f32,
    pub weights: *mut f32,
    pub count: i64,
    pub max_norm: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_clip_weights_descriptor"][::core::mem::size_of::<pk_lora_clip_weights_descriptor>() - 48usize];
    ["Alignment of pk_lora_clip_weights_descriptor"]
        [::core::mem::align_of::<pk_lora_clip_weights_descriptor>() - 8usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::squares"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, squares) - 16usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::weights"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, weights) - 24usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::count"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, count) - 32usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::max_norm"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, max_norm) - 40usize];
    ["Offset of field: pk_lora_clip_weights_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_clip_weights_descriptor, reserved) - 44usize];
};
impl Default for pk_lora_clip_weights_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_add_noise_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub gradient: pk_matrix,
    pub seed: u64,
    pub offset: u64,
    pub scale: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_add_noise_descriptor"][::core::mem::size_of::<pk_lora_add_noise_descriptor>() - 96usize];
    ["Alignment of pk_lora_add_noise_descriptor"][::core::mem::align_of::<pk_lora_add_noise_descriptor>() - 8usize];
    ["Offset of field: pk_lora_add_noise_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_add_noise_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_add_noise_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_add_noise_descriptor::gradient"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, gradient) - 16usize];
    ["Offset of field: pk_lora_add_noise_descriptor::seed"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, seed) - 72usize];
    ["Offset of field: pk_lora_add_noise_descriptor::offset"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, offset) - 80usize];
    ["Offset of field: pk_lora_add_noise_descriptor::scale"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, scale) - 88usize];
    ["Offset of field: pk_lora_add_noise_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_add_noise_descriptor, reserved) - 92usize];
};
impl Default for pk_lora_add_noise_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_merge_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub source: pk_matrix,
    pub destination: pk_matrix,
    pub adapters: *const pk_lora_adapter,
    pub adapter_count: i64,
    pub adapter_element_type: i32,
    pub reserved: i32,
    pub residual: pk_matrix,
    pub middles: *const pk_lora_middle,
    pub row_scale: pk_matrix,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub status: *mut pk_status_record,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_merge_descriptor"][::core::mem::size_of::<pk_lora_merge_descriptor>() - 296usize];
    ["Alignment of pk_lora_merge_descriptor"][::core::mem::align_of::<pk_lora_merge_descriptor>() - 8usize];
    ["Offset of field: pk_lora_merge_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_merge_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_merge_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_merge_descriptor::source"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, source) - 16usize];
    ["Offset of field: pk_lora_merge_descriptor::destination"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, destination) - 72usize];
    ["Offset of field: pk_lora_merge_descriptor::adapters"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, adapters) - 128usize];
    ["Offset of field: pk_lora_merge_descriptor::adapter_count"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, adapter_count) - 136usize];
    ["Offset of field: pk_lora_merge_descriptor::adapter_element_type"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, adapter_element_type) - 144usize];
    ["Offset of field: pk_lora_merge_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, reserved) - 148usize];
    ["Offset of field: pk_lora_merge_descriptor::residual"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, residual) - 152usize];
    ["Offset of field: pk_lora_merge_descriptor::middles"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, middles) - 208usize];
    ["Offset of field: pk_lora_merge_descriptor::row_scale"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, row_scale) - 216usize];
    ["Offset of field: pk_lora_merge_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, workspace) - 272usize];
    ["Offset of field: pk_lora_merge_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, workspace_bytes) - 280usize];
    ["Offset of field: pk_lora_merge_descriptor::status"]
        [::core::mem::offset_of!(pk_lora_merge_descriptor, status) - 288usize];
};
impl Default for pk_lora_merge_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_weight_norm_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub w: pk_matrix,
    pub adapters: *const pk_lora_adapter,
    pub adapter_count: i64,
    pub adapter_element_type: i32,
    pub eps: f32,
    pub norm: *mut f32,
    pub norm_count: i64,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub status: *mut pk_status_record,
    pub magnitude: *const f32,
    pub row_scale: *mut f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_weight_norm_descriptor"][::core::mem::size_of::<pk_lora_weight_norm_descriptor>() - 152usize];
    ["Alignment of pk_lora_weight_norm_descriptor"][::core::mem::align_of::<pk_lora_weight_norm_descriptor>() - 8usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::w"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, w) - 16usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::adapters"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, adapters) - 72usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::adapter_count"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, adapter_count) - 80usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::adapter_element_type"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, adapter_element_type) - 88usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::eps"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, eps) - 92usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::norm"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, norm) - 96usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::norm_count"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, norm_count) - 104usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, workspace) - 112usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, workspace_bytes) - 120usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::status"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, status) - 128usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::magnitude"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, magnitude) - 136usize];
    ["Offset of field: pk_lora_weight_norm_descriptor::row_scale"]
        [::core::mem::offset_of!(pk_lora_weight_norm_descriptor, row_scale) - 144usize];
};
impl Default for pk_lora_weight_norm_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_magnitude_gradient_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub dy: pk_matrix,
    pub y: pk_matrix,
    pub bias: pk_matrix,
    pub magnitude: pk_matrix,
    pub dmagnitude: pk_matrix,
    pub mode: i32,
    pub reserved: i32,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub status: *mut pk_status_record,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_magnitude_gradient_descriptor"]
        [::core::mem::size_of::<pk_lora_magnitude_gradient_descriptor>() - 336usize];
    ["Alignment of pk_lora_magnitude_gradient_descriptor"]
        [::core::mem::align_of::<pk_lora_magnitude_gradient_descriptor>() - 8usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, batch_count) - 16usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::dy"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, dy) - 24usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::y"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, y) - 80usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::bias"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, bias) - 136usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::magnitude"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, magnitude) - 192usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::dmagnitude"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, dmagnitude) - 248usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::mode"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, mode) - 304usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, reserved) - 308usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, workspace) - 312usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, workspace_bytes) - 320usize];
    ["Offset of field: pk_lora_magnitude_gradient_descriptor::status"]
        [::core::mem::offset_of!(pk_lora_magnitude_gradient_descriptor, status) - 328usize];
};
impl Default for pk_lora_magnitude_gradient_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_lora_double_backward_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub base: i32,
    pub adapter_element_type: i32,
    pub x: pk_matrix,
    pub dy: pk_matrix,
    pub w: pk_matrix,
    pub a: pk_matrix,
    pub b: pk_matrix,
    pub scale: f32,
    pub cotangents: u32,
    pub ux: pk_matrix,
    pub ua: pk_matrix,
    pub ub: pk_matrix,
    pub dy_gradient: i32,
    pub x_gradient: i32,
    pub a_gradient: i32,
    pub b_gradient: i32,
    pub ddy: pk_matrix,
    pub dx: pk_matrix,
    pub da: pk_matrix,
    pub db: pk_matrix,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_double_backward_descriptor"]
        [::core::mem::size_of::<pk_lora_double_backward_descriptor>() - 744usize];
    ["Alignment of pk_lora_double_backward_descriptor"]
        [::core::mem::align_of::<pk_lora_double_backward_descriptor>() - 8usize];
    ["Offset of field: pk_lora_double_backward_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_double_backward_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_double_backward_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_double_backward_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, batch_count) - 16usize];
    ["Offset of field: pk_lora_double_backward_descriptor::base"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, base) - 24usize];
    ["Offset of field: pk_lora_double_backward_descriptor::adapter_element_type"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, adapter_element_type) - 28usize];
    ["Offset of field: pk_lora_double_backward_descriptor::x"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, x) - 32usize];
    ["Offset of field: pk_lora_double_backward_descriptor::dy"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, dy) - 88usize];
    ["Offset of field: pk_lora_double_backward_descriptor::w"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, w) - 144usize];
    ["Offset of field: pk_lora_double_backward_descriptor::a"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, a) - 200usize];
    ["Offset of field: pk_lora_double_backward_descriptor::b"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, b) - 256usize];
    ["Offset of field: pk_lora_double_backward_descriptor::scale"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, scale) - 312usize];
    ["Offset of field: pk_lora_double_backward_descriptor::cotangents"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, cotangents) - 316usize];
    ["Offset of field: pk_lora_double_backward_descriptor::ux"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, ux) - 320usize];
    ["Offset of field: pk_lora_double_backward_descriptor::ua"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, ua) - 376usize];
    ["Offset of field: pk_lora_double_backward_descriptor::ub"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, ub) - 432usize];
    ["Offset of field: pk_lora_double_backward_descriptor::dy_gradient"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, dy_gradient) - 488usize];
    ["Offset of field: pk_lora_double_backward_descriptor::x_gradient"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, x_gradient) - 492usize];
    ["Offset of field: pk_lora_double_backward_descriptor::a_gradient"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, a_gradient) - 496usize];
    ["Offset of field: pk_lora_double_backward_descriptor::b_gradient"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, b_gradient) - 500usize];
    ["Offset of field: pk_lora_double_backward_descriptor::ddy"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, ddy) - 504usize];
    ["Offset of field: pk_lora_double_backward_descriptor::dx"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, dx) - 560usize];
    ["Offset of field: pk_lora_double_backward_descriptor::da"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, da) - 616usize];
    ["Offset of field: pk_lora_double_backward_descriptor::db"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, db) - 672usize];
    ["Offset of field: pk_lora_double_backward_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, workspace) - 728usize];
    ["Offset of field: pk_lora_double_backward_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_double_backward_descriptor, workspace_bytes) - 736usize];
};
impl Default for pk_lora_double_backward_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_lora_quantize_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub matrix: pk_matrix,
    pub codes: *mut u8,
    pub code_bytes: i64,
    pub absmax: *mut f32,
    pub absmax_count: i64,
    pub absmax_codes: *mut u8,
    pub absmax_code_count: i64,
    pub absmax_offset: *mut f32,
    pub book: pk_lora_code_book,
    pub absmax_book: pk_lora_code_book,
    pub block: i32,
    pub absmax_block: i32,
    pub short_block: i32,
    pub reserved: i32,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_lora_quantize_descriptor"][::core::mem::size_of::<pk_lora_quantize_descriptor>() - 224usize];
    ["Alignment of pk_lora_quantize_descriptor"][::core::mem::align_of::<pk_lora_quantize_descriptor>() - 8usize];
    ["Offset of field: pk_lora_quantize_descriptor::size"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, size) - 0usize];
    ["Offset of field: pk_lora_quantize_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_lora_quantize_descriptor::flags"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, flags) - 12usize];
    ["Offset of field: pk_lora_quantize_descriptor::matrix"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, matrix) - 16usize];
    ["Offset of field: pk_lora_quantize_descriptor::codes"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, codes) - 72usize];
    ["Offset of field: pk_lora_quantize_descriptor::code_bytes"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, code_bytes) - 80usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax) - 88usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax_count"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax_count) - 96usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax_codes"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax_codes) - 104usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax_code_count"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax_code_count) - 112usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax_offset"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax_offset) - 120usize];
    ["Offset of field: pk_lora_quantize_descriptor::book"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, book) - 128usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax_book"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax_book) - 160usize];
    ["Offset of field: pk_lora_quantize_descriptor::block"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, block) - 192usize];
    ["Offset of field: pk_lora_quantize_descriptor::absmax_block"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, absmax_block) - 196usize];
    ["Offset of field: pk_lora_quantize_descriptor::short_block"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, short_block) - 200usize];
    ["Offset of field: pk_lora_quantize_descriptor::reserved"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, reserved) - 204usize];
    ["Offset of field: pk_lora_quantize_descriptor::workspace"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, workspace) - 208usize];
    ["Offset of field: pk_lora_quantize_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_lora_quantize_descriptor, workspace_bytes) - 216usize];
};
impl Default for pk_lora_quantize_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_haar_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub source: pk_matrix,
    pub destination: pk_matrix,
    pub axes: i32,
    pub levels: i32,
    pub boundary: i32,
    pub layout: i32,
    pub scaling: i32,
    pub adjoint: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_haar_descriptor"][::core::mem::size_of::<pk_haar_descriptor>() - 160usize];
    ["Alignment of pk_haar_descriptor"][::core::mem::align_of::<pk_haar_descriptor>() - 8usize];
    ["Offset of field: pk_haar_descriptor::size"][::core::mem::offset_of!(pk_haar_descriptor, size) - 0usize];
    ["Offset of field: pk_haar_descriptor::algorithm"][::core::mem::offset_of!(pk_haar_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_haar_descriptor::flags"][::core::mem::offset_of!(pk_haar_descriptor, flags) - 12usize];
    ["Offset of field: pk_haar_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_haar_descriptor, batch_count) - 16usize];
    ["Offset of field: pk_haar_descriptor::source"][::core::mem::offset_of!(pk_haar_descriptor, source) - 24usize];
    ["Offset of field: pk_haar_descriptor::destination"]
        [::core::mem::offset_of!(pk_haar_descriptor, destination) - 80usize];
    ["Offset of field: pk_haar_descriptor::axes"][::core::mem::offset_of!(pk_haar_descriptor, axes) - 136usize];
    ["Offset of field: pk_haar_descriptor::levels"][::core::mem::offset_of!(pk_haar_descriptor, levels) - 140usize];
    ["Offset of field: pk_haar_descriptor::boundary"][::core::mem::offset_of!(pk_haar_descriptor, boundary) - 144usize];
    ["Offset of field: pk_haar_descriptor::layout"][::core::mem::offset_of!(pk_haar_descriptor, layout) - 148usize];
    ["Offset of field: pk_haar_descriptor::scaling"][::core::mem::offset_of!(pk_haar_descriptor, scaling) - 152usize];
    ["Offset of field: pk_haar_descriptor::adjoint"][::core::mem::offset_of!(pk_haar_descriptor, adjoint) - 156usize];
};
impl Default for pk_haar_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct pk_haar_hadamard_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub batch_count: i64,
    pub source: pk_matrix,
    pub destination: pk_matrix,
    pub before: pk_matrix,
    pub after: pk_matrix,
    pub normalized: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_haar_hadamard_descriptor"][::core::mem::size_of::<pk_haar_hadamard_descriptor>() - 256usize];
    ["Alignment of pk_haar_hadamard_descriptor"][::core::mem::align_of::<pk_haar_hadamard_descriptor>() - 8usize];
    ["Offset of field: pk_haar_hadamard_descriptor::size"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, size) - 0usize];
    ["Offset of field: pk_haar_hadamard_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_haar_hadamard_descriptor::flags"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, flags) - 12usize];
    ["Offset of field: pk_haar_hadamard_descriptor::batch_count"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, batch_count) - 16usize];
    ["Offset of field: pk_haar_hadamard_descriptor::source"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, source) - 24usize];
    ["Offset of field: pk_haar_hadamard_descriptor::destination"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, destination) - 80usize];
    ["Offset of field: pk_haar_hadamard_descriptor::before"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, before) - 136usize];
    ["Offset of field: pk_haar_hadamard_descriptor::after"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, after) - 192usize];
    ["Offset of field: pk_haar_hadamard_descriptor::normalized"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, normalized) - 248usize];
    ["Offset of field: pk_haar_hadamard_descriptor::reserved"]
        [::core::mem::offset_of!(pk_haar_hadamard_descriptor, reserved) - 252usize];
};
impl Default for pk_haar_hadamard_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_haar_wara_adapter {
    pub a: *const pk_matrix,
    pub b: *const pk_matrix,
    pub gains: *const f32,
    pub factor_count: i64,
    pub mode: i32,
    pub levels: i32,
    pub boundary: i32,
    pub scale: f32,
    pub grid_rows: i64,
    pub grid_columns: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_haar_wara_adapter"][::core::mem::size_of::<pk_haar_wara_adapter>() - 64usize];
    ["Alignment of pk_haar_wara_adapter"][::core::mem::align_of::<pk_haar_wara_adapter>() - 8usize];
    ["Offset of field: pk_haar_wara_adapter::a"][::core::mem::offset_of!(pk_haar_wara_adapter, a) - 0usize];
    ["Offset of field: pk_haar_wara_adapter::b"][::core::mem::offset_of!(pk_haar_wara_adapter, b) - 8usize];
    ["Offset of field: pk_haar_wara_adapter::gains"][::core::mem::offset_of!(pk_haar_wara_adapter, gains) - 16usize];
    ["Offset of field: pk_haar_wara_adapter::factor_count"]
        [::core::mem::offset_of!(pk_haar_wara_adapter, factor_count) - 24usize];
    ["Offset of field: pk_haar_wara_adapter::mode"][::core::mem::offset_of!(pk_haar_wara_adapter, mode) - 32usize];
    ["Offset of field: pk_haar_wara_adapter::levels"][::core::mem::offset_of!(pk_haar_wara_adapter, levels) - 36usize];
    ["Offset of field: pk_haar_wara_adapter::boundary"]
        [::core::mem::offset_of!(pk_haar_wara_adapter, boundary) - 40usize];
    ["Offset of field: pk_haar_wara_adapter::scale"][::core::mem::offset_of!(pk_haar_wara_adapter, scale) - 44usize];
    ["Offset of field: pk_haar_wara_adapter::grid_rows"]
        [::core::mem::offset_of!(pk_haar_wara_adapter, grid_rows) - 48usize];
    ["Offset of field: pk_haar_wara_adapter::grid_columns"]
        [::core::mem::offset_of!(pk_haar_wara_adapter, grid_columns) - 56usize];
};
impl Default for pk_haar_wara_adapter {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_haar_wara_forward_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub adapter: pk_haar_wara_adapter,
    pub base: i32,
    pub reserved: i32,
    pub x: pk_matrix,
    pub w: pk_matrix,
    pub y: pk_matrix,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_haar_wara_forward_descriptor"][::core::mem::size_of::<pk_haar_wara_forward_descriptor>() - 272usize];
    ["Alignment of pk_haar_wara_forward_descriptor"]
        [::core::mem::align_of::<pk_haar_wara_forward_descriptor>() - 8usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::size"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, size) - 0usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::flags"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, flags) - 12usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::adapter"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, adapter) - 16usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::base"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, base) - 80usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::reserved"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, reserved) - 84usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::x"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, x) - 88usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::w"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, w) - 144usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::y"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, y) - 200usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::workspace"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, workspace) - 256usize];
    ["Offset of field: pk_haar_wara_forward_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_haar_wara_forward_descriptor, workspace_bytes) - 264usize];
};
impl Default for pk_haar_wara_forward_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_haar_wara_backward_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub adapter: pk_haar_wara_adapter,
    pub x: pk_matrix,
    pub dy: pk_matrix,
    pub w: pk_matrix,
    pub dx: pk_matrix,
    pub da: *const pk_matrix,
    pub db: *const pk_matrix,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_haar_wara_backward_descriptor"][::core::mem::size_of::<pk_haar_wara_backward_descriptor>() - 336usize];
    ["Alignment of pk_haar_wara_backward_descriptor"]
        [::core::mem::align_of::<pk_haar_wara_backward_descriptor>() - 8usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::size"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, size) - 0usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::flags"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, flags) - 12usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::adapter"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, adapter) - 16usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::x"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, x) - 80usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::dy"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, dy) - 136usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::w"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, w) - 192usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::dx"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, dx) - 248usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::da"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, da) - 304usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::db"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, db) - 312usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::workspace"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, workspace) - 320usize];
    ["Offset of field: pk_haar_wara_backward_descriptor::workspace_bytes"]
        [::core::mem::offset_of!(pk_haar_wara_backward_descriptor, workspace_bytes) - 328usize];
};
impl Default for pk_haar_wara_backward_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone, PartialEq)]
pub struct pk_haar_wara_merge_descriptor {
    pub size: u64,
    pub algorithm: i32,
    pub flags: u32,
    pub adapter: pk_haar_wara_adapter,
    pub source: pk_matrix,
    pub destination: pk_matrix,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of pk_haar_wara_merge_descriptor"][::core::mem::size_of::<pk_haar_wara_merge_descriptor>() - 192usize];
    ["Alignment of pk_haar_wara_merge_descriptor"][::core::mem::align_of::<pk_haar_wara_merge_descriptor>() - 8usize];
    ["Offset of field: pk_haar_wara_merge_descriptor::size"]
        [::core::mem::offset_of!(pk_haar_wara_merge_descriptor, size) - 0usize];
    ["Offset of field: pk_haar_wara_merge_descriptor::algorithm"]
        [::core::mem::offset_of!(pk_haar_wara_merge_descriptor, algorithm) - 8usize];
    ["Offset of field: pk_haar_wara_merge_descriptor::flags"]
        [::core::mem::offset_of!(pk_haar_wara_merge_descriptor, flags) - 12usize];
    ["Offset of field: pk_haar_wara_merge_descriptor::adapter"]
        [::core::mem::offset_of!(pk_haar_wara_merge_descriptor, adapter) - 16usize];
    ["Offset of field: pk_haar_wara_merge_descriptor::source"]
        [::core::mem::offset_of!(pk_haar_wara_merge_descriptor, source) - 80usize];
    ["Offset of field: pk_haar_wara_merge_descriptor::destination"]
        [::core::mem::offset_of!(pk_haar_wara_merge_descriptor, destination) - 136usize];
};
impl Default for pk_haar_wara_merge_descriptor {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
unsafe extern "C" {
    pub fn pk_lora_forward(queue: *const pk_queue, descriptor: *const pk_lora_forward_descriptor) -> i32;
    pub fn pk_lora_forward_workspace(descriptor: *const pk_lora_forward_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_lora_forward_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_forward_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_backward(queue: *const pk_queue, descriptor: *const pk_lora_backward_descriptor) -> i32;
    pub fn pk_lora_backward_workspace(descriptor: *const pk_lora_backward_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_lora_backward_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_backward_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_sample_norms(queue: *const pk_queue, descriptor: *const pk_lora_sample_norms_descriptor) -> i32;
    pub fn pk_lora_sample_norms_workspace(descriptor: *const pk_lora_sample_norms_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_lora_sample_norms_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_sample_norms_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_clip_weights(queue: *const pk_queue, descriptor: *const pk_lora_clip_weights_descriptor) -> i32;
    pub fn pk_lora_clip_weights_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_clip_weights_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_add_noise(queue: *const pk_queue, descriptor: *const pk_lora_add_noise_descriptor) -> i32;
    pub fn pk_lora_add_noise_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_add_noise_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_merge(queue: *const pk_queue, descriptor: *const pk_lora_merge_descriptor) -> i32;
    pub fn pk_lora_unmerge(queue: *const pk_queue, descriptor: *const pk_lora_merge_descriptor) -> i32;
    pub fn pk_lora_merge_workspace(descriptor: *const pk_lora_merge_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_lora_merge_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_merge_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_weight_norm(queue: *const pk_queue, descriptor: *const pk_lora_weight_norm_descriptor) -> i32;
    pub fn pk_lora_weight_norm_workspace(descriptor: *const pk_lora_weight_norm_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_lora_weight_norm_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_weight_norm_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_magnitude_gradient(
        queue: *const pk_queue,
        descriptor: *const pk_lora_magnitude_gradient_descriptor,
    ) -> i32;
    pub fn pk_lora_magnitude_gradient_workspace(
        descriptor: *const pk_lora_magnitude_gradient_descriptor,
        bytes: *mut u64,
    ) -> i32;
    pub fn pk_lora_magnitude_gradient_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_magnitude_gradient_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_double_backward(
        queue: *const pk_queue,
        descriptor: *const pk_lora_double_backward_descriptor,
    ) -> i32;
    pub fn pk_lora_double_backward_workspace(
        descriptor: *const pk_lora_double_backward_descriptor,
        bytes: *mut u64,
    ) -> i32;
    pub fn pk_lora_double_backward_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_double_backward_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_lora_quantize(queue: *const pk_queue, descriptor: *const pk_lora_quantize_descriptor) -> i32;
    pub fn pk_lora_dequantize(queue: *const pk_queue, descriptor: *const pk_lora_quantize_descriptor) -> i32;
    pub fn pk_lora_quantize_workspace(descriptor: *const pk_lora_quantize_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_lora_quantize_pick(
        chip: *const pk_chip,
        descriptor: *const pk_lora_quantize_descriptor,
        dequantize: i32,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_haar_forward(queue: *const pk_queue, descriptor: *const pk_haar_descriptor) -> i32;
    pub fn pk_haar_inverse(queue: *const pk_queue, descriptor: *const pk_haar_descriptor) -> i32;
    pub fn pk_haar_pick(
        chip: *const pk_chip,
        descriptor: *const pk_haar_descriptor,
        inverse: i32,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_haar_hadamard(queue: *const pk_queue, descriptor: *const pk_haar_hadamard_descriptor) -> i32;
    pub fn pk_haar_hadamard_pick(
        chip: *const pk_chip,
        descriptor: *const pk_haar_hadamard_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_haar_wara_forward(queue: *const pk_queue, descriptor: *const pk_haar_wara_forward_descriptor) -> i32;
    pub fn pk_haar_wara_forward_workspace(descriptor: *const pk_haar_wara_forward_descriptor, bytes: *mut u64) -> i32;
    pub fn pk_haar_wara_forward_pick(
        chip: *const pk_chip,
        descriptor: *const pk_haar_wara_forward_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_haar_wara_backward(queue: *const pk_queue, descriptor: *const pk_haar_wara_backward_descriptor) -> i32;
    pub fn pk_haar_wara_backward_workspace(descriptor: *const pk_haar_wara_backward_descriptor, bytes: *mut u64)
    -> i32;
    pub fn pk_haar_wara_backward_pick(
        chip: *const pk_chip,
        descriptor: *const pk_haar_wara_backward_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_haar_wara_merge(queue: *const pk_queue, descriptor: *const pk_haar_wara_merge_descriptor) -> i32;
    pub fn pk_haar_wara_unmerge(queue: *const pk_queue, descriptor: *const pk_haar_wara_merge_descriptor) -> i32;
    pub fn pk_haar_wara_merge_pick(
        chip: *const pk_chip,
        descriptor: *const pk_haar_wara_merge_descriptor,
        choice: *mut pk_kernel_choice,
    ) -> i32;
    pub fn pk_abi_version() -> i32;
    pub fn pk_has_queue(kind: i32) -> i32;
    pub fn pk_device_count(count: *mut i32) -> i32;
    pub fn pk_queue_chip(queue: *const pk_queue, chip: *mut pk_chip) -> i32;
    pub fn pk_prepare(queue: *const pk_queue) -> i32;
    pub fn pk_status_read(queue: *const pk_queue, status: *const pk_status_record, host: *mut pk_status_record) -> i32;
    pub fn pk_last_error(buffer: *mut ::core::ffi::c_char, size: u64) -> u64;
}
