//! Lists the entries of every layer of an image: `cargo run --example list -- nginx:alpine`.

use std::{
    error::Error,
    io::{self, Write},
};

use layerslayer::{Client, Platform};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(image) = std::env::args().nth(1) else { return Err("usage: list IMAGE".into()) };
    run(&image, &mut io::stdout()).await
}

pub(crate) async fn run(image: &str, out: &mut (dyn Write + Send)) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
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
