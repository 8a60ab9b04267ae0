//! A family's page: tables that a reader and a comparison can both read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Family;
use crate::disassembly::Kernel;

const INSTRUCTIONS: [&str; 5] = ["HMMA", "HGMMA", "LDSM", "LDGSTS", "UTMALDG"];
const COMPILE: &str = "Seconds to compile";

fn row(kernel: &Kernel) -> Vec<String> {
    let mut cells = vec![format!("`{}`", kernel.name)];
    cells.extend(
        [
            kernel.code_bytes,
            kernel.registers,
            kernel.stack_bytes,
            kernel.count(&["STL"]),
            kernel.count(&["LDL"]),
            kernel.generic_accesses(),
            kernel.shared_bytes,
        ]
        .map(|number| number.to_string()),
    );
    cells.extend(INSTRUCTIONS.map(|name| kernel.count(&[name]).to_string()));
    cells
}

fn write_table(text: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |\n|---|{}", header.join(" | "), "---:|".repeat(header.len() - 1));
    rows.for_each(|cells| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    });
}

pub fn render(name: &str, family: &Family, compilers: &str, command: &str) -> String {
    let mut text = format!(
        "# The compiled kernels of `{name}`\n\n\
         Written by `{command}`: do not edit. With `--check` it fails where the code differs from this page, or exceeds the family's limits in [budget.json](budget.json).\n\n\
         Compiled by {compilers}.\n\n\
         ## All\n\n"
    );
    let header = ["architecture", "instantiations", "code bytes", "most registers"];
    let totals = family.architectures().into_iter().map(|architecture| {
        let bytes: u64 = family.of(architecture).map(|kernel| kernel.code_bytes).sum();
        let registers = family.of(architecture).map(|kernel| kernel.registers).max().unwrap_or(0);
        vec![architecture.into(), family.of(architecture).count().to_string(), bytes.to_string(), registers.to_string()]
    });
    write_table(&mut text, &header, totals);
    let mut header =
        vec!["kernel", "code bytes", "registers", "stack", "spill stores", "spill loads", "generic", "static shared"];
    header.extend(INSTRUCTIONS);
    for architecture in family.architectures() {
        let _ = writeln!(text, "\n## {architecture}\n");
        write_table(&mut text, &header, family.of(architecture).map(row));
    }
    let _ = writeln!(
        text,
        "\n## {COMPILE}\n\nWhen the rest of this page last changed, one phase after the other; never compared.\n"
    );
    let seconds = family.seconds.iter();
    let rows = seconds.map(|((unit, part), seconds)| vec![unit.clone(), part.clone(), format!("{seconds:.1}")]);
    write_table(&mut text, &["translation unit", "for", "seconds"], rows);
    text
}

/// Names of columns and what is in them, by section and first cell.
type Rows = BTreeMap<(String, String), Vec<(String, String)>>;

/// The rows of all tables, and all other lines.
fn parse(text: &str) -> (Rows, Vec<String>) {
    let (mut rows, mut lines) = (BTreeMap::new(), Vec::new());
    let (mut section, mut header) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            (section, header) = (name.to_string(), Vec::new());
        }
        if section == COMPILE || line.starts_with("|---") {
            continue;
        }
        // Commas of template arguments stand inside cells; bars never do.
        let cells = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
        match cells.map(|cells| cells.split(" | ").map(str::to_string).collect::<Vec<_>>()) {
            None => lines.push(line.to_string()),
            Some(cells) if header.is_empty() => {
                lines.push(line.to_string());
                header = cells;
            }
            Some(cells) => {
                let values = header.iter().cloned().zip(cells.iter().cloned()).skip(1).collect();
                rows.insert((section.clone(), cells[0].clone()), values);
            }
        }
    }
    (rows, lines)
}

/// What differs between two pages, a line each; how long compiling took is left out.
pub fn changes(before: &str, after: &str) -> Vec<String> {
    let ((old, old_lines), (new, new_lines)) = (parse(before), parse(after));
    let mut changes = Vec::new();
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let what = format!("{} {}", key.0, key.1);
        match (old.get(key), new.get(key)) {
            (Some(_), None) => changes.push(format!("{what}: is gone")),
            (None, Some(cells)) => {
                let cells: Vec<_> = cells.iter().map(|(name, value)| format!("{name} {value}")).collect();
                changes.push(format!("{what}: is new: {}", cells.join(", ")));
            }
            (Some(old), Some(new)) if old != new => {
                let pairs = old.iter().zip(new).filter(|(old, new)| old != new);
                let pairs: Vec<_> = pairs.map(|(old, new)| format!("{} {} → {}", new.0, old.1, new.1)).collect();
                changes.push(format!("{what}: {}", pairs.join(", ")));
            }
            _ => {}
        }
    }
    // Sections come and go with their rows.
    let is_text = |line: &&String| !line.is_empty() && !line.starts_with('|') && !line.starts_with("## ");
    let missing = |of: &[String], from: &[String]| -> Vec<String> {
        of.iter().filter(is_text).filter(|line| !from.contains(line)).cloned().collect()
    };
    changes.extend(missing(&old_lines, &new_lines).iter().map(|line| format!("- {line}")));
    changes.extend(missing(&new_lines, &old_lines).iter().map(|line| format!("+ {line}")));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(registers: u64, seconds: f64) -> String {
        let kernel = |name: &str| Kernel {
            architecture: "sm_80".into(),
            name: name.into(),
            registers,
            code_bytes: 16,
            ..Kernel::default()
        };
        let family = Family {
            kernels: vec![kernel("f<float, 3>"), kernel("g")],
            seconds: BTreeMap::from([(("f.cu".to_string(), "80".to_string()), seconds)]),
        };
        render("family", &family, "nvcc 1, read with cuobjdump 2", "tool")
    }

    #[test]
    fn a_page_without_a_change_has_none() {
        assert_eq!(changes(&page(10, 1.0), &page(10, 2.0)), Vec::<String>::new());
    }

    #[test]
    fn a_change_names_kernel_column_and_both_values() {
        let changes = changes(&page(10, 1.0), &page(12, 1.0));
        assert!(changes.contains(&"sm_80 `f<float, 3>`: registers 10 → 12".to_string()), "{changes:?}");
        assert_eq!(changes.len(), 3, "{changes:?}");
    }

    #[test]
    fn kernels_come_and_go_and_compilers_change() {
        let all = page(10, 1.0);
        let fewer = all.replace("| `g` ", "| `h` ").replace("nvcc 1", "nvcc 3");
        let changes = changes(&all, &fewer).join("\n");
        assert!(changes.contains("`g`: is gone") && changes.contains("`h`: is new: code bytes 16"), "{changes}");
        assert!(changes.contains("+ Compiled by nvcc 3"), "{changes}");
    }

    #[test]
    fn no_page_is_a_change_of_every_row() {
        assert!(changes("", &page(1, 1.0)).iter().any(|change| change.contains("`g`: is new")));
    }
}
