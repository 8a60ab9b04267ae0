//! What nvcc made of each kernel, as cuobjdump lists it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// A kernel in the machine code of one architecture.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub architecture: String,
    /// As its source would say it: `lora_forward_simt<bf16, float>`.
    pub name: String,
    pub registers: u64,
    pub stack_bytes: u64,
    /// Declared, not given by the launch.
    pub shared_bytes: u64,
    pub code_bytes: u64,
    /// How often each instruction stands there, without its suffixes.
    pub instructions: BTreeMap<String, u64>,
    /// By its PTX, it accesses shared memory of other blocks, and nothing of which the address space is not known.
    pub reaches_other_blocks: bool,
}

impl Kernel {
    /// How often these instructions stand there.
    pub fn count(&self, instructions: &[&str]) -> u64 {
        instructions.iter().filter_map(|name| self.instructions.get(*name)).sum()
    }

    /// Loads and stores of local memory: spills, and arrays that found no registers.
    pub fn local_accesses(&self) -> u64 {
        self.count(&["LDL", "STL"])
    }

    /// Accesses whose address space is decided when they run. Those of another block's shared memory have the same instructions.
    pub fn generic_accesses(&self) -> u64 {
        if self.reaches_other_blocks { 0 } else { self.count(&["LD", "ST", "ATOM"]) }
    }

    /// Why no kernel may be like this one.
    pub fn refusal(&self) -> Option<String> {
        let [stack, local, generic] = [self.stack_bytes, self.local_accesses(), self.generic_accesses()];
        (stack + local + generic > 0).then(|| {
            format!(
                "{} for {}: {stack} bytes of stack, {local} accesses of local memory, {generic} generic accesses, expected none",
                self.name, self.architecture
            )
        })
    }
}

/// cuobjdump, with nvdisasm beside it.
pub struct Disassembler {
    program: PathBuf,
    pub version: String,
}

impl Disassembler {
    pub fn find() -> Result<Self, Box<dyn Error>> {
        let program = std::env::var_os("CUOBJDUMP").map_or("cuobjdump".into(), PathBuf::from);
        let mut disassembler = Self { program, version: String::new() };
        let text = run(disassembler.command().arg("--version")).map_err(|error| {
            format!("no cuobjdump ({error}): run `eval \"$(tools/install-cuobjdump.sh)\"`, or name one in CUOBJDUMP")
        })?;
        disassembler.version = version(&text).ok_or("cuobjdump does not say its version")?;
        Ok(disassembler)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(folder) = self.program.parent().filter(|folder| folder.is_absolute()) {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(folders) {
                command.env("PATH", path);
            }
        }
        command
    }

    /// The kernels of an object, by architecture and name.
    pub fn kernels(&self, object: &Path) -> Result<Vec<Kernel>, Box<dyn Error>> {
        let ptx = run(self.command().arg("-ptx").arg(object))?;
        self.kernels_of_cubin(object, "", &ptx)
    }

    /// The kernels of a cubin and its PTX; its resources are listed without the architecture.
    pub fn kernels_of_cubin(
        &self,
        object: &Path,
        architecture: &str,
        ptx: &str,
    ) -> Result<Vec<Kernel>, Box<dyn Error>> {
        let reaching = reaching_other_blocks(ptx);
        let usage = run(self.command().arg("-res-usage").arg(object))?;
        let mut kernels = resources(&usage, architecture)?;
        let code = run(self.command().arg("-sass").arg(object))?;
        add_instructions(&code, &mut kernels)?;
        for ((_, symbol), kernel) in &mut kernels {
            kernel.reaches_other_blocks = reaching.contains(symbol);
        }
        let mut kernels: Vec<_> = kernels.into_values().collect();
        kernels.sort_by(|a, b| (&a.architecture, &a.name).cmp(&(&b.architecture, &b.name)));
        Ok(kernels)
    }

    /// Writes the PTX texts of an object into a folder, and returns their paths.
    pub fn extract_ptx(&self, object: &Path, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder)?;
        run(self.command().current_dir(folder).args(["-xptx", "all"]).arg(object))?;
        let mut paths =
            std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "ptx"));
        paths.sort();
        Ok(paths)
    }
}

