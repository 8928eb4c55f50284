//! `layerslayer toc`: builds and pushes layer TOCs, and creates signing keys.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
};

use futures_util::StreamExt as _;
use layerslayer::{BuiltToc, ReadMethod, SigningKey, Verification};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    args::{Common, TocBuildArguments, TocPushArguments},
    connect::{self, Connection},
    console::Console,
    exit::{Exit, Failure, chain},
    output::{Listing as _, facts::ImageFacts, json::Json, text},
    report::Report,
};

/// A private key is readable by its owner only.
const KEY_MODE: u32 = 0o600;

/// Runs `toc keygen`.
pub(crate) fn main(output: &Path) -> ExitCode {
    let console = Console::new(false, false);
    match keygen(output, &console) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            failure.messages.iter().for_each(|message| console.error(message));
            ExitCode::from(failure.exit.code())
        }
    }
}

/// Opens an image for a command that requires the cache.
async fn open(
    image: &str,
    common: &Common,
    operation: &str,
    console: &Console,
    report: &mut Report,
) -> Result<(Connection, ImageFacts), Failure> {
    if common.no_cache {
        return Err(Failure::usage(format!("{operation}, so --no-cache cannot be used")));
    }
    let connection = connect::open(image, common, console, report).await?;
    let facts = connect::facts(&connection.client, &connection.image, report).await?;
    Ok((connection, facts))
}

/// Runs `toc build`.
pub(crate) async fn build(
    arguments: &TocBuildArguments,
    console: &Console,
    report: &mut Report,
) -> Result<(), Failure> {
    let common = &arguments.common;
    let (Connection { client, image, writes: _writes }, facts) =
        open(&arguments.image, common, "`toc build` stores TOCs in the cache", console, report).await?;
    let mut out = console.stdout()?;
    let write_failure = |error: io::Error| Failure::writing("stdout", &error);
    if common.json {
        Json::new(&mut out).image(&facts).map_err(write_failure)?;
    }
    let (mut result, mut is_read) = (Ok(()), false);
    {
        let mut built = std::pin::pin!(image.build_tocs_in_turn());
        while let Some(toc) = built.next().await {
            let written = match toc {
                Ok(toc) => {
                    is_read |= toc.is_new;
                    line(&mut out, &toc, common.json).and_then(|()| out.flush()).map_err(write_failure)
                }
                Err(error) => Err(error.into()),
            };
            if written.is_err() {
                result = written;
                break;
            }
        }
    }
    report.read_by(&client);
    result?;
    match is_read {
        true => report.verified(Verification::Blob, ReadMethod::Scan),
        false => report.verified(Verification::Span, ReadMethod::Toc),
    }
    match common.json {
        true => Json::new(&mut out).end().map_err(write_failure),
        false => Ok(()),
    }
}

/// Runs `toc push`.
pub(crate) async fn push(
    arguments: &TocPushArguments,
    console: &Console,
    report: &mut Report,
) -> Result<(), Failure> {
    let common = &arguments.common;
    let (Connection { client, image, writes: _writes }, facts) =
        open(&arguments.image, common, "`toc push` takes TOCs from the cache", console, report).await?;
    let pushed = client.push_tocs(&image).await;
    report.read_by(&client);
    let pushed = pushed?;
    let mut out = console.stdout()?;
    let written = match common.json {
        true => {
            let (digest, tocs, bytes) = (pushed.digest.to_string(), pushed.tocs, pushed.bytes);
            let mut lines = Json::new(&mut out);
            lines.image(&facts).and_then(|()| {
                lines.pushed(&digest, tocs, bytes)?;
                lines.end()
            })
        }
        false => writeln!(out, "{}", pushed.digest),
    };
    written.and_then(|()| out.flush()).map_err(|error| Failure::writing("stdout", &error))
}

fn line(out: &mut impl Write, toc: &BuiltToc, json: bool) -> io::Result<()> {
    let state = if toc.is_new { "made" } else { "kept" };
    if !json {
        let entries = if toc.entries == 1 { "entry" } else { "entries" };
        let size = text::size(toc.size);
        return writeln!(out, "{}  {state}  {size:>8}  {} {entries}", toc.digest, toc.entries);
    }
    let BuiltToc { layer, entries, size, .. } = *toc;
    let line = Line { kind: "toc", layer, digest: toc.digest.to_string(), entries, size, state };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    layer: usize,
    digest: String,
    entries: u64,
    size: u64,
    state: &'static str,
}

fn keygen(path: &Path, console: &Console) -> Result<(), Failure> {
    let key = SigningKey::generate().map_err(|error| Failure::new(Exit::Other, chain(&error)))?;
    let failed = |error: io::Error| Failure::writing(path.display(), &error);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(path).map_err(failed)?;
    file.write_all(Zeroizing::new(key.expose_private_pem()).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    let mut out = console.stdout()?;
    let written = out.write_all(key.public_pem().as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::writing("stdout", &error))
}
