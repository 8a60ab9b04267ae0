//! The shapes that are tested; those that are measured are in benches/shapes.json.

/// One LoRA layer: x [m, k], W [n, k], A [rank, k].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoraShape {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub rank: usize,
}

const fn lora(m: usize, n: usize, k: usize, rank: usize) -> LoraShape {
    LoraShape { m, n, k, rank }
}

/// Every rank class: none, one, below, at and beyond the buckets of the kernels, and beyond all of them.
pub const RANKS: [usize; 14] = [0, 1, 3, 4, 7, 8, 12, 16, 24, 33, 64, 128, 256, 300];

/// Summed extents: nothing, one, primes, the width of a warp and of a tile and their neighbours, and those of real layers.
pub const DEPTHS: [usize; 18] = [0, 1, 2, 3, 7, 13, 15, 16, 17, 31, 32, 33, 64, 127, 1024, 4096, 11008, 14336];

/// Depths whose products are too long for the emulator with every seed and type.
pub const LONG: usize = 1024;

/// Small shapes around every edge of a tile.
pub const SMALL: [LoraShape; 24] = [
    lora(0, 5, 7, 2),
    lora(5, 0, 7, 2),
    lora(5, 7, 0, 2),
    lora(0, 0, 0, 0),
    lora(1, 1, 1, 0),
    lora(1, 1, 1, 1),
    lora(1, 7, 13, 3),
    lora(2, 3, 5, 7),
    lora(13, 1, 17, 4),
    lora(1, 64, 64, 8),
    lora(16, 16, 16, 16),
    lora(17, 31, 33, 8),
    lora(31, 17, 29, 12),
    lora(63, 64, 65, 8),
    lora(64, 63, 16, 8),
    lora(64, 64, 64, 16),
    lora(65, 65, 17, 1),
    lora(61, 67, 71, 5),
    lora(127, 3, 11, 9),
    lora(3, 129, 11, 9),
    lora(128, 128, 32, 32),
    lora(129, 65, 33, 24),
    lora(5, 200, 96, 64),
    lora(97, 101, 103, 10),
];

/// More tiles of one column than 65535, the limit of a grid's second and third axes.
pub const MANY_TILES: LoraShape = lora(64 * 66_000, 1, 1, 0);
