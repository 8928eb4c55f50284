//! `layerslayer carve IMAGE --layer N` without a PATH: the stored blob of a layer.

use std::io::{self, Seek as _, Write as _};

use layerslayer::{LayerBlob, ReadMethod, Verification};

use super::{
    args::CarveArguments,
    connect::{self, Connection},
    console::Console,
    destination::{Sink, Target, TextCheck},
    exit::{Exit, Failure},
    output::facts::LayerFacts,
    report::Report,
    selector,
};

/// Writes the blob of `layer`.
pub(crate) async fn run(
    arguments: &CarveArguments,
    layer: &str,
    console: &Console,
    report: &mut Report,
) -> Result<(), Failure> {
    let target = target(arguments)?;
    let Connection { client, image, writes: _writes } =
        connect::open(&arguments.image, &arguments.common, console, report).await?;
    let index = selector::layer(layer, &LayerFacts::of_all(&image).await?)?;
    let mut blob = image.layer(index)?.blob().await?;
    let result = match arguments.common.verify {
        Some(_) => write_verified(&mut blob, &target, console).await,
        None => stream(&mut blob, &target, console).await,
    };
    console.explain_requests(image.layers());
    report.read_by(&client);
    result?;
    report.verified(blob.verification(), ReadMethod::Scan);
    Ok(())
}

fn target(arguments: &CarveArguments) -> Result<Target, Failure> {
    let flags = [
        (arguments.tar, "--tar"),
        (arguments.same_permissions, "--same-permissions"),
        (arguments.common.json, "--json"),
        (arguments.common.dry_run, "--dry-run"),
    ];
    if let Some((_, flag)) = flags.into_iter().find(|(is_set, _)| *is_set) {
        return Err(Failure::usage(format!("{flag} requires a PATH or --glob")));
    }
    let target = Target::of(arguments.output.as_deref());
    match &target {
        Target::File(path) if Target::is_directory(path) => {
            Err(Failure::usage("the blob of a layer is written to stdout or `-o FILE`, not to a directory"))
        }
        _ => Ok(target),
    }
}

/// Writes while the blob arrives.
async fn stream(blob: &mut LayerBlob, target: &Target, console: &Console) -> Result<(), Failure> {
    // Create the file only after the first piece has arrived, so that an early failure leaves nothing behind.
    let mut piece = blob.next().await.transpose()?;
    check_terminal(target, piece.as_deref().unwrap_or_default())?;
    let mut sink = target.open(console)?;
    while let Some(bytes) = piece {
        sink.write_all(&bytes).map_err(|error| target.failure(&error))?;
        piece = blob.next().await.transpose()?;
    }
    sink.finish().map_err(|error| target.failure(&error))
}

/// Writes to a temporary file first, and prints nothing before the blob is verified.
async fn write_verified(blob: &mut LayerBlob, target: &Target, console: &Console) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::caused("storing the blob in a temporary file", error);
    let mut spool = tempfile::tempfile().map_err(|error| failed(&error))?;
    let mut beginning = None;
    while let Some(piece) = blob.next().await.transpose()? {
        spool.write_all(&piece).map_err(|error| failed(&error))?;
        beginning.get_or_insert(piece);
    }
    if blob.verification() == Verification::None {
        return Err(Failure::new(
            Exit::Corrupt,
            "the blob could not be verified: the archive has no digest of it",
        ));
    }
    check_terminal(target, beginning.as_deref().unwrap_or_default())?;
    spool.rewind().map_err(|error| failed(&error))?;
    let mut sink: Sink = target.open(console)?;
    io::copy(&mut spool, &mut sink).map_err(|error| target.failure(&error))?;
    sink.finish().map_err(|error| target.failure(&error))
}

fn check_terminal(target: &Target, beginning: &[u8]) -> Result<(), Failure> {
    if target.is_guarded_terminal() && !TextCheck::default().is_text(beginning) {
        let advice =
            "binary content can mess up the terminal; use -o FILE to save it or `-o -` to print it anyway";
        return Err(Failure::new(Exit::Other, advice));
    }
    Ok(())
}
