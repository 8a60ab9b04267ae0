//! `peft-kernels report`: the README's figures and the pictures of docs/figures, from the results in benches/results.

mod pictures;
mod svg;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::catalog;
use crate::bench::results::{Clock, Device, OURS, Results, Row};

/// Around what is made, in the README.
const BEGIN: &str = "<!-- figures: made by `cargo run --release -- report` -->";
const END: &str = "<!-- end of figures -->";
const FIGURES: &str = "docs/figures";

#[derive(clap::Args)]
pub struct Arguments {
    /// Writes nothing, and fails if the README or a picture is not what the results give
    #[arg(long)]
    check: bool,
    /// The repository
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    root: PathBuf,
}

/// One shape in one combination of types on one device, from one run: its arms are comparable.
struct Comparison {
    ours: Row,
    others: Vec<Row>,
}

impl Comparison {
    /// How many times as long as ours another arm takes.
    fn ratio(&self, other: &Row) -> f64 {
        other.time.median_ns / self.ours.time.median_ns
    }

    fn arm(&self, name: &str) -> Option<&Row> {
        self.others.iter().find(|row| row.arm == name)
    }
}

/// The name of a picture of one family on one device.
fn picture(kind: &str, device: &str, family: &str) -> String {
    format!("{kind}-{}-{}.svg", slug(device), slug(family))
}

/// What is known of one device.
struct Section {
    device: Device,
    /// Date and commit of the runs.
    runs: BTreeSet<[String; 2]>,
    comparisons: Vec<Comparison>,
}

impl Section {
    /// Each family that there are results of, with its comparisons.
    fn families(&self) -> BTreeMap<&str, Vec<&Comparison>> {
        let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for comparison in &self.comparisons {
            families.entry(comparison.ours.family.as_str()).or_default().push(comparison);
        }
        families
    }
}

/// Whether everything was as it should be, or is now.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = &arguments.root;
    let sections = sections(read_all(&root.join("benches/results"))?)?;
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for section in &sections {
        for (name, picture) in pictures::of(section)? {
            files.insert(root.join(FIGURES).join(name), picture);
        }
    }
    let readme = root.join("README.md");
    let text = read(&readme)?;
    files.insert(
        readme.clone(),
        with_figures(&text, &table::of(&sections))
            .ok_or(format!("{}: expected the lines\n{BEGIN}\n{END}", readme.display()))?,
    );

    let stale: Vec<_> =
        pictures_in(&root.join(FIGURES))?.into_iter().filter(|path| !files.contains_key(path)).collect();
    let differ: Vec<_> =
        files.iter().filter(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(*text)).collect();
    if arguments.check {
        let names = differ.iter().map(|(path, _)| *path).chain(&stale);
        let names: Vec<_> = names.map(|path| path.display().to_string()).collect();
        if !names.is_empty() {
            eprintln!("not what benches/results gives: {}; run `cargo run --release -- report`", names.join(", "));
        }
        return Ok(names.is_empty());
    }
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for (path, text) in differ {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        }
        fs::write(path, text).map_err(|error| failed(path, error))?;
        println!("{}", path.display());
    }
    for path in &stale {
        fs::remove_file(path).map_err(|error| failed(path, error))?;
    }
    Ok(true)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Files of a folder with this ending, if there is the folder.
fn files_in(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.sort();
    Ok(paths)
}

fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    files_in(folder, "svg")
}

/// All results, the oldest first.
fn read_all(folder: &Path) -> Result<Vec<Results>, String> {
    let mut all = Vec::new();
    for path in files_in(folder, "json")? {
        let results: Results =
            serde_json::from_str(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        results.check().map_err(|error| format!("{}: {error}", path.display()))?;
        all.push(results);
    }
    all.sort_by(|left, right| left.date.cmp(&right.date));
    Ok(all)
}

/// For each device and shape the newest run that has peers, or else the newest; in the order of the list of shapes.
fn sections(all: Vec<Results>) -> Result<Vec<Section>, String> {
    let mut newest: BTreeMap<String, BTreeMap<[String; 3], (usize, Comparison)>> = BTreeMap::new();
    for (run, results) in all.iter().enumerate() {
        let Some(device) = &results.device else { continue };
        let known = newest.entry(device.name.clone()).or_default();
        let of_device = |row: &&Row| row.clock == Clock::Device;
        for ours in results.rows.iter().filter(of_device).filter(|row| row.arm == OURS) {
            let same = |row: &&Row| {
                (&row.family, &row.shape, &row.types, &row.queue)
                    == (&ours.family, &ours.shape, &ours.types, &ours.queue)
                    && row.arm != OURS
            };
            let others: Vec<_> = results.rows.iter().filter(of_device).filter(same).cloned().collect();
            let key = [&ours.family, &ours.shape, &ours.types].map(Clone::clone);
            if known.get(&key).is_none_or(|(_, older)| others.len() >= older.others.len()) {
                known.insert(key, (run, Comparison { ours: ours.clone(), others }));
            }
        }
    }
    let mut sections = Vec::new();
    for (name, mut known) in newest {
        let mut section = Section { device: device_of(&all, &name)?, runs: BTreeSet::new(), comparisons: Vec::new() };
        let families: BTreeSet<_> = known.keys().map(|[family, ..]| family.clone()).collect();
        for family in families {
            for entry in catalog::shapes(&family)? {
                if let Some((run, comparison)) =
                    known.remove(&[family.clone(), entry.shape.name.clone(), entry.type_names()])
                {
                    section.runs.insert([all[run].date.clone(), all[run].commit.clone()]);
                    section.comparisons.push(comparison);
                }
            }
        }
        // What is no longer in the list is history.
        if !section.comparisons.is_empty() {
            sections.push(section);
        }
    }
    Ok(sections)
}

fn device_of(all: &[Results], name: &str) -> Result<Device, String> {
    let device = all.iter().rev().filter_map(|results| results.device.as_ref()).find(|device| device.name == name);
    device.cloned().ok_or_else(|| format!("no results of {name}"))
}

/// The README with these figures between its markers, if it has them.
fn with_figures(readme: &str, figures: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}{END}{after}"))
}

/// A name for files: lower case, with hyphens.
fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}
