//! The public API is the one in `tests/public_api.txt`. After an intended change, run `BLESS=1 cargo test --test public_api` and
//! commit that file.
//!
//! The sources are read as text, which rustfmt keeps regular. The lint `unreachable_pub` ensures that `pub` is only on items that
//! are reachable from outside.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// Sources that are not part of the library's API.
const LEFT_OUT: [&str; 5] = ["cli", "cli.rs", "internals", "internals.rs", "main.rs"];

/// What the lines inside a top-level item belong to.
enum Context {
    None,
    /// Inherent methods of a type.
    Methods(String),
    /// Public fields of a struct.
    Fields(String),
    /// Variants of an enum.
    Variants(String),
    /// Items of a trait.
    Trait(String),
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !LEFT_OUT.contains(&name) && name != "tests" && name != "tests.rs"
    });
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The text from a line to the end of its declaration, on one line: up to the body, or to the comma or semicolon.
fn declaration(lines: &[&str]) -> String {
    joined(lines, &['{', ';', ',', '}'])
}

/// The text from a line to the next one of its indentation that ends with one of `ends`, on one line.
fn joined(lines: &[&str], ends: &[char]) -> String {
    let indent = lines[0].len() - lines[0].trim_start().len();
    let mut text = String::new();
    for line in lines {
        let own = line.len() - line.trim_start().len();
        if !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#') {
            if !text.is_empty() && !text.ends_with(['(', '<', '[']) {
                text.push(' ');
            }
            text.push_str(line.trim());
        }
        if own == indent && line.ends_with(ends) {
            break;
        }
    }
    let text = text.trim_end_matches([' ', '{', ';', ',']).to_owned();
    text.replace(", )", ")").replace(", >", ">")
}

/// The name after `keyword`, without generics.
fn name<'a>(text: &'a str, keyword: &str) -> &'a str {
    let rest = text.split_once(keyword).unwrap().1;
    rest.split(|sign: char| !sign.is_alphanumeric() && sign != '_').next().unwrap()
}

/// The type that an `impl` block is for, without generics.
fn implementor(header: &str) -> &str {
    let header = match header.strip_prefix("impl<") {
        Some(rest) => rest.split_once("> ").map_or(rest, |(_, rest)| rest),
        None => header.strip_prefix("impl ").unwrap(),
    };
    let target = header.split_once(" for ").map_or(header, |(_, target)| target);
    target.trim_start_matches('&').split(['<', ' ']).next().unwrap()
}

/// The public items in a file. `exported` are the names in `src/lib.rs`, `private` the traits of this crate that are not public.
fn items(source: &str, exported: &BTreeSet<String>, private: &BTreeSet<String>) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    let (mut found, mut context, mut attributes) = (Vec::new(), Context::None, String::new());
    for (index, line) in lines.iter().enumerate() {
        if line.starts_with("mod tests") {
            break;
        }
        if line.starts_with("#[derive") || line.starts_with("#[non_exhaustive") {
            attributes.push_str(&declaration(&[&line[1..]]));
            attributes.push(' ');
            continue;
        }
        if line.starts_with("pub ") && !line.starts_with("pub use") {
            let text = declaration(&lines[index..]);
            let (is_struct, is_enum, is_trait) =
                (text.contains(" struct "), text.contains(" enum "), text.contains(" trait "));
            found.push(format!("{}{text}", std::mem::take(&mut attributes)));
            context = match () {
                () if is_struct && line.ends_with('{') => Context::Fields(name(&text, " struct ").to_owned()),
                () if is_enum => Context::Variants(name(&text, " enum ").to_owned()),
                () if is_trait => Context::Trait(name(&text, " trait ").to_owned()),
                () => Context::None,
            };
        } else if line.starts_with("impl") {
            let text = declaration(&lines[index..]);
            let target = implementor(&text);
            let of_trait = text.split_once(" for ").map(|(before, _)| before.rsplit(' ').next().unwrap());
            let of_trait = of_trait.map(|of_trait| of_trait.split('<').next().unwrap());
            context = Context::None;
            match of_trait {
                Some(of_trait) if exported.contains(target) && !private.contains(of_trait) => {
                    found.push(text)
                }
                None => context = Context::Methods(target.to_owned()),
                Some(_) => {}
            }
        } else if line.starts_with('}') {
            context = Context::None;
        }
        if !line.starts_with("#[") && !line.starts_with("///") {
            attributes.clear();
        }
        let Some(inner) =
            line.strip_prefix("    ").filter(|inner| !inner.starts_with([' ', '/', '#', '}', ')']))
        else {
            continue;
        };
        let of = match &context {
            Context::Fields(of) | Context::Methods(of) if inner.starts_with("pub ") => of,
            Context::Variants(of) => of,
            Context::Trait(of)
                if ["fn ", "async fn ", "type ", "const "].iter().any(|word| inner.starts_with(word)) =>
            {
                of
            }
            _ => continue,
        };
        // A variant ends with its comma, and its fields are a part of it.
        let text = match &context {
            Context::Variants(_) => joined(&lines[index..], &[',']),
            _ => declaration(&lines[index..]),
        };
        found.push(format!("{of}: {text}"));
    }
    found
}

