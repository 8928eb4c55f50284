//! Writes one file of an image to standard output: `cargo run --example carve -- ubuntu:24.04 /etc/passwd`.

use std::{
    error::Error,
    io::{self, Write},
};

use layerslayer::{Client, Platform};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(image), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: carve IMAGE PATH".into());
    };
    run(&image, &path, &mut io::stdout()).await
}

pub(crate) async fn run(image: &str, path: &str, out: &mut (dyn Write + Send)) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().build()?;
    let image = client.image(&image.parse()?, &Platform::default()).await?;
    let mut file = image.carve(path).await?;
    while let Some(piece) = file.next().await {
        out.write_all(&piece?)?;
    }
    if let Some(outcome) = file.outcome() {
        writeln!(io::stderr(), "from layer {}, verified: {}", file.layer(), outcome.verification)?;
    }
    Ok(())
}
