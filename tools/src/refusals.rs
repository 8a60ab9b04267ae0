//! What the device build must not let pass, planted, and compiled for each architecture with the build's own command.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::archives::Archives;
use crate::disassembly::{Disassembler, Kernel};
use crate::ledger::{Object, kernels_of_ptx};

/// Sources of tools/refused, and what must be said of each, by nvcc or by the ledger.
const PLANTED: [(&str, &str); 4] = [
    ("local_memory", "Local memory used for function"),
    ("spill", "Registers are spilled to local memory"),
    ("warning", "variable \"unused\" was declared but never referenced"),
    ("generic_access", "0 accesses of local memory, 1 generic accesses, expected none"),
];

/// How many were refused; an error if one was not.
pub fn run(root: &Path, archives: &Archives) -> Result<usize, Box<dyn Error>> {
    let disassembler = Disassembler::find()?;
    let model = archives.device_objects()?.into_iter().next().ok_or("the device build made no object")?;
    let model = Object::open(model)?;
    let scratch = archives.scratch("refused");
    std::fs::create_dir_all(&scratch)?;
    let command = model.command()?;
    let architectures: Vec<_> = command.iter().filter(|word| word.starts_with("-gencode=")).collect();
    for architecture in &architectures {
        for (name, expected) in PLANTED {
            let object = scratch.join(name).with_extension("o");
            let flags = command.iter().skip(1).take_while(|word| *word != "-MMD");
            let mut compile = Command::new(model.nvcc()?);
            compile.args(flags.filter(|word| !word.starts_with("-gencode="))).arg(architecture).arg("-c");
            compile.arg(root.join("tools/refused").join(name).with_extension("cu")).arg("-o").arg(&object);
            let said = match crate::run(&mut compile) {
                Err(error) => error.to_string(),
                Ok(_) => judge(&model, &object, &disassembler, &scratch.join("ptx")),
            };
            if !said.contains(expected) {
                return Err(format!("{name}, {architecture}: expected a refusal with `{expected}`, got: {said}").into());
            }
        }
    }
    Ok(architectures.len() * PLANTED.len())
}

/// What the ledger says of an object of one architecture.
fn judge(model: &Object, object: &Path, disassembler: &Disassembler, scratch: &Path) -> String {
    let kernels = || -> Result<Vec<Kernel>, Box<dyn Error>> {
        let mut kernels = disassembler.kernels(object)?;
        kernels.extend(kernels_of_ptx(&model.nvcc()?, object, disassembler, scratch)?);
        Ok(kernels)
    };
    match kernels() {
        Ok(kernels) => kernels.iter().filter_map(Kernel::refusal).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    }
}
