//! Holds the direction of imports: which room of the library may name which, and that the faces (command line, server) reach
//! the library only from outside. Reads every `crate::`, `super::` and `self::` path in `src/`, inline ones and braces included.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every room, its floor, and the rooms of its own floor that it may use besides all lower floors.
const ROOMS: &[(&str, u32, &[&str])] = &[
    ("hint", 0, &[]),
    ("limits", 0, &[]),
    ("files", 0, &[]),
    ("offset", 0, &[]),
    ("threads", 0, &[]),
    ("oci", 0, &["limits"]),
    ("progress", 0, &["oci"]),
    ("decompress", 1, &[]),
    ("tar", 1, &[]),
    ("toc", 1, &["decompress", "tar"]),
    ("auth", 2, &[]),
    ("cache", 2, &[]),
    ("registry", 3, &[]),
    ("source", 4, &[]),
    ("error", 5, &[]),
    ("read", 6, &[]),
    ("referrers", 6, &[]),
    ("layer", 7, &[]),
    ("reader", 8, &[]),
    ("image", 9, &[]),
    ("build_toc", 10, &[]),
    ("peek", 10, &[]),
    ("carve", 11, &[]),
    ("tree", 11, &[]),
    ("open", 12, &[]),
    ("scan", 12, &[]),
    ("client", 13, &[]),
    ("blocking", 14, &[]),
    ("internals", 13, &[]),
];

/// Declared in `main.rs`; they know the library as `layerslayer::`.
const FACES: [&str; 2] = ["cli", "server"];

/// A path in the source, from the root of the crate that its file belongs to.
#[derive(Debug, Eq, PartialEq)]
struct Import {
    line: usize,
    /// As written.
    written: String,
    /// From the crate's root.
    path: Vec<String>,
}

fn room(name: &str) -> Option<&'static (&'static str, u32, &'static [&'static str])> {
    ROOMS.iter().find(|room| room.0 == name)
}

/// Why a path is not allowed in a file of the module `module` (its path from the crate's root).
fn fault(module: &[String], path: &[String]) -> Option<String> {
    let (Some(from), Some(to)) = (module.first(), path.first()) else {
        return Some("names the root of the crate; name the room".to_owned());
    };
    if from == to {
        return None;
    }
    if FACES.contains(&from.as_str()) {
        let allowed = FACES.contains(&to.as_str());
        return (!allowed).then(|| format!("{from} reaches only layerslayer::…, not {to}"));
    }
    let Some((from, floor, beside)) = room(from) else {
        return Some(format!("{from} is no room of the table"));
    };
    let Some((to, other, _)) = room(to) else {
        return Some(format!("{to} is no room of the table"));
    };
    let allowed = other < floor || beside.contains(to);
    (!allowed).then(|| format!("{from} may not use {to}"))
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Words, `::` and single signs; comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < text.len() {
        let start = index;
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < text.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                    if depth == 0 || index >= text.len() {
                        break;
                    }
                }
            }
            '"' => index = string_end(&text, index),
            // A lifetime has no closing quote after its first sign.
            '\'' if at(index + 1) == '\\' => {
                index += 3;
                while index < text.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            '\'' if at(index + 2) == '\'' => index += 3,
            '\'' => {
                index += 1;
                while is_word(at(index)) {
                    index += 1;
                }
            }
            sign if is_word(sign) => {
                while is_word(at(index)) {
                    index += 1;
                }
                let word: String = text[start..index].iter().collect();
                let hashes = text[index..].iter().take_while(|sign| **sign == '#').count();
                if matches!(word.as_str(), "r" | "br" | "cr") && at(index + hashes) == '"' {
                    let end: Vec<char> =
                        std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                    let body = index + hashes + 1;
                    let length = text[body..].windows(end.len()).position(|window| window == end);
                    index = length.map_or(text.len(), |length| body + length + end.len());
                } else if word == "r" && hashes == 1 {
                    index += 1;
                } else if !(matches!(word.as_str(), "b" | "c") && matches!(at(index), '"' | '\'')) {
                    tokens.push(Token { text: word, line });
                }
            }
            ':' if at(index + 1) == ':' => {
                index += 2;
                tokens.push(Token { text: "::".to_owned(), line });
            }
            sign => {
                index += 1;
                if !sign.is_whitespace() {
                    tokens.push(Token { text: sign.to_string(), line });
                }
            }
        }
        line += text[start..index.min(text.len())].iter().filter(|sign| **sign == '\n').count();
    }
    tokens
}

fn string_end(text: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < text.len() && text[index] != '"' {
        index += if text[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// Every path in `source` that begins with `crate`, `super` or `self`; `module` is the file's own.
fn imports(source: &str, module: &[String]) -> Vec<Import> {
    let tokens = tokens(source);
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let (mut imports, mut depth) = (Vec::new(), 0);
    // Inline modules around the place being read, with the depth of their braces.
    let mut inline: Vec<(String, i32)> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                if index >= 2 && text(index - 2) == "mod" {
                    inline.push((text(index - 1).to_owned(), depth));
                }
            }
            "}" => {
                inline.pop_if(|(_, at)| *at == depth);
                depth -= 1;
            }
            "crate" | "self" | "super"
                if text(index + 1) == "::" && (index == 0 || !matches!(text(index - 1), "::")) =>
            {
                let here: Vec<String> =
                    module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect();
                let mut paths = Vec::new();
                tree(&tokens, index, Vec::new(), &mut paths);
                imports.extend(paths.into_iter().map(|(line, written)| Import {
                    line,
                    path: absolute(&here, &written),
                    written: written.join("::"),
                }));
            }
            _ => {}
        }
    }
    imports
}

