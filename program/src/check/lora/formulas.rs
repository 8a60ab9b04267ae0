//! What each kernel reads and writes, by the formula above it.

use peft_kernels::counters::Kind;

use crate::check::counters::Formula;

/// Of the chip that the emulator imitates: where a call has fewer blocks, they share tiles.
const MULTIPROCESSORS: usize = 132;

/// One of a call's layers; extents and ranks in elements.
pub struct Target {
    pub n: usize,
    pub dense: bool,
    pub bias: bool,
    pub rank: usize,
}

/// A forward call, of which every row has the same adapter, or `by_row` one of its own: then nothing is said of adapters.
pub struct Forward {
    pub m: usize,
    pub k: usize,
    pub targets: Vec<Target>,
    pub by_row: bool,
    /// Bytes of an element of x, and of a factor.
    pub t: usize,
    pub p: usize,
}

/// A tile of y, the bytes of x's row that a stage holds, and how many blocks fit a multiprocessor.
struct Tile {
    rows: usize,
    columns: usize,
    stage_bytes: usize,
    blocks_together: usize,
}

/// Parts of a sum of so many stages, where there are fewer blocks than wanted.
fn parts(blocks: usize, wanted: usize, stages: usize) -> usize {
    (wanted / blocks.max(1)).clamp(1, (stages / 4).clamp(1, 16))
}

impl Forward {
    /// Of the kernel, by its name, and of the one that makes x·Aᵀ for it.
    pub fn formulas(&self, kernel: &str) -> Vec<Formula> {
        let tile = |rows, columns, stage_bytes, blocks_together| Tile { rows, columns, stage_bytes, blocks_together };
        let wide = if self.t == 4 { 128 } else { 256 };
        match kernel {
            "lora_forward_simt" => self.simt(),
            "lora_forward_mma_large" => self.mma("lora_forward_mma_large", &tile(128, wide, 64, 1)),
            "lora_forward_mma_small" => self.mma("lora_forward_mma_small", &tile(64, 64, 64, 2)),
            "lora_forward_mma_decode" => self.mma("lora_forward_mma_decode", &tile(16, 32, 512, 1)),
            _ => Vec::new(),
        }
    }

    /// Everything but adapters, for tiles of a size.
    fn base(&self, kernel: &'static str, rows: usize, columns: usize) -> Vec<Formula> {
        let Self { m, k, t, .. } = *self;
        let mut formulas = Vec::new();
        for &Target { n, dense, bias, .. } in &self.targets {
            formulas.push(Formula(kernel, Kind::GlobalWrite, "y", m * n * t));
            if bias {
                formulas.push(Formula(kernel, Kind::GlobalRead, "bias", m * n * t));
            }
            if dense {
                formulas.push(Formula(kernel, Kind::GlobalRead, "x", n.div_ceil(columns) * m * k * t));
                formulas.push(Formula(kernel, Kind::GlobalRead, "w", m.div_ceil(rows) * n * k * t));
            } else {
                formulas.push(Formula(kernel, Kind::GlobalRead, "y", m * n * t));
            }
        }
        formulas
    }

    fn simt(&self) -> Vec<Formula> {
        const FORWARD: &str = "lora_forward_simt";
        const SHRINK: &str = "lora_shrink_simt";
        let Self { m, k, t, p, .. } = *self;
        let mut formulas = self.base(FORWARD, 64, 64);
        for &Target { n, rank, .. } in self.targets.iter().filter(|_| !self.by_row) {
            formulas.push(Formula(FORWARD, Kind::GlobalRead, "workspace", 16 * n.div_ceil(64) * m * rank * 4));
            formulas.push(Formula(FORWARD, Kind::GlobalRead, "b", m * n * rank * p));
            formulas.push(Formula(SHRINK, Kind::GlobalRead, "x", rank.div_ceil(8) * m * k * t));
            formulas.push(Formula(SHRINK, Kind::GlobalRead, "a", m * k * rank * p));
            formulas.push(Formula(SHRINK, Kind::GlobalWrite, "workspace", m * rank * 4));
        }
        formulas
    }

