//! `layerslayer peek`: the summary of an image and listings.

use std::{
    collections::HashSet,
    io::{self, Seek as _, Write},
};

use layerslayer::{Image, PeekOptions, ReadMethod, Verification};

use super::{
    args::PeekArguments,
    connect::{self, Connection},
    console::{self, Console},
    exit::Failure,
    output::{
        Listing, Proof, Row,
        facts::{ConfigFacts, ImageFacts, LayerFacts},
        json::Json,
        text::{self, Style, Text},
    },
    patterns::Patterns,
    plan,
    report::Report,
    selector,
};

/// Runs `peek`.
pub(crate) async fn run(
    arguments: &PeekArguments,
    console: &Console,
    report: &mut Report,
) -> Result<(), Failure> {
    let is_listing = arguments.all || arguments.rootfs || !arguments.layers.is_empty();
    if !is_listing && !arguments.globs.is_empty() {
        return Err(Failure::usage("GLOB requires a listing; add --all, --layer N or --rootfs"));
    }
    let mut patterns = Patterns::new(&arguments.globs)?;
    let options = PeekOptions::default().min_verification(arguments.common.min_verification());
    let Connection { client, image, writes: _writes } =
        connect::open(&arguments.image, &arguments.common, console, report).await?;
    let facts = connect::facts(&client, &image, report).await?;
    let layers = LayerFacts::of_all(&image).await?;
    if arguments.common.dry_run {
        let (selected, mut reads, mut seen) =
            (selected_layers(arguments, &layers)?, Vec::new(), HashSet::new());
        // A repeated blob is in the cache by then.
        for layer in
            selected.iter().filter(|layer| is_listing && seen.insert((&layer.digest, &layer.diff_id)))
        {
            reads.extend(image.layer(layer.index)?.plan_listing(&options).await);
        }
        return plan::print(&image, &facts, &reads, arguments.common.json, console);
    }
    if !is_listing {
        let config = ConfigFacts::of(image.config().await?);
        return summary(arguments, &facts, &config, &layers, console);
    }
    let result = match arguments.common.verify {
        Some(_) => list_verified(arguments, &image, &mut patterns, console, report).await,
        None => list(arguments, &image, &mut patterns, report, &mut console.stdout()?).await,
    };
    report.read_by(&client);
    result?;
    let unused = patterns.unused(&format!("listing {}", arguments.image));
    Failure::all(unused.into_iter().map(|(_, failure)| failure).collect())
}

/// Prints layers and configuration, without reading any layer.
fn summary(
    arguments: &PeekArguments,
    facts: &ImageFacts,
    config: &ConfigFacts,
    layers: &[LayerFacts],
    console: &Console,
) -> Result<(), Failure> {
    let mut out = console.stdout()?;
    let written = match arguments.common.json {
        true => summary_lines(&mut Json::new(&mut out), facts, config, layers),
        false => text::summary(&mut out, facts, config, layers, console::stdout_width()),
    };
    written.and_then(|()| out.flush()).map_err(|error| Failure::writing("stdout", &error))
}

fn summary_lines(
    lines: &mut impl Listing,
    image: &ImageFacts,
    config: &ConfigFacts,
    layers: &[LayerFacts],
) -> io::Result<()> {
    lines.image(image)?;
    lines.config(config)?;
    layers.iter().try_for_each(|layer| lines.layer(layer))?;
    lines.end()
}

/// Lists into a temporary file and prints it once everything is verified.
async fn list_verified(
    arguments: &PeekArguments,
    image: &Image,
    patterns: &mut Patterns,
    console: &Console,
    report: &mut Report,
) -> Result<(), Failure> {
    let folder = std::env::temp_dir();
    let failed = |error| {
        Failure::caused(
            format_args!("writing the listing to a temporary file in {}", folder.display()),
            &error,
        )
    };
    let mut spool = io::BufWriter::new(tempfile::tempfile().map_err(failed)?);
    list(arguments, image, patterns, report, &mut spool).await?;
    let mut file = spool.into_inner().map_err(|error| failed(error.into_error()))?;
    file.rewind().map_err(failed)?;
    let mut out = console.stdout()?;
    io::copy(&mut file, &mut out)
        .and_then(|_| out.flush())
        .map_err(|error| Failure::writing("stdout", &error))
}

