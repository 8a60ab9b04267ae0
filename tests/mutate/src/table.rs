//! The committed table of a family: what was taken away of each source, and which test noticed.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::{Sources, mutants};

/// The outcome of a mutant that no test noticed.
pub const SURVIVED: &str = "survived";

/// Stands for the fingerprint of a source of whose mutants some have no row: no code is described by it.
const INCOMPLETE: &str = "0000000000000000";

/// A mutant: where it is, what is replaced by what, and what became of it, if that is known.
#[derive(Clone)]
pub struct Row {
    pub place: String,
    pub description: String,
    pub outcome: Option<String>,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let (place, rest) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        let (description, outcome) = rest.rsplit_once(" | ")?;
        Some(Self { place: place.into(), description: description.into(), outcome: Some(outcome.into()) })
    }

    fn text(&self) -> String {
        format!("| {} | {} | {} |\n", self.place, self.description, self.outcome.as_deref().unwrap_or_default())
    }

    /// The test that noticed.
    fn test(&self) -> Option<&str> {
        self.outcome.as_ref()?.strip_suffix(" fails")
    }
}

/// The rows of each source, and of which code they are.
#[derive(Default)]
pub struct Table {
    files: BTreeMap<PathBuf, (String, Vec<Row>)>,
}

/// Of the code alone, without comments and spaces: FNV-1a, which no version of a library changes.
fn fingerprint(source: &str) -> String {
    let hash = mutants::code(source)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

impl Table {
    pub fn read(text: &str) -> Result<Self, Box<dyn Error>> {
        let heading = Regex::new(r"^## (\S+) ([0-9a-f]{16})$")?;
        let mut table = Self::default();
        let mut rows = None;
        for line in text.lines() {
            if let Some(found) = heading.captures(line) {
                let file = table.files.entry(PathBuf::from(&found[1])).or_default();
                file.0 = found[2].into();
                rows = Some(&mut file.1);
            } else if let Some(rows) = rows.as_mut().filter(|_| !line.starts_with("| source")) {
                rows.extend(Row::read(line));
            }
        }
        Ok(table)
    }

    /// The rows of files that there still are.
    pub fn of(mut self, sources: &Sources) -> Self {
        self.files.retain(|path, _| sources.contains_key(path));
        self
    }

    pub fn describes(&self, path: &Path, source: &str) -> bool {
        self.files.get(path).is_some_and(|(of, _)| *of == fingerprint(source))
    }

    /// The mutants of a source, all of them and in order. Those without an outcome keep the one of the same code before, or get no row.
    pub fn set(&mut self, path: &Path, source: &str, mut rows: Vec<Row>) {
        if self.describes(path, source) {
            for (row, old) in rows.iter_mut().zip(&self.files[path].1) {
                if row.outcome.is_none() && row.description == old.description {
                    row.outcome.clone_from(&old.outcome);
                }
            }
        }
        let complete = rows.iter().all(|row| row.outcome.is_some());
        rows.retain(|row| row.outcome.is_some());
        let of = if complete { fingerprint(source) } else { INCOMPLETE.into() };
        self.files.insert(path.to_path_buf(), (of, rows));
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.files.values().flat_map(|(_, rows)| rows)
    }

    pub fn mutants(&self) -> usize {
        self.rows().count()
    }

    pub fn survivors(&self) -> usize {
        self.rows().filter(|row| row.outcome.as_deref() == Some(SURVIVED)).count()
    }

    /// The tests that failed for mutants, by what was taken away.
    pub fn known_failures(&self) -> BTreeMap<String, String> {
        self.rows().filter_map(|row| Some((row.description.clone(), row.test()?.to_string()))).collect()
    }

    /// The tests that failed for mutants of each source, and for how many.
    pub fn failures(&self) -> BTreeMap<PathBuf, BTreeMap<String, usize>> {
        let mut failures = BTreeMap::<PathBuf, BTreeMap<String, usize>>::new();
        for (path, (_, rows)) in &self.files {
            for test in rows.iter().filter_map(Row::test) {
                *failures.entry(path.clone()).or_default().entry(test.to_string()).or_default() += 1;
            }
        }
        failures
    }

    pub fn text(&self, family: &str) -> String {
        let mut text = format!(
            "# What the tests of `{family}` notice\n\nMade by `cargo run --release -p mutate -- --family {family}`: each line of these sources was taken away, and the family's tests run on the emulator. Behind a source's name stands the fingerprint of its code.\n\n{} mutants, {} survivors.\n",
            self.mutants(),
            self.survivors()
        );
        for (path, (fingerprint, rows)) in &self.files {
            text += &format!("\n## {} {fingerprint}\n", path.display());
            if !rows.is_empty() {
                text += "\n| source | taken away | replaced by | outcome |\n|---|---|---|---|\n";
                text.extend(rows.iter().map(Row::text));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Option<&str>) -> Row {
        Row {
            place: "tile/a.cuh:3".into(),
            description: r"`x < y \|\| z` | `true`".into(),
            outcome: outcome.map(str::to_string),
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let mut table = Table::default();
        let rows = vec![row(Some("lora::a::b/f32 fails")), row(Some(SURVIVED))];
        table.set(Path::new("tile/a.cuh"), "if (x < y) f();  // why", rows);
        table.set(Path::new("tile/b.cuh"), "", vec![]);
        let read = Table::read(&table.text("lora")).expect("a table");
        assert_eq!(read.text("lora"), table.text("lora"));
        assert!(read.describes(Path::new("tile/a.cuh"), "if (x < y)\n  f();"));
        assert!(!read.describes(Path::new("tile/a.cuh"), "if (x <= y) f();"));
        assert_eq!((read.mutants(), read.survivors()), (2, 1));
        assert_eq!(read.known_failures().get(r"`x < y \|\| z` | `true`").map(String::as_str), Some("lora::a::b/f32"));
        assert_eq!(read.failures()[Path::new("tile/a.cuh")]["lora::a::b/f32"], 1);
    }

    /// A table of an interrupted run, as the next run reads it.
    fn interrupted(before: &str, source: &str) -> Table {
        let path = Path::new("tile/a.cuh");
        let mut table = Table::default();
        table.set(path, before, vec![row(Some("a fails")), row(Some("b fails"))]);
        table.set(path, source, vec![row(None), row(Some("hangs"))]);
        Table::read(&table.text("tile")).expect("a table")
    }

    #[test]
    fn what_was_not_run_keeps_the_outcome_of_the_same_code() {
        let table = interrupted("barrier();", "barrier();  // why");
        assert!(table.describes(Path::new("tile/a.cuh"), "barrier();"));
        let outcomes: Vec<_> = table.rows().map(|row| row.outcome.as_deref()).collect();
        assert_eq!(outcomes, [Some("a fails"), Some("hangs")]);
    }

    #[test]
    fn other_code_is_not_described_before_all_was_run() {
        let table = interrupted("barrier();", "warp_barrier();");
        assert!(!table.describes(Path::new("tile/a.cuh"), "warp_barrier();"));
        let outcomes: Vec<_> = table.rows().map(|row| row.outcome.as_deref()).collect();
        assert_eq!(outcomes, [Some("hangs")]);
    }
}
