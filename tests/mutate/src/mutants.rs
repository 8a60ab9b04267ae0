//! Finds what a kernel could lose: barriers, waits, fences, commits, arrivals, and the comparisons that keep it within bounds.

use std::ops::Range;

use regex::Regex;

/// One change of a source: the bytes of `range` become `replacement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    pub range: Range<usize>,
    pub replacement: String,
    pub line: usize,
    /// What is taken away, on one line.
    pub removed: String,
}

impl Mutant {
    /// The same in a text that begins `begin` bytes later.
    pub fn moved_by(&self, begin: usize) -> Self {
        Self { range: self.range.start - begin..self.range.end - begin, ..self.clone() }
    }
}

/// Statements whose absence no type checker notices.
const SYNCHRONISATION: &str = r"(?:\w+(?:\.|->))?\b(?:\w*barrier|\w*wait\w*|\w*fence\w*|\w*commit\w*|\w*arrive\w*|\w*expect\w*|\w*release\w*)(?:<[^;<>]*>)?\([^;{}]*\);";

/// Every mutant of a source, in the order of its lines.
pub fn find(source: &str) -> Vec<Mutant> {
    let code = without_comments(source);
    let mut mutants = Vec::new();
    let statement = Regex::new(&format!(r"(?m)(?:^|[;{{}}])[ \t]*({SYNCHRONISATION})")).expect("a valid expression");
    for found in statement.captures_iter(&code) {
        let range = found.get(1).expect("the group takes part").range();
        mutants.push(mutant(source, range, ";"));
    }
    for condition in conditions(&code) {
        // Where a comparison leads out of the code, it is taken away by never being true; elsewhere by always being.
        let leaves = leads_out(&code[condition.end..]);
        for part in comparisons(&code, condition) {
            mutants.push(mutant(source, part, if leaves { "false" } else { "true" }));
        }
    }
    for (range, value) in limits(&code) {
        let value = code[value].trim().to_string();
        mutants.push(mutant(source, range, &format!("({value})")));
    }
    // One that holds others comes before them.
    mutants.sort_by_key(|mutant| (mutant.range.start, std::cmp::Reverse(mutant.range.end)));
    mutants
}

/// The calls of `minimum` and `maximum`, and their first arguments: the values that the second ones limit.
fn limits(code: &str) -> Vec<(Range<usize>, Range<usize>)> {
    let call = Regex::new(r"\b(?:minimum|maximum)(?:<[^<>()]*>)?\(").expect("a valid expression");
    let mut found = Vec::new();
    for call in call.find_iter(code) {
        let Some(end) = closing(code, call.end()) else { continue };
        let mut depth = 0;
        let comma = code[call.end()..end].find(|character| {
            depth += match character {
                '(' | '[' | '{' => 1,
                ')' | ']' | '}' => -1,
                _ => 0,
            };
            depth == 0 && character == ','
        });
        if let Some(comma) = comma {
            found.push((call.start()..end + 1, call.end()..call.end() + comma));
        }
    }
    found
}

