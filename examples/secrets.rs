//! Searches the text files of every layer for secrets, also those that a newer layer deleted or replaced:
//! `cargo run --example secrets -- nginx:alpine`.

use std::{
    collections::HashMap,
    error::Error,
    io::{self, Read as _, Write},
};

use layerslayer::{CarveOptions, Client, EntryKind, Platform, Selection};
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
    // The layer from which a container gets each path.
    let visible: HashMap<Vec<u8>, usize> =
        image.rootfs().await?.entries().into_iter().map(|item| (item.entry.path, item.layer)).collect();
    for layer in 0..image.layers().len() {
        let files = Selection::globs(["**"])?;
        let found = image.collect(&files, &CarveOptions::default().layer(layer)).await?;
        for item in found.items() {
            if item.entry.kind != EntryKind::File || item.entry.size > FILE_BYTES {
                continue;
            }
            let mut content = Vec::new();
            found.open(item).read_to_end(&mut content)?;
            // Text has no NUL.
            if content.contains(&0) {
                continue;
            }
            let state =
                if visible.get(&item.path) == Some(&layer) { "visible" } else { "deleted or replaced" };
            let matches = patterns.matches(&content);
            let names = PATTERNS.iter().enumerate().filter(|(index, _)| matches.matched(*index));
            for (_, (name, _)) in names {
                writeln!(out, "layer {layer}: {}: {name} ({state})", item.path.escape_ascii())?;
            }
        }
    }
    Ok(())
}