async fn list<W: Write + Send>(
    arguments: &PeekArguments,
    image: &Image,
    patterns: &mut Patterns,
    report: &mut Report,
    out: &mut W,
) -> Result<(), Failure> {
    let layers = LayerFacts::of_all(image).await?;
    let style = match arguments.rootfs {
        true => Style::Rootfs { digits: layers.len().saturating_sub(1).to_string().len() },
        false if patterns.select_all() => Style::EveryLayer,
        false => Style::LayersWithEntries,
    };
    let mut listing: Box<dyn Listing + '_> = match arguments.common.json {
        true => Box::new(Json::new(out)),
        false => Box::new(Text::new(out, style, console::stdout_width())),
    };
    let selected = selected_layers(arguments, &layers)?;
    listing.image(&ImageFacts::of(image).await?).map_err(write_failure)?;
    let options = PeekOptions::default().min_verification(arguments.common.min_verification());
    let (verified, method) = match arguments.rootfs {
        true => rootfs(image, &layers, patterns, &options, &mut *listing).await?,
        false => each_layer(image, &selected, patterns, &options, &mut *listing).await?,
    };
    report.verified(verified, method);
    match (arguments.common.verify, verified) {
        (Some(_), Verification::None) => {
            Err(Failure::new(super::exit::Exit::Corrupt, "the listing could not be verified"))
        }
        _ => listing.end().map_err(write_failure),
    }
}

/// The layers to list, in the order of the arguments.
fn selected_layers(arguments: &PeekArguments, layers: &[LayerFacts]) -> Result<Vec<LayerFacts>, Failure> {
    if arguments.layers.is_empty() {
        return Ok(layers.to_vec());
    }
    let indices = arguments.layers.iter().map(|text| selector::layer(text, layers));
    let indices: Vec<usize> = indices.collect::<Result<_, _>>()?;
    Ok(indices.into_iter().filter_map(|index| layers.get(index).cloned()).collect())
}

async fn each_layer(
    image: &Image,
    layers: &[LayerFacts],
    patterns: &mut Patterns,
    options: &PeekOptions,
    listing: &mut dyn Listing,
) -> Result<(Verification, ReadMethod), Failure> {
    let (mut weakest, mut method) = (Verification::Blob, ReadMethod::Toc);
    let mut in_turn = image.layers_in_turn(layers.iter().map(|layer| layer.index), options)?;
    for layer in layers {
        listing.layer(layer).map_err(write_failure)?;
        let Some(mut entries) = in_turn.next() else { break };
        let mut count = 0;
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            if patterns.select(&entry.path) {
                count += 1;
                let row = Row { layer: layer.index, entry: &entry, implied: false };
                listing.entry(&row).map_err(write_failure)?;
            }
        }
        let verification = entries.verification().unwrap_or(Verification::None);
        weakest = weakest.min(verification);
        if !entries.is_from_toc() {
            method = ReadMethod::Scan;
        }
        let proof = Proof::new(verification, entries.is_from_toc());
        listing.layer_end(layer.index, count, &proof).map_err(write_failure)?;
    }
    Ok((weakest, method))
}

async fn rootfs(
    image: &Image,
    layers: &[LayerFacts],
    patterns: &mut Patterns,
    options: &PeekOptions,
    listing: &mut dyn Listing,
) -> Result<(Verification, ReadMethod), Failure> {
    layers.iter().try_for_each(|layer| listing.layer(layer)).map_err(write_failure)?;
    let rootfs = image.rootfs_with(options).await?;
    let mut count = 0;
    rootfs
        .visit(|row| {
            if !patterns.select(&row.entry.path) {
                return Ok(());
            }
            count += 1;
            listing.entry(&Row { layer: row.layer, entry: &row.entry, implied: row.implied })
        })
        .map_err(write_failure)?;
    let verification = rootfs.verification();
    let proof = Proof::new(verification, rootfs.is_from_toc());
    listing.rootfs_end(count, &proof).map_err(write_failure)?;
    Ok((verification, if rootfs.is_from_toc() { ReadMethod::Toc } else { ReadMethod::Scan }))
}

fn write_failure(error: io::Error) -> Failure {
    Failure::writing("the listing", &error)
}