fn mutant(source: &str, range: Range<usize>, replacement: &str) -> Mutant {
    let line = source[..range.start].matches('\n').count() + 1;
    let removed = source[range.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
    Mutant { range, replacement: replacement.to_string(), line, removed }
}

/// Whether the statement or block behind a condition ends what the condition guards.
fn leads_out(rest: &str) -> bool {
    let body = rest.trim_start_matches(')').trim_start();
    let end = match body.strip_prefix('{') {
        Some(block) => block.find('}').map(|end| end + 1),
        None => body.find(';'),
    };
    let body = &body[..end.unwrap_or(0)];
    ["continue;", "break;", "return"].iter().any(|word| format!("{body};").contains(word))
}

/// What a source says to the compiler.
pub fn code(source: &str) -> String {
    without_comments(source).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The source with comments blanked, so that positions stay.
pub fn without_comments(source: &str) -> String {
    let comment = Regex::new(r"//[^\n]*|(?s:/\*.*?\*/)").expect("a valid expression");
    comment.replace_all(source, |found: &regex::Captures<'_>| " ".repeat(found[0].len())).into_owned()
}

/// The conditions of `if`, of a `const bool` and of a choice by `?`; loops' own ends are no checks.
fn conditions(code: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for found in Regex::new(r"\bif\s*\(").expect("a valid expression").find_iter(code) {
        if let Some(end) = closing(code, found.end()) {
            ranges.push(found.end()..end);
        }
    }
    let value = Regex::new(r"\bconst bool \w+ = ([^;]+);").expect("a valid expression");
    ranges.extend(value.captures_iter(code).map(|found| found.get(1).expect("the group takes part").range()));
    ranges.extend(code.match_indices(" ?").map(|(end, _)| begin_of_choice(code, end)..end));
    ranges.sort_by_key(|range| (range.start, range.end));
    ranges.dedup();
    ranges
}

/// Where the condition begins that a choice at `end` is made by.
fn begin_of_choice(code: &str, end: usize) -> usize {
    let bytes = code.as_bytes();
    let mut depth = 0;
    for i in (0..end).rev() {
        let assigns = bytes[i] == b'=' && !b"=<>!".contains(&bytes[i - 1]) && bytes[i + 1] != b'=';
        let begins = matches!(bytes[i], b'(' | b',' | b';' | b'{' | b'}') || assigns;
        if depth == 0 && begins {
            return i + 1;
        }
        if depth == 0 && code[..=i].ends_with("return ") {
            return i + 1;
        }
        match bytes[i] {
            b')' | b']' => depth += 1,
            b'(' | b'[' => depth -= 1,
            _ => {}
        }
    }
    0
}

/// Where the parenthesis that opened before `from` closes.
fn closing(code: &str, from: usize) -> Option<usize> {
    let mut depth = 1;
    for (i, character) in code[from..].char_indices() {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(from + i);
        }
    }
    None
}

/// The operands of `&&` and `||` that compare by size.
fn comparisons(code: &str, condition: Range<usize>) -> Vec<Range<usize>> {
    let text = &code[condition.clone()];
    let mut parts = Vec::new();
    let (mut depth, mut begin, bytes) = (0, 0, text.as_bytes());
    for i in 0..=bytes.len() {
        let ends = i == bytes.len() || depth == 0 && (text[i..].starts_with("&&") || text[i..].starts_with("||"));
        if ends && i >= begin {
            parts.push(begin..i);
            begin = i + 2;
        } else if i < bytes.len() {
            depth += match bytes[i] {
                b'(' | b'[' => 1,
                b')' | b']' => -1,
                _ => 0,
            };
        }
    }
    let compares = Regex::new(r"\s(?:<|>|<=|>=)\s").expect("a valid expression");
    parts
        .into_iter()
        .filter(|part| compares.is_match(&text[part.clone()]))
        .map(|part| {
            let trimmed = text[part.clone()].trim();
            let start = condition.start + part.start + text[part].find(trimmed).unwrap_or(0);
            start..start + trimmed.len()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(source: &str) -> Vec<(String, String)> {
        find(source).into_iter().map(|mutant| (mutant.removed, mutant.replacement)).collect()
    }

    #[test]
    fn synchronisation_is_removed() {
        let source =
            "  barrier();\n  // barrier();\n  copy.wait_group<1>();\n  int arrived = 3;\n  full.arrive(stage);\n";
        let expected = ["barrier();", "copy.wait_group<1>();", "full.arrive(stage);"];
        assert_eq!(removed(source), expected.map(|text| (text.to_string(), ";".to_string())));
    }

    #[test]
    fn comparisons_are_removed_one_by_one() {
        let source = "if (row >= m || column >= n) continue;\nfor (int i = 0; i < 4; ++i) {\n  const bool inside = a + b < c && flag;\n  if (x < y) store(z);\n  y = i < 3 ? 1 : 2;\n}\nif (a == b) return f(x) > 0 ? g<int>(y < 1 ? 2 : 3) : -1;\nif (i < 0) {\n  failure = 1;\n  return none;\n}";
        let expected = [
            ("row >= m", "false"),
            ("column >= n", "false"),
            ("a + b < c", "true"),
            ("x < y", "true"),
            ("i < 3", "true"),
            ("f(x) > 0", "true"),
            ("y < 1", "true"),
            ("i < 0", "false"),
        ];
        assert_eq!(removed(source), expected.map(|(text, by)| (text.to_string(), by.to_string())));
    }

    #[test]
    fn limits_are_removed() {
        let source = "const int left = minimum<int64_t>(maximum(rows - f(a, b), 0), 16);";
        let expected = [
            ("minimum<int64_t>(maximum(rows - f(a, b), 0), 16)", "(maximum(rows - f(a, b), 0))"),
            ("maximum(rows - f(a, b), 0)", "(rows - f(a, b))"),
        ];
        assert_eq!(removed(source), expected.map(|(text, by)| (text.to_string(), by.to_string())));
    }
}
