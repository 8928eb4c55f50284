//! The library's texts name no flag, command or environment variable: those are the command line's, which puts typed hints into
//! words.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Source files of the library, without tests.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_face = ["cli", "cli.rs", "server", "server.rs", "main.rs"].contains(&name.as_str());
        if is_face || name == "tests" || name == "tests.rs" || name == "conformance.rs" {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The string literals of a file before its test module, each with its line.
fn literals(source: &str) -> Vec<(usize, String)> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let (mut found, mut line) = (Vec::new(), 1);
    let mut characters = source.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' => line += 1,
            '/' if characters.peek() == Some(&'/') => {
                characters.by_ref().find(|character| *character == '\n');
                line += 1;
            }
            '\'' => {
                // A character, whose quote must not open a string; a lifetime has no quote to skip.
                if characters.peek() == Some(&'\\') {
                    characters.next();
                    characters.next();
                } else if characters.peek() == Some(&'"') {
                    characters.next();
                }
            }
            '"' => {
                let (start, mut text) = (line, String::new());
                while let Some(character) = characters.next() {
                    match character {
                        '"' => break,
                        '\\' => text.extend(characters.next()),
                        _ => text.push(character),
                    }
                }
                line += text.matches('\n').count();
                found.push((start, text));
            }
            _ => {}
        }
    }
    found
}

/// What a text names that only the command line may name.
fn names(text: &str) -> Option<&'static str> {
    let is_identifier = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    // Flags of other programs: `cp`.
    let foreign = ["--remove-destination"];
    let is_flag = |word: &str| {
        let word = word.trim_start_matches(['`', '(', '\'']);
        word.strip_prefix("--").is_some_and(|name| name.starts_with(|first: char| first.is_ascii_lowercase()))
    };
    // The name alone is what is looked up. The encrypted store takes its passphrase from two variables, and says so.
    let is_allowed = is_identifier(text) || text.contains("LAYERSLAYER_PASSPHRASE or ");
    if text.contains("LAYERSLAYER_") && !is_allowed {
        return Some("an environment variable");
    }
    if text.split_whitespace().any(|word| is_flag(word) && !foreign.contains(&word)) {
        return Some("a flag");
    }
    let commands = ["auth", "cache", "carve", "login", "logout", "peek", "toc"];
    let is_command = commands.iter().any(|command| text.contains(&format!("layerslayer {command} ")));
    if is_command || text.contains("`layerslayer ") || text.contains("`make ") {
        return Some("a command");
    }
    None
}

#[test]
fn the_library_names_no_flag_command_or_variable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 80, "{} files", files.len());
    let mut faults = Vec::new();
    for file in files {
        for (line, text) in literals(&fs::read_to_string(&file).unwrap()) {
            if let Some(what) = names(&text) {
                faults.push(format!("{}:{line} names {what}: {text:?}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_are_found_in_texts_and_not_in_data() {
    for (text, found) in [
        ("if that is acceptable, say --plain-http", Some("a flag")),
        ("(--ca)", Some("a flag")),
        ("run `layerslayer login x`", Some("a command")),
        ("set LAYERSLAYER_KEY first", Some("an environment variable")),
        ("LAYERSLAYER_KEY", None),
        ("a -- b", None),
        ("layerslayer table of contents", None),
    ] {
        assert_eq!(names(text), found, "{text}");
    }
    let source =
        "let a = '\"'; // \"--no\"\nlet b = \"--yes\";\nlet c = '\\'';\n#[cfg(test)]\nmod tests { \"--no\" }";
    assert_eq!(literals(source), [(2, "--yes".to_owned())]);
}