    fn mma(&self, kernel: &'static str, tile: &Tile) -> Vec<Formula> {
        const SHRINK: &str = "lora_shrink_mma";
        let Self { m, k, t, p, .. } = *self;
        let row_tiles = m.div_ceil(tile.rows);
        let mut formulas = self.base(kernel, tile.rows, tile.columns);
        if self.by_row {
            return formulas;
        }
        // Blocks that share a tile of y leave their sums, and count themselves.
        let tiles: usize = self.targets.iter().map(|target| row_tiles * target.n.div_ceil(tile.columns)).sum();
        let splits = if self.targets.iter().any(|target| target.dense) {
            parts(tiles, tile.blocks_together * MULTIPROCESSORS, (k * t).div_ceil(tile.stage_bytes))
        } else {
            1
        };
        if splits > 1 {
            let sums = splits * tiles * tile.rows * tile.columns * 4;
            formulas.push(Formula(kernel, Kind::GlobalRead, "workspace", sums));
            formulas.push(Formula(kernel, Kind::GlobalWrite, "workspace", sums));
            formulas.push(Formula(kernel, Kind::GlobalAtomic, "workspace", splits * tiles * 4));
            formulas.push(Formula(SHRINK, Kind::GlobalWrite, "workspace", tiles * 4));
        }
        // Tiles of x·Aᵀ are as wide for all targets, and so are its parts.
        let widest = self.targets.iter().map(|target| target.rank).max().unwrap_or(0);
        let rank_tiles = widest.div_ceil(if widest <= 16 { 16 } else { 64 });
        let h_tiles = self.targets.len() * m.div_ceil(64) * rank_tiles;
        let planes = parts(h_tiles, 2 * MULTIPROCESSORS, (k * p).div_ceil(128));
        for &Target { n, rank, .. } in &self.targets {
            let columns = n.div_ceil(tile.columns);
            formulas.push(Formula(kernel, Kind::GlobalRead, "workspace", planes * m * rank * columns * 4));
            formulas.push(Formula(kernel, Kind::GlobalRead, "b", n * rank * row_tiles * p));
            formulas.push(Formula(SHRINK, Kind::GlobalRead, "x", m * k * rank_tiles * t));
            formulas.push(Formula(SHRINK, Kind::GlobalRead, "a", rank * k * m.div_ceil(64) * p));
            formulas.push(Formula(SHRINK, Kind::GlobalWrite, "workspace", planes * m * rank * 4));
        }
        formulas
    }
}

/// The name of a kernel that makes gradients of the size of x, and rows and columns of its tiles.
fn input_gradient(kernel: &str, t: usize) -> Option<(&'static str, usize, usize)> {
    match kernel {
        "lora_input_gradient_simt" => Some(("lora_input_gradient_simt", 64, 64)),
        "lora_input_gradient_mma_large" => Some(("lora_input_gradient_mma_large", 128, if t == 4 { 128 } else { 256 })),
        "lora_input_gradient_mma_small" => Some(("lora_input_gradient_mma_small", 64, 64)),
        _ => None,
    }
}

/// Of a backward's [m, n, k] product: of the factors, the passes over dY.
pub fn backward(kernel: &str, [m, n, k]: [usize; 3], t: usize) -> Vec<Formula> {
    let Some((kernel, rows, columns)) = input_gradient(kernel, t) else { return Vec::new() };
    let mut formulas = vec![
        Formula(kernel, Kind::GlobalRead, "dy", m * n * k.div_ceil(columns) * t),
        Formula(kernel, Kind::GlobalRead, "w", n * k * m.div_ceil(rows) * t),
        Formula(kernel, Kind::GlobalWrite, "dx", m * k * t),
    ];
    if kernel != "lora_input_gradient_simt" {
        formulas.push(Formula("lora_outer_mma", Kind::GlobalRead, "dy", m * n * t));
        formulas.push(Formula("lora_outer_mma", Kind::GlobalRead, "x", m * k * t));
    }
    formulas
}

/// Of the product with W of a backward's backward, of the gradients of dY and x, and of the factors' passes.
pub fn double_backward(kernel: &str, [m, n, k]: [usize; 3], t: usize) -> Vec<Formula> {
    let Some((kernel, rows, columns)) = input_gradient(kernel, t) else { return Vec::new() };
    let mut formulas = vec![
        Formula(kernel, Kind::GlobalRead, "ux", m * k * n.div_ceil(columns) * t),
        Formula(kernel, Kind::GlobalRead, "w", n * k * m.div_ceil(rows) * t),
        Formula(kernel, Kind::GlobalWrite, "ddy", m * n * t),
        Formula(kernel, Kind::GlobalWrite, "dx", m * k * t),
    ];
    if kernel != "lora_input_gradient_simt" {
        formulas.push(Formula("lora_outer_mma", Kind::GlobalRead, "dy", m * n * t));
        formulas.push(Formula("lora_outer_mma", Kind::GlobalRead, "x", m * k * t));
        formulas.push(Formula("lora_outer_mma", Kind::GlobalRead, "ux", m * k * t));
    }
    formulas
}

/// Of a merge into W [n, k] by the kernel of this name; the residual is written or read.
pub fn merge(
    kernel: &str,
    [n, k]: [usize; 2],
    ranks: usize,
    residual: Option<Kind>,
    [t, p]: [usize; 2],
) -> Vec<Formula> {
    const SIMT: &str = "lora_merge_simt";
    const MMA: &str = "lora_merge_mma";
    let (kernel, a, b) = match kernel {
        SIMT => (SIMT, n * k, n * k),
        MMA => (MMA, n.div_ceil(64) * k, k.div_ceil(128) * n),
        _ => return Vec::new(),
    };
    let mut formulas = vec![
        Formula(kernel, Kind::GlobalRead, "source", n * k * t),
        Formula(kernel, Kind::GlobalWrite, "destination", n * k * t),
        Formula(kernel, Kind::GlobalRead, "a", a * ranks * p),
        Formula(kernel, Kind::GlobalRead, "b", b * ranks * p),
    ];
    formulas.extend(residual.map(|kind| Formula(kernel, kind, "residual", n * k * 2)));
    formulas
}
