//! The cost of a stored TOC: writing it, opening it, looking up a path.
#![expect(clippy::print_stderr, reason = "the measurements are the output")]

use std::{fs, hint::black_box, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use layerslayer::{Entry, EntryKind, Timestamp, Uncompressed, internals::Toc};

/// Entries of the layer.
const ENTRIES: usize = 25_000;

/// Sources of real names, sizes and times.
const FOLDERS: [&str; 2] = ["/usr", "/etc"];

/// Larger files count as this many bytes, so that a few debug packages do not dominate the layer.
const FILE_BYTES: u64 = 96 << 10;

/// Bytes of a tar block.
const BLOCK: u64 = 512;

fn main() {
    let mut entries = Vec::new();
    for folder in FOLDERS {
        walk(Path::new(folder), &mut entries);
    }
    let real = entries.len();
    for number in entries.len()..ENTRIES {
        entries.push(Entry::new(format!("synthetic/{}/{number}", number % 97), EntryKind::File));
    }
    let unpacked = lay_out(&mut entries);
    let made = Toc::of(entries, unpacked).expect("a TOC");
    let stored = made.stored().expect("a stored TOC");
    let only_entries = {
        let without_entries = Toc::of([], unpacked).expect("a TOC").stored().expect("a stored TOC");
        stored.len() - without_entries.len()
    };
    eprintln!(
        "{ENTRIES} entries, {real} of them of this machine; unpacked {} MiB: stored in {} bytes, {:.1} an entry",
        unpacked >> 20,
        stored.len(),
        only_entries as f64 / ENTRIES as f64,
    );
    let stored = Bytes::from(stored);
    let paths = made.paths();

    let mut criterion =
        Criterion::default().sample_size(20).measurement_time(Duration::from_secs(5)).configure_from_args();
    let mut group = criterion.benchmark_group("toc");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("write", |bencher| bencher.iter(|| black_box(made.stored().expect("a stored TOC"))));
    group.bench_function("open", |bencher| {
        bencher.iter(|| black_box(Toc::open(stored.clone()).expect("a valid TOC")));
    });
    group.finish();
    let opened = Toc::open(stored).expect("a valid TOC");
    let mut wanted = paths.iter().cycle().step_by(9_973);
    criterion.bench_function("toc/lookup", |bencher| {
        bencher.iter(|| black_box(opened.lookup(wanted.next().expect("a path")).expect("an entry")));
    });
    criterion.final_summary();
}

/// Adds the entries below a folder of this machine, sorted by name, up to `ENTRIES`.
fn walk(folder: &Path, entries: &mut Vec<Entry>) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => EntryKind::Directory,
            kind if kind.is_symlink() => EntryKind::Symlink,
            kind if kind.is_file() => EntryKind::File,
            _ => continue,
        };
        if entries.len() == ENTRIES {
            return;
        }
        let name = path.as_os_str().as_encoded_bytes();
        let mut entry = Entry::new(name.strip_prefix(b"/").unwrap_or(name), kind);
        entry.mode = metadata.mode() & 0o7777;
        entry.mtime = Timestamp { seconds: metadata.mtime(), nanoseconds: 0 };
        match kind {
            EntryKind::File => entry.size = metadata.len().min(FILE_BYTES),
            EntryKind::Symlink => {
                let target = fs::read_link(&path).unwrap_or_default();
                entry.link = target.as_os_str().as_encoded_bytes().to_vec();
            }
            _ => {}
        }
        entry.stored_size = entry.size;
        entries.push(entry);
        if kind == EntryKind::Directory {
            walk(&path, entries);
        }
    }
}

/// Sets the offsets of the entries as in a tar; returns its end.
fn lay_out(entries: &mut [Entry]) -> u64 {
    let mut end = 0;
    for entry in entries {
        entry.header_offset = Uncompressed(end);
        entry.data_offset = Uncompressed(end + BLOCK);
        end = (end + BLOCK + entry.stored_size).next_multiple_of(BLOCK);
    }
    end + 2 * BLOCK
}