/// `13.0.88` of `… release 13.0, V13.0.88`.
pub fn version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(", V")?;
    Some(rest.split_whitespace().next()?.to_string())
}

/// Kernels by architecture and symbol.
type Kernels = BTreeMap<(String, String), Kernel>;

/// `arch = sm_80`, `Function <symbol>:`, `REG:32 STACK:0 SHARED:0 …`
fn resources(text: &str, architecture: &str) -> Result<Kernels, Box<dyn Error>> {
    let mut kernels = Kernels::new();
    let (mut architecture, mut symbol) = (architecture.to_string(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            architecture = name.to_string();
        } else if let Some(name) = line.strip_prefix("Function ") {
            symbol = name.trim_end_matches(':').to_string();
        } else if line.starts_with("REG:") {
            let number = |name: &str| {
                let word = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
                word.and_then(|word| word.parse().ok()).ok_or(format!("no {name} in `{line}` of cuobjdump"))
            };
            let kernel = Kernel {
                architecture: architecture.clone(),
                name: readable(&symbol)?,
                registers: number("REG")?,
                stack_bytes: number("STACK")?,
                shared_bytes: number("SHARED")?,
                ..Kernel::default()
            };
            kernels.insert((architecture.clone(), symbol.clone()), kernel);
        }
    }
    Ok(kernels)
}

/// `code for sm_80`, `Function : <symbol>`, `/*0010*/  @!P0 LDG.E.128 R4, …`: 16 bytes each.
fn add_instructions(text: &str, kernels: &mut Kernels) -> Result<(), Box<dyn Error>> {
    let mut architecture = String::new();
    let mut kernel: Option<&mut Kernel> = None;
    for line in text.lines().map(str::trim_start) {
        if let Some(name) = line.strip_prefix("code for ") {
            architecture = name.trim().to_string();
        } else if let Some(symbol) = line.strip_prefix("Function : ") {
            let key = (architecture.clone(), symbol.trim().to_string());
            kernel = Some(kernels.get_mut(&key).ok_or_else(|| format!("cuobjdump lists the code of {key:?} alone"))?);
        } else if let (Some(name), Some(kernel)) = (instruction(line), kernel.as_mut()) {
            kernel.code_bytes += 16;
            *kernel.instructions.entry(name.to_string()).or_default() += 1;
        }
    }
    match kernels.values().find(|kernel| kernel.code_bytes == 0) {
        Some(kernel) => Err(format!("cuobjdump lists no code of {} for {}", kernel.name, kernel.architecture).into()),
        None => Ok(()),
    }
}

/// Of a text of PTX, the kernels that access shared memory of other blocks and make no generic access.
fn reaching_other_blocks(ptx: &str) -> BTreeSet<String> {
    let (mut reaching, mut generic) = (BTreeSet::new(), BTreeSet::new());
    let mut kernel = "";
    for line in ptx.lines() {
        if let Some((_, rest)) = line.split_once(".entry ") {
            kernel = rest.trim_end().trim_end_matches('(');
        }
        let Some(word) = line.split_whitespace().find(|word| !word.starts_with('@')) else { continue };
        let mut parts = word.split('.');
        if !matches!(parts.next(), Some("ld" | "st" | "atom" | "red")) {
            continue;
        }
        let spaces = ["global", "shared", "shared::cta", "shared::cluster", "param", "const", "local"];
        match parts.find(|part| spaces.contains(part)) {
            Some("shared::cluster") => reaching.insert(kernel.to_string()),
            Some(_) => false,
            None => generic.insert(kernel.to_string()),
        };
    }
    reaching.difference(&generic).cloned().collect()
}

