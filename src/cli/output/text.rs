//! Text output: the summary of an image, and listings like `tar -tv`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use layerslayer::{Entry, EntryKind};

use super::{
    Listing, Proof, Row,
    facts::{ConfigFacts, ImageFacts, LayerFacts},
    sanitize, time,
};

/// Digits of a shortened digest.
const DIGEST_DIGITS: usize = 12;

/// Initial width of owner, group and size together, as in GNU tar.
const OWNER_SIZE_COLUMNS: usize = 19;

/// Greatest width of the name of an owner or a group; Linux allows 32.
const MAX_OWNER_COLUMNS: usize = 32;

/// Greatest width of a path or a link target, one more than the longest path that Linux allows.
const MAX_PATH_COLUMNS: usize = 4096;

/// Prints the summary of an image, with lines cut at `width` columns.
pub(crate) fn summary(
    out: &mut impl Write,
    image: &ImageFacts,
    config: &ConfigFacts,
    layers: &[LayerFacts],
    width: Option<usize>,
) -> io::Result<()> {
    let mut line = |text: &str| writeln!(out, "{}", cut(text, width));
    let (reference, digest) = (Some(&image.reference), Some(&image.digest));
    let (platform, artifact) = (image.platform.as_ref(), image.artifact_type.as_ref());
    for (name, value) in
        [("image", reference), ("digest", digest), ("platform", platform), ("artifact", artifact)]
    {
        let Some(value) = value else { continue };
        line(&format!("{name:<12}{}", sanitize::message(value)))?;
    }
    for (name, value) in settings(config) {
        line(&format!("{name:<12}{}", sanitize::message(&value)))?;
    }
    line("")?;
    if layers.is_empty() {
        return line("no layers");
    }
    // The layers of an artifact can have any format, not only compressed tars.
    let (title, format): (_, fn(&LayerFacts) -> &str) = match image.artifact_type {
        Some(_) => ("MEDIA TYPE", |layer| &layer.media_type),
        None => ("ENCODING", LayerFacts::encoding),
    };
    let formats = layers.iter().map(|layer| format(layer).len()).fold(title.len(), usize::max);
    line(format!("LAYER  {:<12}  {:>9}  {title:<formats$}  CREATED BY", "DIGEST", "SIZE").trim_end())?;
    for layer in layers {
        let row = format!(
            "{:>5}  {:<12}  {:>9}  {:<formats$}  {}",
            layer.index,
            digits(&layer.digest),
            size(layer.size),
            sanitize::message(format(layer)),
            created_by(layer),
        );
        line(row.trim_end())?;
    }
    Ok(())
}

/// The settings of a configuration that are not empty.
fn settings(config: &ConfigFacts) -> Vec<(&'static str, String)> {
    let list = |values: &[String]| match values {
        [] => None,
        // As in a Dockerfile, JSON shows where words start and end.
        _ => serde_json::to_string(values).ok(),
    };
    let words = |values: &[String]| (!values.is_empty()).then(|| values.join(" "));
    let single = [
        ("created", config.created.clone()),
        ("user", config.user.clone()),
        ("workdir", config.working_dir.clone()),
        ("entrypoint", list(&config.entrypoint)),
        ("cmd", list(&config.cmd)),
        ("ports", words(&config.exposed_ports)),
        ("volumes", words(&config.volumes)),
        ("stop signal", config.stop_signal.clone()),
    ];
    let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let env = config.env.iter().map(|value| ("env", value.clone()));
    let labels = config.labels.iter().map(|(name, value)| ("label", format!("{name}={value}")));
    single.chain(env).chain(labels).collect()
}

/// Prints entries like `tar -tv`, below a header line for each layer.
pub(crate) struct Text<W> {
    out: W,
    /// The header of a layer whose first entry has not been printed yet.
    header: Option<String>,
    any: bool,
    columns: usize,
    line: String,
    style: Style,
    width: Option<usize>,
}

/// What a listing contains in addition to the entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// A header line for each layer.
    EveryLayer,
    /// A header line for each layer that has matching entries.
    LayersWithEntries,
    /// The layer index before each entry, `digits` columns wide.
    Rootfs { digits: usize },
}

impl<W: Write> Text<W> {
    /// Creates a listing to `out`, with header lines cut at `width` columns.
    pub(crate) fn new(out: W, style: Style, width: Option<usize>) -> Self {
        Self { out, header: None, any: false, columns: OWNER_SIZE_COLUMNS, line: String::new(), style, width }
    }

    fn write_header(&mut self) -> io::Result<()> {
        let Some(header) = self.header.take() else { return Ok(()) };
        if std::mem::replace(&mut self.any, true) {
            writeln!(self.out)?;
        }
        writeln!(self.out, "{}", cut(&header, self.width))
    }
}

impl<W: Write + Send> Listing for Text<W> {
    fn image(&mut self, _: &ImageFacts) -> io::Result<()> {
        Ok(())
    }

    fn config(&mut self, _: &ConfigFacts) -> io::Result<()> {
        Ok(())
    }

