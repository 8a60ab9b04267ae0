//! The libraries that have the mutants: one has all that can be chosen at run time, each of the others is alone in its own.

use std::error::Error;
use std::path::PathBuf;

use crate::mutants::{self, Mutant};
use crate::suite::Bench;
use crate::{Case, Sources, switches};

/// The library that has a mutant, and the number that chooses it there.
pub struct Built {
    pub library: PathBuf,
    pub number: Option<usize>,
}

/// The library of all mutants that can be chosen.
pub struct Switched {
    pub library: PathBuf,
    sources: Sources,
    chosen: Vec<bool>,
}

impl Switched {
    /// Leaves those out that the compiler does not take so.
    pub fn build(bench: &Bench, sources: &Sources, cases: &[Case]) -> Result<Self, Box<dyn Error>> {
        let mut chosen: Vec<bool> = cases
            .iter()
            .map(|case| switches::can_be_chosen(&mutants::without_comments(&sources[&case.path]), &case.mutant))
            .collect();
        loop {
            let mut switched = sources.clone();
            for (path, source) in &mut switched {
                let here = cases.iter().enumerate().filter(|(i, case)| chosen[*i] && case.path == *path);
                let here: Vec<(usize, &Mutant)> = here.map(|(i, case)| (i, &case.mutant)).collect();
                *source = switches::with_switches(source, &here);
            }
            let said = match bench.build_library("switched", &switched)? {
                Ok(library) => return Ok(Self { library, sources: switched, chosen }),
                Err(said) => said,
            };
            let mut left_out = false;
            for (i, case) in cases.iter().enumerate() {
                let line = format!("{}:{}:", case.path.display(), case.mutant.line);
                if chosen[i] && said.lines().any(|text| text.contains(&line)) {
                    (chosen[i], left_out) = (false, true);
                }
            }
            if !left_out {
                return Err(format!("the mutants do not compile:\n{said}").into());
            }
        }
    }

    /// The library of each case, built for those that cannot be chosen; nothing for one that does not compile.
    pub fn all(&self, bench: &Bench, sources: &Sources, cases: &[Case]) -> Result<Vec<Option<Built>>, Box<dyn Error>> {
        let mut built = Vec::new();
        for (i, case) in cases.iter().enumerate() {
            built.push(if self.chosen[i] {
                Some(Built { library: self.library.clone(), number: Some(i) })
            } else {
                // The other sources keep their switches, which nobody turns: they need not be compiled again.
                let mut changed = self.sources.clone();
                let mut source = sources[&case.path].clone();
                source.replace_range(case.mutant.range.clone(), &case.mutant.replacement);
                changed.insert(case.path.clone(), source);
                let library = bench.build_library(&i.to_string(), &changed)?.ok();
                library.map(|library| Built { library, number: None })
            });
        }
        Ok(built)
    }
}