/// The instruction of a line of code, without predicate and suffixes.
fn instruction(line: &str) -> Option<&str> {
    let (address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let word = rest.split_whitespace().find(|word| !word.starts_with('@'))?;
    word.split(['.', ';']).next()
}

/// A kernel's name without its namespaces, result and parameters.
fn readable(symbol: &str) -> Result<String, Box<dyn Error>> {
    if !symbol.starts_with("_Z") {
        return Ok(symbol.to_string());
    }
    let options = cpp_demangle::DemangleOptions::new().no_params().no_return_type();
    let Ok(parsed) = cpp_demangle::Symbol::new(symbol) else { return Ok(symbol.to_string()) };
    let name = parsed.demangle_with_options(&options)?;
    // What is left of a namespace: a chain of names and `::` before each name.
    let mut text = String::new();
    let mut rest = name.as_str().replace("(anonymous namespace)", "anonymous");
    while let Some(end) = rest.find("::") {
        let start = rest[..end].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |i| i + 1);
        text.push_str(&rest[..start]);
        rest = rest[end + 2..].to_string();
    }
    Ok(text + &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOL: &str = "_ZN19peft_kernels_device17lora_forward_simtINS_4bf16EfEEvNS_14ForwardProblemIT_T0_EEl";

    #[test]
    fn names_are_those_of_the_source() {
        assert_eq!(readable(SYMBOL).unwrap(), "lora_forward_simt<bf16, float>");
        let hidden =
            "_ZN19peft_kernels_device46_GLOBAL__N__6a5e52c9_13_primitives_cu_3b63846913rotate_valuesILb1EEEvPKjjjPj";
        assert_eq!(readable(hidden).unwrap(), "rotate_values<true>");
        assert_eq!(readable("plain_c").unwrap(), "plain_c");
    }

    #[test]
    fn instructions_are_counted_without_predicates_and_suffixes() {
        let usage =
            format!("arch = sm_80\n Function {SYMBOL}:\n  REG:114 STACK:8 SHARED:1024 LOCAL:0 CONSTANT[0]:2312\n");
        let mut kernels = resources(&usage, "").unwrap();
        let code = format!(
            "\tcode for sm_80\n\t\tFunction : {SYMBOL}\n\t.headerflags @\"EF\"\n\
             \t/*0000*/  @!P0 LDL.64 R1, [R2] ;  /* 0x00 */\n\t  /* 0x00 */\n\
             \t/*0010*/  LD.E.U16 R1, [R2.64] ;  /* 0x00 */\n\
             \t/*0020*/  LDG.E R1, [R2.64] ;  /* 0x00 */\n\
             \t/*0030*/  HMMA.16816.F32.BF16 R1, R2, R3, R4 ;  /* 0x00 */\n\
             \t/*0040*/  NOP;  /* 0x00 */\n"
        );
        add_instructions(&code, &mut kernels).unwrap();
        let kernel = kernels.values().next().unwrap();
        assert_eq!((kernel.registers, kernel.stack_bytes, kernel.shared_bytes, kernel.code_bytes), (114, 8, 1024, 80));
        assert_eq!((kernel.local_accesses(), kernel.generic_accesses(), kernel.count(&["HMMA"])), (1, 1, 1));
        let refusal = kernel.refusal().unwrap();
        assert!(refusal.contains("8 bytes of stack, 1 accesses of local memory, 1 generic accesses"), "{refusal}");
    }

    #[test]
    fn accesses_of_other_blocks_are_not_taken_for_generic_ones() {
        let ptx = ".visible .entry reaches(\n\tld.param.u64 %rd1, [p];\n\t@%p1 st.shared::cluster.u32 [%r1], %r2;\n\
             .visible .entry both(\n\tld.shared::cluster.u32 %r1, [%r2];\n\tld.volatile.u32 %r1, [%rd1];\n\
             .visible .entry neither(\n\tst.shared.u32 [%r1], %r2;\n";
        assert_eq!(reaching_other_blocks(ptx), BTreeSet::from(["reaches".to_string()]));
        let mut kernel = Kernel { instructions: BTreeMap::from([("LD".to_string(), 3)]), ..Kernel::default() };
        assert!(kernel.refusal().is_some());
        kernel.reaches_other_blocks = true;
        assert_eq!(kernel.refusal(), None);
    }

    #[test]
    fn a_kernel_without_code_is_an_error() {
        let mut kernels = resources(" Function f:\n  REG:1 STACK:0 SHARED:0\n", "sm_80").unwrap();
        assert!(add_instructions("", &mut kernels).unwrap_err().to_string().contains("no code of f for sm_80"));
    }
}
