//! Searches the text files of every layer for secrets, also those that a newer layer deleted or replaced:
//! `cargo run --example secrets -- nginx:alpine`.

use std::{
    error::Error,
    io::{self, Write},
};

use layerslayer::{Client, EntryKind, Platform, ScanAction, ScanOptions};
use regex::bytes::RegexSet;

/// What is looked for, by name.
const PATTERNS: [(&str, &str); 4] = [
    ("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("AWS access key", r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("GitHub token", r"\bgh[pousr]_[0-9A-Za-z]{36}\b"),
    ("password or token", r"(?i)\b(api_?key|passw(or)?d|secret|token)\s*[:=]\s*\S{8,}"),
];

/// Larger files are skipped.
const FILE_BYTES: u64 = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(image) = std::env::args().nth(1) else { return Err("usage: secrets IMAGE".into()) };
    run(&image, &mut io::stdout()).await
}

pub(crate) async fn run(image: &str, out: &mut (dyn Write + Send)) -> Result<(), Box<dyn Error>> {
    let patterns = RegexSet::new(PATTERNS.map(|(_, pattern)| format!("(?-u){pattern}")))?;
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
    let mut secrets = Vec::new();
    let mut scan = image.scan(ScanOptions::each_layer()).filter(|entry, _| match entry.kind {
        EntryKind::File if entry.size <= FILE_BYTES => ScanAction::Read,
        _ => ScanAction::Skip,
    });
    while let Some(found) = scan.next().await {
        let mut found = found?;
        let Some(content) = &mut found.content else { continue };
        let content = content.read_to_end(FILE_BYTES).await?;
        // Text has no NUL.
        if content.contains(&0) {
            continue;
        }
        let matches = patterns.matches(&content);
        let names = PATTERNS.iter().enumerate().filter(|(index, _)| matches.matched(*index));
        secrets.extend(names.map(|(_, (name, _))| (found.layer, found.entry.path.clone(), name)));
    }
    let tree = image.tree().await?;
    for (layer, path, name) in secrets {
        let is_visible = tree.get(&path).is_some_and(|entry| entry.layer() == layer);
        let state = if is_visible { "visible" } else { "deleted or replaced" };
        writeln!(out, "layer {layer}: {}: {name} ({state})", path.escape_ascii())?;
    }
    Ok(())
}
