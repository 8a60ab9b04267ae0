//! `docs/ledger/<family>.md`: every instantiation of every kernel, what nvcc made of it, and the family's budget.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archives::{Archives, DEVICE_FEATURES, command_of};
use crate::disassembly::{Disassembler, Kernel, version};
use crate::run;

const COMMAND: &str = "cargo run -p peft-kernels-tools -- ledger";

/// Chips whose drivers compile the PTX: what they would make of it is held to the same rules.
const PTX_CHIPS: [&str; 2] = ["sm_90", "sm_120"];

/// A family's limits, from `docs/ledger/budget.json`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Of kernels, on one architecture.
    instantiations: u64,
    /// On one architecture.
    code_bytes: u64,
    /// Of a whole build on one core. Generous: machines differ.
    compile_seconds: f64,
}

/// What was compiled of a family.
#[derive(Default)]
pub struct Family {
    kernels: Vec<Kernel>,
    /// Of each translation unit, by architecture; the host's part under its own name.
    seconds: BTreeMap<(String, String), f64>,
}

impl Family {
    pub fn architectures(&self) -> BTreeSet<&str> {
        self.kernels.iter().map(|kernel| kernel.architecture.as_str()).collect()
    }

    pub fn of(&self, architecture: &str) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter().filter(move |kernel| kernel.architecture == architecture)
    }
}

/// An object that nvcc made, and the source it was made from.
pub struct Object {
    path: PathBuf,
    source: PathBuf,
}

impl Object {
    pub fn open(path: PathBuf) -> Result<Self, Box<dyn Error>> {
        let dependencies = std::fs::read_to_string(path.with_extension("d"))?;
        let list = dependencies.split_once(": ").ok_or(format!("{} lists no source", path.display()))?.1;
        let source = list.split([' ', '\\', '\n']).find(|word| !word.is_empty()).ok_or("an empty list")?.into();
        Ok(Self { path, source })
    }

    /// The folder of the source.
    fn family(&self) -> String {
        self.source.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
    }

    /// How it was compiled, as the build script noted it down.
    pub fn command(&self) -> Result<Vec<String>, Box<dyn Error>> {
        command_of(&self.path)
    }

    /// The compiler that made it.
    pub fn nvcc(&self) -> Result<PathBuf, Box<dyn Error>> {
        Ok(self.command()?.remove(0).into())
    }

    /// nvcc's own table: source, phase, inputs, output, architecture, tool, milliseconds.
    fn seconds(&self) -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
        let text = std::fs::read_to_string(self.path.with_extension("seconds"))?;
        let mut seconds = BTreeMap::new();
        for line in text.lines().skip(1) {
            let cells: Vec<_> = line.split(',').map(str::trim).collect();
            let &[_, phase, .., architecture, _, milliseconds, _] = cells.as_slice() else { continue };
            let on_host = architecture.is_empty() || phase == "cudafe++" || phase == "gcc (compiling)";
            // cicc makes compute_90a's PTX, ptxas sm_90a's code of it.
            let number = architecture.split_once('_').map_or("", |(_, number)| number);
            let part = if on_host { "the host".into() } else { format!("sm_{number}") };
            *seconds.entry(part).or_insert(0.0) += milliseconds.parse::<f64>()? / 1000.0;
        }
        // What no ptxas turned into code stays PTX.
        let with_code: Vec<_> = text.lines().filter(|line| line.contains(", ptxas ,")).collect();
        let is_code = |part: &str| with_code.iter().any(|line| line.contains(&format!(", {part} ,")));
        let named = |(part, value): (String, f64)| match part.strip_prefix("sm_") {
            Some(number) if !is_code(&part) => (format!("PTX of compute_{number}"), value),
            _ => (part, value),
        };
        Ok(seconds.into_iter().map(named).collect())
    }
}

/// The kernels of an object's PTX, as the drivers of later chips would compile them.
pub fn kernels_of_ptx(
    nvcc: &Path,
    object: &Path,
    disassembler: &Disassembler,
    scratch: &Path,
) -> Result<Vec<Kernel>, Box<dyn Error>> {
    let assembler = nvcc.with_file_name("ptxas");
    let mut kernels = Vec::new();
    for text in disassembler.extract_ptx(object, scratch)? {
        for chip in PTX_CHIPS {
            let cubin = text.with_extension(format!("{chip}.cubin"));
            let refuse = ["--warning-as-error", "--warn-on-spills", "--warn-on-local-memory-usage", "--fmad=false"];
            run(Command::new(&assembler).arg("-arch").arg(chip).args(refuse).arg(&text).arg("-o").arg(&cubin))?;
            kernels.extend(disassembler.kernels_of_cubin(&cubin, chip, &std::fs::read_to_string(&text)?)?);
        }
    }
    Ok(kernels)
}

/// The kernels that stand for the instructions obey the same rules; what they are made of is not kept.
fn check_conformance(archives: &Archives, disassembler: &Disassembler) -> Result<(), Box<dyn Error>> {
    let mut refused = Vec::new();
    for object in archives.device_objects()? {
        refused.extend(disassembler.kernels(&object)?.iter().filter_map(Kernel::refusal));
    }
    if refused.is_empty() { Ok(()) } else { Err(refused.join("\n").into()) }
}