/// Collects the paths of a use tree, or one path; returns the index after it.
fn tree(
    tokens: &[Token],
    mut index: usize,
    mut path: Vec<String>,
    paths: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let is_word = |word: &str| word.starts_with(|sign: char| sign.is_alphanumeric() || sign == '_');
    let line = tokens.get(index).map_or(0, |token| token.line);
    loop {
        match text(index) {
            "{" => {
                index += 1;
                while !matches!(text(index), "}" | "") {
                    index = tree(tokens, index, path.clone(), paths);
                    while !matches!(text(index), "," | "}" | "") {
                        index += 1;
                    }
                    if text(index) == "," {
                        index += 1;
                    }
                }
                return index + 1;
            }
            "*" => {
                path.push("*".to_owned());
                index += 1;
            }
            word if is_word(word) => {
                path.push(word.to_owned());
                index += 1;
            }
            _ => {
                // Generic arguments after the path.
                paths.push((line, path));
                return index;
            }
        }
        if text(index) != "::" {
            paths.push((line, path));
            return index;
        }
        index += 1;
    }
}

fn absolute(here: &[String], written: &[String]) -> Vec<String> {
    let mut path = here.to_vec();
    for segment in written {
        match segment.as_str() {
            "crate" => path.clear(),
            "self" | "*" => {}
            "super" => drop(path.pop()),
            segment => path.push(segment.to_owned()),
        }
    }
    path
}

/// The source files, with their modules' paths; `lib.rs` and `main.rs` are the roots and have none. Files of tests are left
/// out: they may drive a room through the rooms above it.
fn files() -> Vec<(PathBuf, Vec<String>)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&source, &mut found);
    found.sort();
    let files = found.into_iter().map(|file| {
        let module = file.strip_prefix(&source).unwrap().with_extension("");
        let module: Vec<String> =
            module.components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
        (file, module)
    });
    let is_test = |module: &[String]| module.iter().any(|part| part == "tests");
    files.filter(|(_, module)| *module != ["lib"] && *module != ["main"] && !is_test(module)).collect()
}

fn shown(file: &Path) -> String {
    file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string()
}

/// The modules that a root declares.
fn declared(root: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(root);
    let tokens = tokens(&fs::read_to_string(file).unwrap());
    let declared = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
    declared.map(|three| three[1].text.clone()).collect()
}

#[test]
fn rooms_use_lower_floors_only() {
    let files = files();
    let mut read = 0;
    let mut faults = Vec::new();
    for (file, module) in &files {
        for import in imports(&fs::read_to_string(file).unwrap(), module) {
            read += 1;
            if let Some(why) = fault(module, &import.path) {
                faults.push(format!("{}:{}: {}: {why}", shown(file), import.line, import.written));
            }
        }
    }
    assert!(read > files.len(), "only {read} paths in {} files: are they read right?", files.len());
    assert!(faults.is_empty(), "imports against the floors:\n{}", faults.join("\n"));
}

#[test]
fn the_library_declares_rooms_of_the_table_and_the_program_its_faces() {
    for module in declared("lib.rs") {
        assert!(room(&module).is_some(), "src/lib.rs declares {module}, which is no room of the table");
    }
    for module in declared("main.rs") {
        assert!(FACES.contains(&module.as_str()), "src/main.rs declares {module}, which is no face");
    }
}

#[test]
fn every_form_of_path_is_read() {
    let source = r##"
        use crate::{a::{self, b::C}, d};
        // crate::comment::x /* "
        /* crate::comment /* nested */ crate::y */
        const TEXT: &str = "crate::string \" crate::z";
        const RAW: &str = r#"crate::raw "quoted" "#; const QUOTE: char = '"';
        fn f<'a>(x: &'a crate::e::E<crate::f::F>) { let _ = super::g::<u8>(b'"'); self.h(); }
        pub(crate) mod tests { use super::*; use super::super::i; mod deep { use self::j::k; } }
        use self::super::l as m;
    "##;
    let module = ["room", "file"].map(str::to_owned);
    let found: Vec<(usize, String)> =
        imports(source, &module).into_iter().map(|import| (import.line, import.path.join("::"))).collect();
    let expected = [
        (2, "a"),
        (2, "a::b::C"),
        (2, "d"),
        (7, "e::E"),
        (7, "f::F"),
        (7, "room::g"),
        (8, "room::file"),
        (8, "room::i"),
        (8, "room::file::tests::deep::j::k"),
        (9, "room::l"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn the_table_refuses_what_it_should() {
    let refused =
        |from: &str, to: &str| fault(&[from.to_owned()], &[to.to_owned(), "x".to_owned()]).is_some();
    for (from, to) in [
        ("peek", "carve"),
        ("cli", "carve"),
        ("error", "layer"),
        ("layer", "image"),
        ("limits", "oci"),
        ("source", "error"),
        ("tar", "decompress"),
        ("tar", "unknown"),
        ("unknown", "tar"),
    ] {
        assert!(refused(from, to), "{from} may use {to}");
    }
    for (from, to) in
        [("carve", "image"), ("cli", "cli"), ("image", "layer"), ("source", "registry"), ("toc", "tar")]
    {
        assert!(!refused(from, to), "{from} may not use {to}");
    }
    let root = fault(&["tar".to_owned()], &[]);
    assert!(root.is_some(), "the root of the crate may be named");
}
