//! What the crate may depend on: accepted licences, no newer Rust than ours, and no C code except zstd and ring. Only this
//! machine's target is checked; `cargo deny check` checks all targets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::HashSet, env, fs, path::Path, process::Command};

use serde_json::Value;

/// The members of `allow = […]` in deny.toml.
fn accepted() -> HashSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let text = fs::read_to_string(path).unwrap();
    let (_, list) = text.split_once("allow = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every package that a build for this machine can contain, with all features.
fn packages() -> Vec<Value> {
    let version = run(Command::new(env!("CARGO")).arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = run(Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--all-features",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let nodes: HashSet<&Value> = metadata
        .pointer("/resolve/nodes")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node.get("id"))
        .collect();
    let packages = metadata.get("packages").unwrap().as_array().unwrap();
    packages.iter().filter(|package| nodes.contains(package.get("id").unwrap())).cloned().collect()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a licence expression (SPDX; `/` is the old form of OR) can be satisfied with `accepted`
/// licences. AND binds more tightly than OR. An exception (WITH) only allows more, so it counts as
/// its licence alone.
fn is_accepted(expression: &str, accepted: &HashSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, accepted);
    met && words.next().is_none()
}

type Words<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

fn any(words: Words<'_, '_>, accepted: &HashSet<String>) -> bool {
    let mut met = all(words, accepted);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, accepted);
    }
    met
}

fn all(words: Words<'_, '_>, accepted: &HashSet<String>) -> bool {
    let mut met = one(words, accepted);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, accepted);
    }
    met
}

fn one(words: Words<'_, '_>, accepted: &HashSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, accepted);
        return words.next_if_eq(&")").is_some() && met;
    }
    let met = words.next().is_some_and(|word| accepted.contains(word));
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    met
}

#[test]
fn every_dependency_has_an_accepted_licence() {
    let accepted = accepted();
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages: is cargo's answer read right?", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !is_accepted(text(package, "license"), &accepted))
        .map(|package| format!("{}: {}", text(package, "name"), text(package, "license")))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// A version such as `1.89` or `1.89.0` as numbers.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap()).chain([0, 0]).take(3).collect()
}

#[test]
fn no_dependency_needs_a_newer_rust_than_ours() {
    let packages = packages();
    let stated = |package: &Value| package.get("rust_version").and_then(Value::as_str).map(version);
    let ours = packages.iter().find(|package| text(package, "name") == env!("CARGO_PKG_NAME")).unwrap();
    let ours = stated(ours).unwrap();
    let newer: Vec<&str> = packages
        .iter()
        .filter(|package| stated(package).is_some_and(|needed| needed > ours))
        .map(|package| text(package, "name"))
        .collect();
    assert!(newer.is_empty(), "{newer:?} need a newer Rust than {ours:?}");
}

#[test]
fn a_licence_expression_is_read_as_written() {
    let accepted = HashSet::from(["MIT", "ISC"].map(str::to_owned));
    for met in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(MIT OR GPL-3.0) AND ISC", "MIT WITH some-exception"]
    {
        assert!(is_accepted(met, &accepted), "{met}");
    }
    for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT ISC"] {
        assert!(!is_accepted(unmet, &accepted), "{unmet}");
    }
}

#[test]
fn only_zstd_and_ring_contain_c_code() {
    let tree = run(Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--all-features", "--edges=normal,build", "--prefix=none"])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let built: HashSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut compiling: Vec<String> = packages()
        .iter()
        .filter(|package| built.contains(text(package, "name")))
        .filter(|package| {
            let dependencies = package.get("dependencies").and_then(Value::as_array).unwrap();
            dependencies.iter().any(|dependency| {
                text(dependency, "kind") == "build"
                    && matches!(text(dependency, "name"), "cc" | "cmake" | "pkg-config")
            })
        })
        .map(|package| text(package, "name").to_owned())
        .collect();
    compiling.sort();
    assert_eq!(compiling, ["ring", "zstd-sys"]);
}
