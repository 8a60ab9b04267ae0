//! What the emulator counted, beside what a kernel's banner says that it reads and writes.

use peft_kernels::counters::{Kind, Row};
use serde::Serialize;

/// Bytes of one kernel and operand, by the formula.
pub struct Formula(pub &'static str, pub Kind, pub &'static str, pub usize);

/// One line under an operation's row.
#[derive(Serialize)]
pub struct Count {
    pub kernel: String,
    pub kind: &'static str,
    pub operand: String,
    pub count: u64,
    pub bytes: u64,
    /// Of this operand, where there is a formula.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formula: Option<u64>,
    /// Sectors or wavefronts.
    pub parts: u64,
    pub least: u64,
}

/// What was counted since this was asked last; nothing where nobody counts.
pub fn take(formulas: &[Formula]) -> Vec<Count> {
    let count = |row: &Row| {
        let of_row = |formula: &&Formula| (formula.0, formula.1, formula.2) == (row.kernel(), row.kind, row.operand());
        let found: Vec<_> = formulas.iter().filter(of_row).map(|formula| formula.3 as u64).collect();
        Count {
            kernel: row.kernel().into(),
            kind: match row.kind {
                Kind::Launches => "launches",
                Kind::GlobalRead | Kind::SharedRead => "read",
                Kind::GlobalWrite | Kind::SharedWrite => "write",
                Kind::GlobalAtomic => "atomic",
                Kind::Barriers => "barriers",
                Kind::MatrixInstructions => "instructions",
            },
            operand: row.operand().into(),
            count: row.count,
            bytes: row.bytes,
            formula: (!found.is_empty()).then(|| found.iter().sum()),
            parts: row.parts,
            least: row.least,
        }
    };
    let mut counts: Vec<_> = peft_kernels::counters::take().iter().map(count).collect();
    counts.sort_by(|left, right| {
        (&left.kernel, &left.operand, left.kind).cmp(&(&right.kernel, &right.operand, right.kind))
    });
    counts
}

impl Count {
    /// As a line of the table.
    pub fn line(&self) -> String {
        let Self { kernel, kind, operand, count, bytes, parts, least, .. } = self;
        let what = format!("    {kernel:23}  {operand:17}  {kind:12}");
        if *bytes == 0 {
            return format!("{what}  {count:>14}");
        }
        let formula = self.formula.map_or_else(|| "-".into(), |formula| formula.to_string());
        let requests = if operand.starts_with("shared ") {
            format!("{} conflicts in {count} requests", parts - least)
        } else {
            let each = |sectors: &u64| *sectors as f64 / *count as f64;
            format!("{:.2} sectors a request, {:.2} at best", each(parts), each(least))
        };
        format!("{what}  {bytes:>14} bytes  formula {formula:>14}  {requests}")
    }
}
