//! Writes one file of an image to standard output: `cargo run --example carve -- ubuntu:24.04 /etc/passwd`.

use std::io::{self, Write as _};

use layerslayer::{Client, Platform};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(image), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: carve IMAGE PATH".into());
    };
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
    let mut file = image.carve(&path).await?;
    while let Some(piece) = file.next().await {
        io::stdout().write_all(&piece?)?;
    }
    if let Some(outcome) = file.outcome() {
        writeln!(io::stderr(), "from layer {}, verified: {}", file.layer(), outcome.verification)?;
    }
    Ok(())
}
