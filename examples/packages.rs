//! Lists the packages in an image (dpkg, apk, Python, npm): `cargo run --example packages -- nginx:alpine`.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{self, Read as _, Write},
};

use layerslayer::{CarveOptions, Client, EntryKind, Platform, Selection};

/// The files in which package managers record what is installed.
const FILES: [&str; 8] = [
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/*",
    "lib/apk/db/installed",
    "usr/lib/apk/db/installed",
    "**/*.dist-info/METADATA",
    "**/*.egg-info/PKG-INFO",
    "**/node_modules/*/package.json",
    "**/node_modules/@*/*/package.json",
];

/// A `package.json`.
#[derive(serde::Deserialize)]
struct Npm {
    name: String,
    version: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(image) = std::env::args().nth(1) else { return Err("usage: packages IMAGE".into()) };
    run(&image, &mut io::stdout()).await
}

pub(crate) async fn run(image: &str, out: &mut (dyn Write + Send)) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
    let found = image.collect(&Selection::globs(FILES)?, &CarveOptions::default()).await?;
    let mut packages = BTreeSet::new();
    for item in found.items().iter().filter(|item| item.entry.kind == EntryKind::File) {
        let path = String::from_utf8_lossy(&item.path).into_owned();
        let mut content = Vec::new();
        found.open(item).read_to_end(&mut content)?;
        let text = String::from_utf8_lossy(&content);
        if path.ends_with(".json") {
            // Other files of this name are not npm's.
            if let Ok(Npm { name, version }) = serde_json::from_slice(&content) {
                packages.insert(format!("npm {name} {version}"));
            }
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
