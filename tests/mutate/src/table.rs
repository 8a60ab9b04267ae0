//! The committed table of a family: what was taken away of each source, and which test noticed.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::{Sources, mutants};

/// The outcome of a mutant that no test noticed.
pub const SURVIVED: &str = "survived";

/// The rows of each source, and of which code they are.
#[derive(Default)]
pub struct Table {
    files: BTreeMap<PathBuf, (String, Vec<String>)>,
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
            } else if let Some(rows) = rows.as_mut().filter(|_| line.starts_with("| ") && !line.starts_with("| source"))
            {
                rows.push(line.into());
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

    pub fn set(&mut self, path: &Path, source: &str, rows: Vec<String>) {
        self.files.insert(path.to_path_buf(), (fingerprint(source), rows));
    }

    fn rows(&self) -> impl Iterator<Item = &String> {
        self.files.values().flat_map(|(_, rows)| rows)
    }

    pub fn mutants(&self) -> usize {
        self.rows().count()
    }

    pub fn survivors(&self) -> usize {
        self.rows().filter(|row| row.ends_with(&format!("| {SURVIVED} |"))).count()
    }

    /// The tests that failed for mutants, by what was taken away.
    pub fn known_failures(&self) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
        let row = Regex::new(r"^\| \S+ \| (`.*` \| `.*`) \| (\S+) fails \|$")?;
        let found = self.rows().filter_map(|text| row.captures(text));
        Ok(found.map(|found| (found[1].to_string(), found[2].to_string())).collect())
    }

    /// The tests that failed for mutants of each source, and for how many.
    pub fn failures(&self) -> Result<BTreeMap<PathBuf, BTreeMap<String, usize>>, Box<dyn Error>> {
        let row = Regex::new(r"\| (\S+) fails \|$")?;
        let mut failures = BTreeMap::<PathBuf, BTreeMap<String, usize>>::new();
        for (path, (_, rows)) in &self.files {
            for found in rows.iter().filter_map(|text| row.captures(text)) {
                *failures.entry(path.clone()).or_default().entry(found[1].to_string()).or_default() += 1;
            }
        }
        Ok(failures)
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
                text += &format!(
                    "\n| source | taken away | replaced by | outcome |\n|---|---|---|---|\n{}\n",
                    rows.join("\n")
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let mut table = Table::default();
        let row = |outcome: &str| format!("| tile/a.cuh:3 | `x < y` | `true` | {outcome} |");
        table.set(Path::new("tile/a.cuh"), "if (x < y) f();  // why", vec![row("lora::a::b/f32 fails"), row(SURVIVED)]);
        table.set(Path::new("tile/b.cuh"), "", vec![]);
        let read = Table::read(&table.text("lora")).expect("a table");
        assert_eq!(read.text("lora"), table.text("lora"));
        assert!(read.describes(Path::new("tile/a.cuh"), "if (x < y)\n  f();"));
        assert!(!read.describes(Path::new("tile/a.cuh"), "if (x <= y) f();"));
        assert_eq!((read.mutants(), read.survivors()), (2, 1));
        assert_eq!(
            read.known_failures().expect("rows").get("`x < y` | `true`").map(String::as_str),
            Some("lora::a::b/f32")
        );
    }
}