/// Every identifier in the `pub use` declarations of a file.
fn exported(lib: &str) -> BTreeSet<String> {
    let uses = lib.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let words = uses.flat_map(|text| text.split(|sign: char| !sign.is_alphanumeric() && sign != '_'));
    words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned).collect()
}

#[test]
fn the_public_api_is_the_recorded_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<(PathBuf, String)> = sources(&root.join("src"))
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    let lib = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let exported = exported(&lib);
    let private = sources.iter().flat_map(|(_, source)| source.lines()).filter_map(|line| {
        let line =
            line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
        line.starts_with("trait ").then(|| name(line, "trait ").to_owned())
    });
    let private = private.collect();
    let mut items = BTreeSet::new();
    for (path, source) in &sources {
        // The public modules have types of the same names as the crate itself.
        let first = path.strip_prefix(root.join("src")).unwrap().iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let is_public = lib.contains(&format!("\npub mod {module};"));
        let prefix = if is_public { format!("{module}::") } else { String::new() };
        items.extend(
            self::items(source, &exported, &private).into_iter().map(|item| format!("{prefix}{item}")),
        );
    }
    items.extend(exported.iter().map(|name| format!("pub use {name}")));
    let current: String = items.iter().map(|item| format!("{item}\n")).collect();
    let record = root.join("tests/public_api.txt");
    if env::var_os("BLESS").is_some() {
        fs::write(&record, &current).unwrap();
    }
    let recorded = fs::read_to_string(&record).unwrap();
    let recorded: BTreeSet<String> = recorded.lines().map(str::to_owned).collect();
    let removed: Vec<_> = recorded.difference(&items).collect();
    let added: Vec<_> = items.difference(&recorded).collect();
    assert!(
        removed.is_empty() && added.is_empty(),
        "removed: {removed:#?}\nadded: {added:#?}\nrun `BLESS=1 cargo test --test public_api` if this is intended"
    );
}

#[test]
fn public_items_are_found_and_others_are_not() {
    let source = r"
/// Words.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct One {
    /// Words.
    pub two: u32,
    three: u32,
}
impl One {
    /// Words.
    pub async fn four(
        &self,
        path: &str,
    ) -> Result<u32, Error> {
        pub_like()
    }

    pub(crate) fn five() {}
}
impl Display for One {
    fn fmt(&self) {}
}
impl Hidden for One {}
pub(crate) struct Six;
impl Clone for Six {}
pub enum Seven {
    Eight,
    Nine {
        ten: u32,
    },
}
pub trait Eleven {
    fn twelve(&self) {}
    type Thirteen;
}
pub const FOURTEEN: u64 = 4 << 20;
mod tests {
pub fn fifteen() {}
";
    let exported = exported("\npub use one::{One, Seven};\npub use eleven::Eleven;\n");
    let private = BTreeSet::from(["Hidden".to_owned()]);
    assert_eq!(
        items(source, &exported, &private),
        [
            "[derive(Clone, Debug)] [non_exhaustive] pub struct One",
            "One: pub two: u32",
            "One: pub async fn four(&self, path: &str) -> Result<u32, Error>",
            "impl Display for One",
            "pub enum Seven",
            "Seven: Eight",
            "Seven: Nine { ten: u32, }",
            "pub trait Eleven",
            "Eleven: fn twelve(&self) {}",
            "Eleven: type Thirteen",
            "pub const FOURTEEN: u64 = 4 << 20",
        ]
    );
}
