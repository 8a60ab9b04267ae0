//! The C interface: generated declarations, and the step from views and errors to descriptors and statuses.

mod bindings;

pub(crate) use bindings::*;

use crate::tensor::Elements;
use crate::{ElementType, Error, Place, Result};

impl Place {
    /// The queue as the C side names it.
    pub(crate) fn descriptor(self, operation: &'static str) -> Result<pk_queue> {
        let size = size_of::<pk_queue>() as u64;
        match self {
            Place::Emulator { compute_capability, seed } if cfg!(feature = "emulator") => {
                Ok(pk_queue { size, kind: PK_QUEUE_EMULATOR, device: compute_capability, stream: seed })
            }
            Place::Cuda { device, stream } if cfg!(feature = "cuda") => {
                Ok(pk_queue { size, kind: PK_QUEUE_CUDA, device, stream })
            }
            Place::Cuda { .. } => Err(Error::NotBuilt {
                operation,
                feature: "cuda",
                hint: "build with `--features cuda` and nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH",
            }),
            Place::Emulator { .. } | Place::Cpu => Err(Error::NotBuilt {
                operation,
                feature: "emulator",
                hint: "build with `--features emulator` and a C++17 compiler",
            }),
        }
    }
}

impl Elements<3> {
    /// The operand as the C side names it.
    pub(crate) fn matrix(&self, element_type: ElementType) -> pk_matrix {
        let [_, rows, columns] = self.extents.map(|extent| extent as i64);
        let [batch_stride, row_stride, column_stride] = self.strides.map(|stride| stride as i64);
        pk_matrix {
            data: self.address as *mut _,
            rows,
            columns,
            row_stride,
            column_stride,
            batch_stride,
            element_type: element_type as i32,
            reserved: 0,
        }
    }
}

/// Calls into the C side, or says that there is none.
macro_rules! call {
    ($operation:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: every pointer among the arguments is valid for the call; memory of the queue was acquired from its storage.
        #[cfg(any(feature = "emulator", feature = "cuda"))]
        let status = unsafe { $crate::ffi::$function($($argument),*) };
        #[cfg(not(any(feature = "emulator", feature = "cuda")))]
        let status = { let _ = (stringify!($function), $($argument),*); $crate::ffi::PK_ERROR_NOT_BUILT };
        $crate::ffi::check($operation, status)
    }};
}
pub(crate) use call;

/// The error that a status of the C side stands for.
pub(crate) fn check(operation: &'static str, status: i32) -> Result<()> {
    if status == PK_OK {
        return Ok(());
    }
    let message = without_function(last_error());
    Err(match status {
        PK_ERROR_VERSION => Error::Version { operation, message },
        PK_ERROR_NO_DEVICE => Error::NoDevice { operation, message },
        PK_ERROR_EMULATOR => Error::Emulator { operation, report: message },
        PK_ERROR_ALGORITHM => Error::Algorithm { operation, message },
        PK_ERROR_CUDA => Error::Cuda { operation, message },
        _ => Error::Refused { operation, message },
    })
}

/// The C side begins with the name of its function; here the operation stands there already.
fn without_function(message: String) -> String {
    match message.split_once(": ") {
        Some((function, rest)) if function.starts_with("pk_") => rest.into(),
        _ => message,
    }
}

#[cfg(any(feature = "emulator", feature = "cuda"))]
fn last_error() -> String {
    // SAFETY: a null buffer of no bytes asks for the length alone.
    let length = unsafe { pk_last_error(std::ptr::null_mut(), 0) };
    let mut text = vec![0u8; length as usize + 1];
    // SAFETY: the buffer has as many bytes as it says.
    unsafe { pk_last_error(text.as_mut_ptr().cast(), text.len() as u64) };
    text.pop();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(not(any(feature = "emulator", feature = "cuda")))]
fn last_error() -> String {
    "this library was built without kernels".into()
}

pub(crate) fn status_read(place: Place, address: u64) -> Result<crate::StatusRecord> {
    let operation = "Status::read";
    let queue = place.descriptor(operation)?;
    let mut record = crate::StatusRecord::default();
    call!(operation, pk_status_read(&queue, address as *const pk_status_record, &mut record.0))?;
    Ok(record)
}

/// Which kernel runs a call, as the pure function `pick` of descriptor and chip says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kernel {
    /// The kernel's name, such as `lora_forward_simt`; `reference` on the CPU queue.
    pub name: String,
    /// What to give as `algorithm` to get this kernel again.
    pub algorithm: i32,
    /// The longest chain of f32 roundings before the last one, to the output's type: the `L` of the error bound `ulp(y) + L·2⁻²³·Σ|terms|`.
    pub rounding_steps: usize,
}

impl Kernel {
    /// What runs on the CPU queue: f64 inside, rounded once.
    pub(crate) fn reference() -> Self {
        Self::reference_in_f32(0)
    }

    /// What runs on the CPU queue where sums are f32.
    pub(crate) fn reference_in_f32(rounding_steps: usize) -> Self {
        Self { name: "reference".into(), algorithm: 0, rounding_steps }
    }
}

/// Asks a `pick` function for its choice on the queue's chip.
pub(crate) fn pick(
    operation: &'static str,
    place: Place,
    pick: impl FnOnce(*const pk_chip, *mut pk_kernel_choice) -> Result<()>,
) -> Result<Kernel> {
    let queue = place.descriptor(operation)?;
    let mut chip = pk_chip { size: size_of::<pk_chip>() as u64, ..Default::default() };
    let mut choice = pk_kernel_choice::default();
    call!(operation, pk_queue_chip(&queue, &mut chip))?;
    pick(&chip, &mut choice)?;
    let name = choice.name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8 as char).collect();
    Ok(Kernel { name, algorithm: choice.algorithm, rounding_steps: choice.rounding_steps as usize })
}
