//! Lists the packages in an image (dpkg, apk, Python, npm): `cargo run --example packages -- nginx:alpine`.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{self, Write},
};

use layerslayer::{Client, EntryKind, Platform, ScanAction, ScanOptions};

/// The largest file that is read, in bytes.
const FILE_BYTES: u64 = 64 << 20;

/// Whether a package manager records in this file what is installed.
fn is_record(path: &str) -> bool {
    path == "var/lib/dpkg/status"
        || path.starts_with("var/lib/dpkg/status.d/")
        || path.ends_with("lib/apk/db/installed")
        || path.ends_with(".dist-info/METADATA")
        || path.ends_with(".egg-info/PKG-INFO")
        || (path.contains("node_modules/") && path.ends_with("/package.json"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(image) = std::env::args().nth(1) else { return Err("usage: packages IMAGE".into()) };
    run(&image, &mut io::stdout()).await
}

pub(crate) async fn run(image: &str, out: &mut (dyn Write + Send)) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
    let mut packages = BTreeSet::new();
    let mut scan = image.scan(ScanOptions::merged()).filter(|entry, _| {
        let is_file = entry.kind == EntryKind::File;
        if is_file && is_record(&String::from_utf8_lossy(&entry.path)) {
            ScanAction::Read
        } else {
            ScanAction::Skip
        }
    });
    while let Some(found) = scan.next().await {
        let mut found = found?;
        let Some(content) = &mut found.content else { continue };
        let content = content.read_to_end(FILE_BYTES).await?;
        let (path, text) = (String::from_utf8_lossy(&found.entry.path), String::from_utf8_lossy(&content));
        if path.ends_with(".json") {
            let json: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
            let field = |name| json.get(name).and_then(serde_json::Value::as_str);
            let package = field("name").zip(field("version"));
            packages.extend(package.map(|(name, version)| format!("npm {name} {version}")));
        } else if path.contains("/dpkg/") {
            packages.extend(records(&text, "Package: ", "Version: ").map(|package| format!("deb {package}")));
        } else if path.contains("/apk/") {
            packages.extend(records(&text, "P:", "V:").map(|package| format!("apk {package}")));
        } else {
            // Headers, then a description after an empty line.
            packages.extend(
                records(&text, "Name: ", "Version: ").take(1).map(|package| format!("python {package}")),
            );
        }
    }
    for package in packages {
        writeln!(out, "{package}")?;
    }
    Ok(())
}

/// `NAME VERSION` of each record of a database; an empty line separates records.
fn records<'a>(text: &'a str, name: &'a str, version: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split("\n\n").filter_map(move |record| {
        // dpkg keeps records of removed packages.
        let is_removed =
            record.lines().any(|line| line.starts_with("Status: ") && !line.ends_with(" installed"));
        let field = |key: &str| record.lines().find_map(|line| line.strip_prefix(key));
        (!is_removed).then_some(())?;
        Some(format!("{} {}", field(name)?, field(version)?))
    })
}
