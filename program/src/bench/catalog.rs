//! What is measured, and against what: `benches/shapes.json` and `benches/devices.json`, which the comparison with peers reads too.

use std::collections::BTreeMap;

use peft_kernels::ElementType;
use serde::Deserialize;

use super::results::Floor;

const SHAPES: &str = include_str!("../../../benches/shapes.json");
const DEVICES: &str = include_str!("../../../benches/devices.json");

/// Where a shape can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// Anywhere, the emulator included.
    Small,
    /// Layers of real models.
    Large,
}

/// One entry of the list of shapes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub name: String,
    pub operation: String,
    pub set: Set,
    types: Vec<String>,
    /// What the family makes of it.
    pub extents: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shapes {
    version: u32,
    families: BTreeMap<String, Vec<Shape>>,
}

/// A shape in one combination of element types: of x or the weights, and of the adapters.
#[derive(Clone, Debug)]
pub struct Entry {
    pub shape: Shape,
    pub types: [ElementType; 2],
}

impl Entry {
    /// `bf16`, or `bf16+f32`.
    pub fn type_names(&self) -> String {
        let [x, adapters] = self.types;
        if x == adapters { x.to_string() } else { format!("{x}+{adapters}") }
    }
}

/// The shapes of a family, the most important first: every shape in its first types, then in its second ones.
pub fn shapes(family: &str) -> Result<Vec<Entry>, String> {
    let list: Shapes = serde_json::from_str(SHAPES).map_err(|error| format!("benches/shapes.json: {error}"))?;
    if list.version != 1 {
        return Err(format!("benches/shapes.json: version {}, expected 1", list.version));
    }
    let shapes = list.families.get(family).ok_or(format!("benches/shapes.json: no family {family}"))?;
    let mut entries = Vec::new();
    for round in 0..shapes.iter().map(|shape| shape.types.len()).max().unwrap_or(0) {
        for shape in shapes {
            if let Some(names) = shape.types.get(round) {
                let types = types(names).ok_or(format!("benches/shapes.json: {names} in {}", shape.name))?;
                entries.push(Entry { shape: shape.clone(), types });
            }
        }
    }
    Ok(entries)
}

fn types(names: &str) -> Option<[ElementType; 2]> {
    let element_type = |name| match name {
        "f32" => Some(ElementType::F32),
        "f16" => Some(ElementType::F16),
        "bf16" => Some(ElementType::BF16),
        _ => None,
    };
    let (x, adapters) = names.split_once('+').unwrap_or((names, names));
    Some([element_type(x)?, element_type(adapters)?])
}

/// Peak figures of a device: bytes a second, and dense operations a second with sums in f32.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peaks {
    pub label: String,
    names: Vec<String>,
    pub bandwidth: f64,
    pub rates: Rates,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    pub bf16: f64,
    pub f16: f64,
    pub tf32: f64,
    pub f32: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Devices {
    version: u32,
    #[allow(dead_code)]
    about: String,
    devices: Vec<Peaks>,
}

fn devices() -> Result<Vec<Peaks>, String> {
    let list: Devices = serde_json::from_str(DEVICES).map_err(|error| format!("benches/devices.json: {error}"))?;
    if list.version != 1 {
        return Err(format!("benches/devices.json: version {}, expected 1", list.version));
    }
    Ok(list.devices)
}

/// The device that the driver calls so, if the list has it.
pub fn peaks(name: &str) -> Result<Option<Peaks>, String> {
    Ok(devices()?.into_iter().find(|device| device.names.iter().any(|known| known == name)))
}

/// The device of that label.
pub fn peaks_of_label(label: &str) -> Result<Option<Peaks>, String> {
    Ok(devices()?.into_iter().find(|device| device.label == label))
}

impl Peaks {
    /// Operations a second on elements of a type, and the unit that does them. f32 is exact: on its own units, or as three products of tf32.
    pub fn rate(&self, element_type: ElementType) -> (f64, &'static str) {
        match element_type {
            ElementType::BF16 => (self.rates.bf16, "bf16"),
            ElementType::F16 => (self.rates.f16, "f16"),
            _ if self.rates.tf32 / 3.0 > self.rates.f32 => (self.rates.tf32 / 3.0, "tf32/3"),
            _ => (self.rates.f32, "f32"),
        }
    }

    /// The least time for so many bytes and operations.
    pub fn floor(&self, bytes: u64, flops: u64, element_type: ElementType) -> Floor {
        let (rate, unit) = self.rate(element_type);
        let (moving, computing) = (bytes as f64 / self.bandwidth * 1e9, flops as f64 / rate * 1e9);
        let (ns, bound) = if computing > moving { (computing, unit) } else { (moving, "bandwidth") };
        Floor { ns, bound: bound.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_shapes_of_both_sets_and_names_of_its_own() {
        for family in ["lora", "haar"] {
            let entries = shapes(family).expect("the list can be read");
            for set in [Set::Small, Set::Large] {
                assert!(entries.iter().any(|entry| entry.shape.set == set), "{set:?}");
            }
            let mut names: Vec<_> = entries.iter().map(|entry| (&entry.shape.name, entry.type_names())).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        assert!(shapes("unheard of").is_err());
    }

    #[test]
    fn floors_are_the_larger_of_two_times() {
        let device = peaks("NVIDIA H100 80GB HBM3").expect("the list can be read").expect("listed");
        assert_eq!(peaks("a device of no list").expect("the list can be read").map(|device| device.label), None);
        let decode = device.floor(3_350_000_000, 1, ElementType::BF16);
        assert_eq!((decode.ns.round(), decode.bound.as_str()), (1e6, "bandwidth"));
        let prefill = device.floor(1, 989_400_000_000, ElementType::BF16);
        assert_eq!((prefill.ns.round(), prefill.bound.as_str()), (1e6, "bf16"));
        // Three products of tf32 are more than the units of f32 do.
        assert_eq!(device.floor(1, 1 << 40, ElementType::F32).bound, "tf32/3");
    }
}