/// Reads what the library's build made, by family.
fn families(
    archives: &Archives,
    disassembler: &Disassembler,
) -> Result<(BTreeMap<String, Family>, String), Box<dyn Error>> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut refused = Vec::new();
    let mut nvcc = None;
    let scratch = archives.scratch("ptx");
    // Assembling PTX takes longest: side by side.
    let read = |path: PathBuf| -> Result<_, String> {
        let object = Object::open(path).map_err(|error| error.to_string())?;
        let compiler = object.nvcc().map_err(|error| error.to_string())?;
        let kernels = disassembler.kernels(&object.path).map_err(|error| error.to_string())?;
        let later = match kernels.is_empty() {
            true => Vec::new(),
            false => kernels_of_ptx(
                &compiler,
                &object.path,
                disassembler,
                &scratch.join(object.path.file_stem().unwrap_or_default()),
            )
            .map_err(|error| error.to_string())?,
        };
        Ok((object, compiler, kernels, later))
    };
    let objects = archives.device_objects()?;
    let read = std::thread::scope(|scope| {
        let workers: Vec<_> = objects.into_iter().map(|path| scope.spawn(|| read(path))).collect();
        let results =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("a thread panicked".into())));
        results.collect::<Result<Vec<_>, String>>()
    })?;
    for (object, compiler, kernels, later) in read {
        nvcc = nvcc.or(Some(compiler));
        if kernels.is_empty() {
            continue;
        }
        refused.extend(later.iter().filter_map(Kernel::refusal));
        refused.extend(kernels.iter().filter_map(Kernel::refusal));
        let unit = object.source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let family = families.entry(object.family()).or_default();
        family.kernels.extend(kernels);
        for (part, seconds) in object.seconds()? {
            family.seconds.insert((unit.clone(), part), seconds);
        }
    }
    if !refused.is_empty() {
        return Err(refused.join("\n").into());
    }
    let compiler = nvcc.ok_or("the device build made no object")?;
    let compiler = version(&run(Command::new(compiler).arg("--version"))?).ok_or("nvcc does not say its version")?;
    Ok((families, format!("nvcc {compiler}, read with cuobjdump {}", disassembler.version)))
}

/// Writes the ledger, or with `check` fails where the committed one is not what the build gives. Families over their budget fail either way.
pub fn run_ledger(root: &Path, check: bool) -> Result<(), Box<dyn Error>> {
    let disassembler = Disassembler::find()?;
    let library = Archives::build(root, "peft-kernels", DEVICE_FEATURES)?;
    let (families, compilers) = families(&library, &disassembler)?;
    check_conformance(&Archives::build(root, "emulator-tests", "cuda")?, &disassembler)?;
    let folder = root.join("docs/ledger");
    let budget_path = folder.join("budget.json");
    let budget_text =
        std::fs::read_to_string(&budget_path).map_err(|error| format!("{}: {error}", budget_path.display()))?;
    let budgets: BTreeMap<String, Budget> = serde_json::from_str(&budget_text)?;
    let mut wrong = Vec::new();
    for (name, family) in &families {
        let Some(budget) = budgets.get(name) else {
            return Err(format!("{} has no budget for the family {name}", budget_path.display()).into());
        };
        wrong.extend(over_budget(name, family, budget));
        let path = folder.join(name).with_extension("md");
        let text = table::render(name, family, &compilers, COMMAND);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let changes = table::changes(&committed, &text);
        if check {
            wrong.extend(changes.iter().map(|change| format!("{name}: {change}")));
        } else if !changes.is_empty() {
            std::fs::write(&path, text)?;
            changes.iter().for_each(|change| println!("{name}: {change}"));
        }
    }
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "md") && !families.contains_key(&name) {
            wrong.push(format!("{} is of no family", path.display()));
        }
    }
    if wrong.is_empty() {
        let count: usize = families.values().map(|family| family.kernels.len()).sum();
        println!(
            "{count} kernels in {} families: no stack, no local memory, no generic access, within the budgets",
            families.len()
        );
        return Ok(());
    }
    Err(format!("{}\nWhere this is meant: `{COMMAND}`, and docs/ledger/budget.json for a budget", wrong.join("\n"))
        .into())
}

fn over_budget(name: &str, family: &Family, budget: &Budget) -> Vec<String> {
    let mut over = Vec::new();
    let mut hold = |what: &str, used: f64, limit: f64| {
        if used > limit {
            over.push(format!("{name}: {what}: {used}, and its budget is {limit}"));
        }
    };
    for architecture in family.architectures() {
        let bytes: u64 = family.of(architecture).map(|kernel| kernel.code_bytes).sum();
        hold(
            &format!("instantiations for {architecture}"),
            family.of(architecture).count() as f64,
            budget.instantiations as f64,
        );
        hold(&format!("bytes of code for {architecture}"), bytes as f64, budget.code_bytes as f64);
    }
    hold("seconds to compile", family.seconds.values().sum::<f64>().round(), budget.compile_seconds);
    over
}
