//! Lists what every layer of an image holds: `cargo run --example list -- nginx:alpine`.

use std::io::{self, Write as _};

use layerslayer::{Client, Platform};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(image) = std::env::args().nth(1) else { return Err("usage: list IMAGE".into()) };
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
    let mut out = io::stdout().lock();
    for layer in image.layers() {
        writeln!(out, "layer {} {}", layer.index(), layer.digest())?;
        let mut entries = layer.entries();
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            writeln!(out, "{:?} {:>10} {}", entry.kind, entry.size, entry.path.escape_ascii())?;
        }
    }
    Ok(())
}
