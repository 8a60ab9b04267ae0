//! Reading safetensors files, whoever wrote them: nothing a file claims is believed before it is checked against the file's size.
//!
//! Not with the `safetensors` crate (0.8): it adds up a file's offsets without checking for overflow, so that a hostile file makes it panic.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use peft_kernels::ElementType;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The format's limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// The bytes of a file, in memory that is the program's or the file's own.
enum Bytes {
    Embedded(&'static [u8]),
    Mapped(memmap2::Mmap),
}

/// A file of named tensors.
pub struct Checkpoint {
    bytes: Bytes,
    tensors: BTreeMap<String, Tensor>,
}

/// A tensor that a file names; its bytes are within the file and as many as type and shape ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// As the file spells it, such as `F16`.
    pub element_type: String,
    pub shape: Vec<usize>,
    range: Range<usize>,
}

impl Tensor {
    /// The type, if it is one that layers are checked in.
    pub fn element_type(&self) -> Option<ElementType> {
        match self.element_type.as_str() {
            "F32" => Some(ElementType::F32),
            "F16" => Some(ElementType::F16),
            "BF16" => Some(ElementType::BF16),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Checkpoint {
    /// Maps a file, without copying it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let named = |reason: String| format!("{}: {reason}", path.display());
        let file = File::open(path).map_err(|error| named(format!("cannot be opened: {error}")))?;
        let kind = file.metadata().map_err(|error| named(format!("cannot be read: {error}")))?;
        if !kind.is_file() {
            return Err(named(if kind.is_dir() { "is a directory" } else { "is not a file" }.into()));
        }
        if kind.len() == 0 {
            return Err(named("is empty".into()));
        }
        // SAFETY: the map is only read. That nobody cuts the file meanwhile is asked of the user, as with every mapped file.
        let map = unsafe { memmap2::Mmap::map(&file) };
        let map = map.map_err(|error| named(format!("cannot be mapped into memory: {error}")))?;
        let tensors = parse(&map).map_err(named)?;
        Ok(Self { bytes: Bytes::Mapped(map), tensors })
    }

    /// A file that is part of the program.
    pub fn embedded(bytes: &'static [u8]) -> Result<Self, String> {
        Ok(Self { bytes: Bytes::Embedded(bytes), tensors: parse(bytes)? })
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The bytes of one of the tensors.
    pub fn bytes(&self, tensor: &Tensor) -> &[u8] {
        let bytes: &[u8] = match &self.bytes {
            Bytes::Embedded(bytes) => bytes,
            Bytes::Mapped(map) => map,
        };
        &bytes[tensor.range.clone()]
    }
}

/// The tensors of a file, each checked against the file's size.
fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("not a safetensors file: it has {} bytes, a header length takes 8", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        return Err(format!("not a safetensors file: a header of {length} bytes, the format allows {LONGEST_HEADER}"));
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(format!("truncated: the header has {length} bytes, but only {} follow", rest.len()));
    };
    let header: Header =
        serde_json::from_slice(header).map_err(|error| format!("the header is not safetensors JSON: {error}"))?;

    let mut tensors = BTreeMap::new();
    for (name, entry) in header.tensors {
        let tensor = entry.check(data.len(), bytes.len() - data.len());
        tensors.insert(name.clone(), tensor.map_err(|reason| format!("tensor `{name}`: {reason}"))?);
    }
    let mut ranges: Vec<_> = tensors.iter().filter(|(_, tensor)| !tensor.range.is_empty()).collect();
    ranges.sort_by_key(|(_, tensor)| tensor.range.start);
    for pair in ranges.windows(2) {
        let [(first, one), (second, other)] = pair else { continue };
        if other.range.start < one.range.end {
            return Err(format!("tensors `{first}` and `{second}` overlap"));
        }
    }
    Ok(tensors)
}

impl Entry {
    /// `data` bytes follow the header, which ends at `base`.
    fn check(self, data: usize, base: usize) -> Result<Tensor, String> {
        let [begin, end] = self.data_offsets;
        if begin > end {
            return Err(format!("its bytes begin at {begin} and end at {end}"));
        }
        if end > data as u64 {
            return Err(format!("its bytes are {begin}..{end}, but the file has only {data}: truncated?"));
        }
        let Some(elements) = self.shape.iter().try_fold(1u64, |product, &extent| product.checked_mul(extent)) else {
            return Err(format!("shape {:?} has more elements than 64 bits can count", self.shape));
        };
        if let Some(size) = element_size(&self.dtype) {
            let needed = elements.checked_mul(size);
            if needed != Some(end - begin) {
                let (shape, dtype, got) = (&self.shape, &self.dtype, end - begin);
                let needed = needed.map_or("more than 2^64".into(), |bytes| bytes.to_string());
                return Err(format!("shape {shape:?} of {dtype} takes {needed} bytes, but it has {got}"));
            }
        }
        let range = base + begin as usize..base + end as usize;
        let shape = self.shape.iter().map(|&extent| extent as usize).collect();
        Ok(Tensor { element_type: self.dtype, shape, range })
    }
}

/// Bytes of an element; `None` for types that are smaller than a byte or unknown, whose tensors are passed over.
fn element_size(name: &str) -> Option<u64> {
    match name {
        "F64" | "I64" | "U64" | "C64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => Some(1),
        _ => None,
    }
}
