//! All mutants of a source in one build: which of them is in force is asked when the tests run, so that a mutant costs no build.

use regex::Regex;

use crate::mutants::Mutant;

/// The environment variable that says which mutant is in force; none, if it is not set.
pub const CHOICE: &str = "PEFT_KERNELS_MUTANT";

/// What a header that all kernels include gains.
pub const HEADER: &str = r#"
#include <cstdlib>
inline const int mutant_in_force = std::getenv("PEFT_KERNELS_MUTANT") == nullptr ? -1 : std::atoi(std::getenv("PEFT_KERNELS_MUTANT"));
"#;

/// Whether a mutant can be chosen when the code runs: what the compiler evaluates itself needs a build of its own. `x.template f<...>` declares no template.
pub fn can_be_chosen(code: &str, mutant: &Mutant) -> bool {
    let evaluated = Regex::new(r"\b(?:constexpr|static_assert|using)\b|\btemplate\s*<").expect("a valid expression");
    // A statement that goes is put into a block of its own, whatever surrounds it; a part of one changes what the whole says.
    let range = match mutant.replacement.as_str() {
        ";" => mutant.range.clone(),
        _ => {
            let begin = code[..mutant.range.start].rfind([';', '{', '}']).map_or(0, |end| end + 1);
            let end = code[mutant.range.end..].find([';', '{', '}']).map_or(code.len(), |end| mutant.range.end + end);
            begin..end
        }
    };
    !evaluated.is_match(&code[range])
}

/// The source with every one of these mutants, each under its number. They are in the order of `mutants::find`: one that holds others comes before them.
pub fn with_switches(source: &str, mutants: &[(usize, &Mutant)]) -> String {
    let mut text = String::new();
    let (mut at, mut rest) = (0, mutants);
    while let Some((&(number, mutant), others)) = rest.split_first() {
        let within = others.iter().take_while(|(_, other)| other.range.end <= mutant.range.end).count();
        text += &source[at..mutant.range.start];
        let inner: Vec<(usize, Mutant)> =
            others[..within].iter().map(|(i, other)| (*i, other.moved_by(mutant.range.start))).collect();
        let inner: Vec<(usize, &Mutant)> = inner.iter().map(|(i, other)| (*i, other)).collect();
        let kept = with_switches(&source[mutant.range.clone()], &inner);
        text += &match mutant.replacement.as_str() {
            ";" => format!("{{ if (mutant_in_force != {number}) {{ {kept} }} }}"),
            replacement => format!("(mutant_in_force == {number} ? {replacement} : ({kept}))"),
        };
        at = mutant.range.end;
        rest = &others[within..];
    }
    text + &source[at..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::find;

    #[test]
    fn one_within_another() {
        let source = "const int left = minimum(maximum(rows - a, 0), 16);\n  barrier();\n";
        let mutants = find(source);
        let numbered: Vec<(usize, &Mutant)> = mutants.iter().enumerate().collect();
        assert_eq!(
            with_switches(source, &numbered),
            "const int left = (mutant_in_force == 0 ? (maximum(rows - a, 0)) : (minimum((mutant_in_force == 1 ? (rows - a) : (maximum(rows - a, 0))), 16)));\n  { if (mutant_in_force != 2) { barrier(); } }\n"
        );
    }

    fn chosen(source: &str) -> Vec<bool> {
        find(source).iter().map(|mutant| can_be_chosen(source, mutant)).collect()
    }

    #[test]
    fn what_the_compiler_evaluates() {
        assert_eq!(
            chosen("static constexpr int stages = minimum(3, 4);\nconst int left = minimum(rows, 4);"),
            [false, true]
        );
    }

    #[test]
    fn a_statement_that_goes_stands_alone() {
        let source = "if constexpr (A)\n  barrier();\nwait_for_previous_launch();\nif constexpr (B) f();";
        assert_eq!(chosen(source), [true, true]);
    }

    #[test]
    fn a_template_is_declared_or_called() {
        let source = "if (row < rows) x.template load<T>(row);\ntemplate <int N = (A < 3 ? 1 : 2)>\nstruct S;";
        assert_eq!(chosen(source), [true, false]);
    }
}