    fn layer(&mut self, layer: &LayerFacts) -> io::Result<()> {
        let header = format!(
            "layer {}  {}  {}  {}  {}",
            layer.index,
            sanitize::message(&layer.digest),
            size(layer.size),
            sanitize::message(layer.encoding()),
            created_by(layer)
        );
        match self.style {
            Style::EveryLayer | Style::LayersWithEntries => self.header = Some(header.trim_end().to_owned()),
            Style::Rootfs { .. } => {}
        }
        match self.style {
            Style::EveryLayer => self.write_header(),
            Style::LayersWithEntries | Style::Rootfs { .. } => Ok(()),
        }
    }

    fn entry(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.write_header()?;
        self.line.clear();
        if let Style::Rootfs { digits } = self.style {
            // Writing to a String cannot fail.
            let _ = write!(self.line, "{:>digits$} ", row.layer);
        }
        push_entry(&mut self.line, row.entry, &mut self.columns);
        if row.implied {
            self.line.push_str(" (implied)");
        }
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }

    fn layer_end(&mut self, _: usize, _: u64, _: &Proof) -> io::Result<()> {
        self.header = None;
        self.out.flush()
    }

    fn rootfs_end(&mut self, _: u64, _: &Proof) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Appends a line like `tar -tv`. `columns` is the width of owner and size together; it grows as needed. Long names are cut: many
/// entries can share one.
fn push_entry(line: &mut String, entry: &Entry, columns: &mut usize) {
    push_mode(line, entry);
    line.push(' ');
    let start = line.len();
    push_owner(line, &entry.uname, entry.uid);
    line.push('/');
    push_owner(line, &entry.gname, entry.gid);
    let size = match entry.device {
        Some((major, minor)) => format!("{major},{minor}"),
        None => entry.size.to_string(),
    };
    let used = line.get(start..).map_or(0, |owners| owners.chars().count()) + 1 + size.len();
    *columns = used.max(*columns);
    line.extend(std::iter::repeat_n(' ', *columns - used + 1));
    line.push_str(&size);
    line.push(' ');
    line.push_str(&time::minute(entry.mtime));
    line.push(' ');
    match entry.path.is_empty() {
        true => line.push('.'),
        false => push_cut(line, &entry.path, MAX_PATH_COLUMNS),
    }
    match entry.kind {
        EntryKind::Directory => line.push('/'),
        EntryKind::Hardlink => {
            line.push_str(" link to ");
            push_cut(line, &entry.link, MAX_PATH_COLUMNS);
        }
        EntryKind::Opaque => line.push_str("/ (opaque)"),
        EntryKind::Symlink => {
            line.push_str(" -> ");
            push_cut(line, &entry.link, MAX_PATH_COLUMNS);
        }
        EntryKind::Whiteout => line.push_str(" (whiteout)"),
        _ => {}
    }
}

fn push_mode(line: &mut String, entry: &Entry) {
    line.push(match entry.kind {
        EntryKind::Block => 'b',
        EntryKind::Char => 'c',
        EntryKind::Directory => 'd',
        EntryKind::Fifo => 'p',
        EntryKind::File => '-',
        EntryKind::Hardlink => 'h',
        EntryKind::Opaque => 'o',
        EntryKind::Symlink => 'l',
        EntryKind::Whiteout => 'w',
        _ => '?',
    });
    for (shift, special, lower, upper) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = entry.mode >> shift;
        line.push(if bits & 4 == 0 { '-' } else { 'r' });
        line.push(if bits & 2 == 0 { '-' } else { 'w' });
        line.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (true, true) => lower,
            (true, false) => upper,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
}

fn push_owner(line: &mut String, name: &[u8], id: u64) {
    match name {
        [] => line.push_str(&id.to_string()),
        _ => push_cut(line, name, MAX_OWNER_COLUMNS),
    }
}

/// Appends a name, cut to `columns` characters with a mark at the end.
fn push_cut(line: &mut String, name: &[u8], columns: usize) {
    let start = line.len();
    // A character has at most four bytes, so the rest cannot be visible.
    let visible = name.get(..columns.saturating_mul(4)).unwrap_or(name);
    sanitize::push_name(line, visible);
    let text = line.get(start..).unwrap_or_default();
    if let Some((end, _)) = text.char_indices().nth(columns - 1)
        && (text.chars().nth(columns).is_some() || visible.len() < name.len())
    {
        line.truncate(start + end);
        line.push('…');
    }
}

/// Formats a size with three digits and a decimal unit, like docker.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = "kB";
    for next in UNITS.into_iter().skip(1) {
        // A value that rounds to 1000 is printed in the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// The first digits of a digest.
fn digits(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..DIGEST_DIGITS).unwrap_or(hex)
}

/// The command that created a layer, on one line, without the prefix of the classic builder.
fn created_by(layer: &LayerFacts) -> String {
    let text = layer.created_by.as_deref().unwrap_or_default();
    let text = text.strip_prefix("/bin/sh -c #(nop)").unwrap_or(text);
    sanitize::message(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Cuts a line at `width` characters.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests;
