//! Memory that ends where no other begins: reading or writing one byte beyond it ends the process.

#[cfg(unix)]
mod pages {
    /// Bytes of a page on every system that the tests run on, or a multiple of it.
    const PAGE: usize = 65536;

    pub struct Memory {
        map: *mut libc::c_void,
        map_bytes: usize,
        address: usize,
        bytes: usize,
    }

    impl Memory {
        /// `bytes` zeroes whose end is the beginning of a page that nobody may touch.
        pub fn new(bytes: usize) -> Self {
            let used = bytes.next_multiple_of(PAGE);
            let map_bytes = used + PAGE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            // SAFETY: a new private mapping; protecting its last page touches nobody else's memory.
            unsafe {
                let map = libc::mmap(std::ptr::null_mut(), map_bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
                assert_ne!(map, libc::MAP_FAILED, "{map_bytes} bytes could not be mapped");
                assert_eq!(libc::mprotect(map.byte_add(used), PAGE, libc::PROT_NONE), 0);
                Self { map, map_bytes, address: map as usize + used - bytes, bytes }
            }
        }

        pub fn address(&self) -> usize {
            self.address
        }

        pub fn len(&self) -> usize {
            self.bytes
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: the mapping that `new` made.
            unsafe { libc::munmap(self.map, self.map_bytes) };
        }
    }
}

#[cfg(not(unix))]
mod pages {
    /// Without pages to protect: what is written beyond the end is at least not ours.
    pub struct Memory {
        words: Vec<u64>,
        bytes: usize,
    }

    impl Memory {
        pub fn new(bytes: usize) -> Self {
            Self { words: vec![0; bytes.div_ceil(8) + 1], bytes }
        }

        pub fn address(&self) -> usize {
            self.words.as_ptr() as usize
        }

        pub fn len(&self) -> usize {
            self.bytes
        }
    }
}

/// Bytes that no other operand shares: guarded pages, or managed memory where this thread works on a device.
pub enum Memory {
    Guarded(pages::Memory),
    Managed { address: usize, bytes: usize },
}

// SAFETY: the memory is reached through raw pointers alone, by one test at a time.
unsafe impl Send for Memory {}
// SAFETY: shared references only read.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Self::Managed { address, .. } = self {
            crate::cuda::free(*address);
        }
    }
}

impl Memory {
    pub fn new(bytes: usize) -> Self {
        match crate::cuda::is_active() {
            true => Self::Managed { address: crate::cuda::allocate(bytes), bytes },
            false => Self::Guarded(pages::Memory::new(bytes)),
        }
    }

    pub fn address(&self) -> usize {
        match self {
            Self::Guarded(memory) => memory.address(),
            Self::Managed { address, .. } => *address,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Guarded(memory) => memory.len(),
            Self::Managed { bytes, .. } => *bytes,
        }
    }

    /// A copy of all bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        // SAFETY: the mapping's bytes, to which no operation writes while a test looks at them.
        unsafe { std::slice::from_raw_parts(self.address() as *const u8, self.len()) }.to_vec()
    }

    /// Writes all bytes.
    pub fn restore(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.len());
        // SAFETY: as above, and nobody reads them now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address() as *mut u8, bytes.len()) };
    }

    /// Whether all bytes are still these.
    pub fn equals(&self, bytes: &[u8]) -> bool {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.address() as *const u8, self.len()) == bytes }
    }
}
