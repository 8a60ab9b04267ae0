//! The little of CUDA that the checks of streams need, from the runtime that the library links.

use std::ffi::{CStr, c_void};

use peft_kernels::RawStream;

type Handle = *mut c_void;

unsafe extern "C" {
    fn cudaStreamCreateWithFlags(stream: *mut Handle, flags: u32) -> i32;
    fn cudaStreamDestroy(stream: Handle) -> i32;
    fn cudaStreamSynchronize(stream: Handle) -> i32;
    fn cudaStreamBeginCapture(stream: Handle, mode: i32) -> i32;
    fn cudaStreamEndCapture(stream: Handle, graph: *mut Handle) -> i32;
    fn cudaGraphGetNodes(graph: Handle, nodes: *mut Handle, count: *mut usize) -> i32;
    fn cudaGraphInstantiate(executable: *mut Handle, graph: Handle, flags: u64) -> i32;
    fn cudaGraphLaunch(executable: Handle, stream: Handle) -> i32;
    fn cudaGraphExecDestroy(executable: Handle) -> i32;
    fn cudaGraphDestroy(graph: Handle) -> i32;
    fn cudaGetDevice(device: *mut i32) -> i32;
    fn cudaDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32) -> i32;
    fn cudaDeviceSynchronize() -> i32;
    fn cudaSetDevice(device: i32) -> i32;
    fn cudaGetDriverEntryPointByVersion(
        symbol: *const std::ffi::c_char,
        function: *mut Handle,
        version: u32,
        flags: u64,
        found: *mut i32,
    ) -> i32;
}

fn check(what: &str, status: i32) -> Result<(), String> {
    if status == 0 { Ok(()) } else { Err(format!("{what}: error {status}")) }
}

/// A stream that waits for no other.
pub struct Stream(Handle);

// SAFETY: the runtime takes a stream from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// On the current device.
    pub fn new() -> Result<Self, String> {
        let mut stream = std::ptr::null_mut();
        // SAFETY: it writes a handle; 1 is cudaStreamNonBlocking.
        check("cudaStreamCreateWithFlags", unsafe { cudaStreamCreateWithFlags(&mut stream, 1) })?;
        Ok(Self(stream))
    }

    pub fn queue(&self, device: i32) -> RawStream {
        // SAFETY: the checks wait for their streams before they end.
        unsafe { RawStream::from_raw(device, self.0 as u64) }
    }

    pub fn wait(&self) -> Result<(), String> {
        // SAFETY: a stream that lives.
        check("cudaStreamSynchronize", unsafe { cudaStreamSynchronize(self.0) })
    }

    /// What `enqueue` enqueues, as a graph; anything of CUDA that may not happen in a capture fails in it.
    pub fn capture(&self, enqueue: impl FnOnce() -> Result<(), String>) -> Result<Graph, String> {
        // SAFETY: a stream that lives; 0 is cudaStreamCaptureModeGlobal.
        check("cudaStreamBeginCapture", unsafe { cudaStreamBeginCapture(self.0, 0) })?;
        let result = enqueue();
        let mut graph = Graph { graph: std::ptr::null_mut(), executable: std::ptr::null_mut() };
        // SAFETY: it writes a handle.
        let status = unsafe { cudaStreamEndCapture(self.0, &mut graph.graph) };
        result?;
        check("cudaStreamEndCapture", status)?;
        // SAFETY: it writes a handle.
        check("cudaGraphInstantiate", unsafe { cudaGraphInstantiate(&mut graph.executable, graph.graph, 0) })?;
        Ok(graph)
    }

    pub fn replay(&self, graph: &Graph) -> Result<(), String> {
        // SAFETY: both live.
        check("cudaGraphLaunch", unsafe { cudaGraphLaunch(graph.executable, self.0) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        unsafe { cudaStreamDestroy(self.0) };
    }
}

pub struct Graph {
    graph: Handle,
    executable: Handle,
}

impl Graph {
    pub fn nodes(&self) -> Result<usize, String> {
        let mut count = 0;
        // SAFETY: without room for nodes, it writes their number.
        check("cudaGraphGetNodes", unsafe { cudaGraphGetNodes(self.graph, std::ptr::null_mut(), &mut count) })?;
        Ok(count)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: what was made, once.
        unsafe {
            if !self.executable.is_null() {
                cudaGraphExecDestroy(self.executable);
            }
            if !self.graph.is_null() {
                cudaGraphDestroy(self.graph);
            }
        }
    }
}

pub fn synchronize() -> Result<(), String> {
    // SAFETY: no argument.
    check("cudaDeviceSynchronize", unsafe { cudaDeviceSynchronize() })
}

pub fn current_device() -> Result<i32, String> {
    let mut device = -1;
    // SAFETY: it writes a number.
    check("cudaGetDevice", unsafe { cudaGetDevice(&mut device) })?;
    Ok(device)
}

pub fn set_device(device: i32) -> Result<(), String> {
    // SAFETY: a number.
    check("cudaSetDevice", unsafe { cudaSetDevice(device) })
}

/// Compute capability, times ten.
pub fn compute_capability(device: i32) -> Result<i32, String> {
    let number = |attribute| {
        let mut value = 0;
        // SAFETY: it writes a number.
        check("cudaDeviceGetAttribute", unsafe { cudaDeviceGetAttribute(&mut value, attribute, device) })?;
        Ok::<_, String>(value)
    };
    // cudaDevAttrComputeCapabilityMajor and -Minor
    Ok(10 * number(75)? + number(76)?)
}

/// A function of the driver as it was in a version of it.
fn driver(name: &CStr, version: u32) -> Result<Handle, String> {
    let (mut function, mut found) = (std::ptr::null_mut(), -1);
    // SAFETY: a name; it writes a pointer and a number.
    let status = unsafe { cudaGetDriverEntryPointByVersion(name.as_ptr(), &mut function, version, 0, &mut found) };
    check("cudaGetDriverEntryPointByVersion", status)?;
    if found == 0 { Ok(function) } else { Err(format!("the driver has no {name:?}")) }
}

/// The address of this thread's current context; 0: none.
pub fn current_context() -> Result<usize, String> {
    let function = driver(c"cuCtxGetCurrent", 12000)?;
    // SAFETY: its type since 4.0.
    let get: extern "C" fn(*mut usize) -> i32 = unsafe { std::mem::transmute(function) };
    let mut context = 0;
    check("cuCtxGetCurrent", get(&mut context))?;
    Ok(context)
}

/// A context of the driver's own making, current until this is dropped.
pub struct OwnContext(usize);

impl OwnContext {
    pub fn new(device: i32) -> Result<Self, String> {
        let function = driver(c"cuCtxCreate", 11000)?;
        // SAFETY: its type from 3.2 to 12.
        let create: extern "C" fn(*mut usize, u32, i32) -> i32 = unsafe { std::mem::transmute(function) };
        let mut context = 0;
        check("cuCtxCreate", create(&mut context, 0, device))?;
        Ok(Self(context))
    }

    pub fn address(&self) -> usize {
        self.0
    }
}

impl Drop for OwnContext {
    fn drop(&mut self) {
        if let Ok(function) = driver(c"cuCtxDestroy", 11000) {
            // SAFETY: its type since 4.0.
            let destroy: extern "C" fn(usize) -> i32 = unsafe { std::mem::transmute(function) };
            destroy(self.0);
        }
    }
}
