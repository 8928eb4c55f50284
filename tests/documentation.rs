//! Holds every public item to an example: types, functions, methods, constants, and the methods of public traits. The lint
//! `unreachable_pub` sees to it that `pub` is written only on what can be reached from outside.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Words that may stand between `pub` and what kind of item it is.
const QUALIFIERS: [&str; 3] = ["async", "const", "unsafe"];

/// Items that need an example. Modules, re-exports and fields need words only.
const ITEMS: [&str; 7] = ["const", "enum", "fn", "static", "struct", "trait", "type"];

/// What a line declares: the name of an item that needs an example.
fn declared(line: &str, in_trait: bool) -> Option<&str> {
    let item = match line.trim_start().strip_prefix("pub ") {
        Some(item) => item,
        None if in_trait => line.trim_start(),
        None => return None,
    };
    let mut words = item.split(' ').peekable();
    let mut kind = words.next()?;
    while QUALIFIERS.contains(&kind)
        && words.peek().is_some_and(|next| ITEMS.contains(next) || QUALIFIERS.contains(next))
    {
        kind = words.next()?;
    }
    let name = words.next().filter(|_| ITEMS.contains(&kind))?;
    name.split(|sign: char| !sign.is_alphanumeric() && sign != '_').next()
}

/// The items of a file that have no example, with their lines.
fn without_example(source: &str) -> Vec<(usize, &str)> {
    let (mut example, mut in_trait, mut missing) = (false, false, Vec::new());
    for (index, line) in source.lines().enumerate() {
        let text = line.trim_start();
        // Tests stand at the end of a file.
        if text.starts_with("mod tests") {
            break;
        }
        if text.starts_with("///") {
            example |= text.contains("```");
            continue;
        }
        if let Some(name) = declared(line, in_trait).filter(|_| !example) {
            missing.push((index + 1, name));
        }
        in_trait = (in_trait || line.starts_with("pub trait ")) && !line.starts_with('}');
        // Attributes, which may take several lines, stand between a comment and its item.
        example &= text.starts_with("#[") || text.starts_with(")]") || text.ends_with(',');
    }
    missing
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn every_public_item_has_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for file in sources(&root.join("src")) {
        let source = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(root).unwrap().display().to_string();
        let items = without_example(&source);
        missing.extend(items.into_iter().map(|(line, name)| format!("{place}:{line}: {name}")));
    }
    assert!(missing.is_empty(), "without an example:\n{}", missing.join("\n"));
}

#[test]
fn an_example_is_looked_for_above_its_item() {
    let source = r"
/// Words only.
pub fn one(&self) {}

/// ```
/// ```
#[must_use]
pub const fn two() {}

pub(crate) fn three() {}
pub struct Four {
    pub five: u32,
}
/// ```
/// ```
pub trait Six {
    /// Words only.
    fn seven(&self) {}
}
fn eight() {}
pub const NINE: u32 = 9;
pub use ten::ten;
";
    let names: Vec<_> = without_example(source).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["one", "Four", "seven", "NINE"]);
}
