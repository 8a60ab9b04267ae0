//! What the checks run on: the layers of a checkpoint, and the activations that they read.

use std::borrow::Cow;

use peft_kernels::ElementType;

use crate::checkpoint::{Checkpoint, Tensor};
use crate::values::{Random, Value, all_finite, view};

const EMBEDDED: &[u8] = include_bytes!("../data/minilm-layer0.safetensors");
const ACTIVATIONS: &str = "hidden_states";
/// Rows of activations, at most.
const ROWS: usize = 64;
/// Elements of activations, at most.
const ACTIVATION_ELEMENTS: usize = 1 << 24;

/// One linear layer: weights [n, k] and, where the file has one, a bias [n].
pub struct Layer {
    pub name: String,
    pub n: usize,
    pub k: usize,
    pub stored: ElementType,
    weights: Tensor,
    bias: Option<Tensor>,
}

/// The layers of a checkpoint.
pub struct Subjects {
    checkpoint: Checkpoint,
    pub layers: Vec<Layer>,
    /// Tensors that could be layers and cannot be checked, with the reason.
    pub left_out: Vec<String>,
    pub seed: u64,
    /// Whether each layer is checked in every element type, or only as it is stored.
    every_type: bool,
}

impl Subjects {
    /// Layer 0 of a small encoder, which is part of the program.
    pub fn embedded(seed: u64) -> Result<Self, String> {
        let checkpoint = Checkpoint::embedded(EMBEDDED)?;
        Self::new(checkpoint, seed, true).ok_or_else(|| "the embedded file has no layer".into())
    }

    /// Every matrix of a file.
    pub fn open(path: &std::path::Path, seed: u64) -> Result<Self, String> {
        let checkpoint = Checkpoint::open(path)?;
        Self::new(checkpoint, seed, false).ok_or_else(|| {
            format!("{}: no layer to check, that is no finite 2-D tensor of type F32, F16 or BF16", path.display())
        })
    }

    fn new(checkpoint: Checkpoint, seed: u64, every_type: bool) -> Option<Self> {
        let (mut layers, mut left_out) = (Vec::new(), Vec::new());
        for (name, tensor) in checkpoint.tensors() {
            let &[n, k] = tensor.shape.as_slice() else { continue };
            if name == ACTIVATIONS || n == 0 || k == 0 {
                continue;
            }
            let Some(stored) = tensor.element_type() else {
                if tensor.element_type.starts_with('F') {
                    left_out.push(format!("{name} (stored as {})", tensor.element_type));
                }
                continue;
            };
            if !all_finite(checkpoint.bytes(tensor), stored) {
                left_out.push(format!("{name} (holds values that are not finite)"));
                continue;
            }
            let bias = name.strip_suffix("weight").and_then(|stem| checkpoint.tensors().get(&format!("{stem}bias")));
            let bias = bias.filter(|bias| {
                let finite = |element_type| all_finite(checkpoint.bytes(bias), element_type);
                bias.shape == [n] && bias.element_type().is_some_and(finite)
            });
            layers.push(Layer { name: name.clone(), n, k, stored, weights: tensor.clone(), bias: bias.cloned() });
        }
        if layers.is_empty() {
            return None;
        }
        Some(Self { checkpoint, layers, left_out, seed, every_type })
    }

    /// The types of x and of the adapters that a layer is checked with.
    pub fn element_types(&self, layer: &Layer) -> Vec<[ElementType; 2]> {
        use ElementType::{BF16, F16, F32};
        let all = [[F32, F32], [F16, F16], [BF16, BF16], [F16, F32], [BF16, F32]];
        all.into_iter().filter(|types| self.every_type || types[0] == layer.stored).collect()
    }

    /// [n, k]
    pub fn weights<T: Value>(&self, layer: &Layer) -> Cow<'_, [T]> {
        view(self.checkpoint.bytes(&layer.weights), layer.stored)
    }

    /// [n]
    pub fn bias<T: Value>(&self, layer: &Layer) -> Option<Vec<T>> {
        let bias = layer.bias.as_ref()?;
        Some(view(self.checkpoint.bytes(bias), bias.element_type()?).into_owned())
    }

    /// The file's activations of k columns, if it has them.
    fn stored_activations(&self, k: usize) -> Option<(&Tensor, ElementType)> {
        let tensor = self.checkpoint.tensors().get(ACTIVATIONS)?;
        let element_type = tensor.element_type()?;
        let fits = matches!(tensor.shape[..], [rows, columns] if rows > 0 && columns == k);
        (fits && all_finite(self.checkpoint.bytes(tensor), element_type)).then_some((tensor, element_type))
    }

    /// How many rows the activations of k columns have.
    pub fn rows(&self, k: usize) -> usize {
        let limit = (ACTIVATION_ELEMENTS / k).clamp(1, ROWS);
        self.stored_activations(k).map_or(limit, |(tensor, _)| tensor.shape[0].min(limit))
    }

    /// [rows, k]: the file's activations, or random numbers where those do not fit.
    pub fn activations<T: Value>(&self, k: usize) -> Cow<'_, [T]> {
        let elements = self.rows(k) * k;
        match self.stored_activations(k) {
            Some((tensor, element_type)) => {
                view(&self.checkpoint.bytes(tensor)[..elements * element_type.size()], element_type)
            }
            None => Cow::Owned(Random::new(self.seed, "activations").uniform(elements, 1.0)),
        }
    }
}
