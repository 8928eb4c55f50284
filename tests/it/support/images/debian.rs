//! A real Debian root file system, made once per target folder by mmdebstrap and stored in each encoding.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use super::{
    super::tools,
    layer::{Compression, Layer},
    layout::{Image, Layout},
    oracle::{self, Unpacked},
};

/// The Debian release.
const SUITE: &str = "bookworm";

/// The layout with the images `gzip`, `none` and `zstd`: one layer each, the same 170 MB archive.
/// The first time needs Debian's mirror (about 30 s), later ones nothing.
pub(crate) fn layout() -> &'static Path {
    static LAYOUT: LazyLock<PathBuf> = LazyLock::new(|| {
        let finished = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("debian-{SUITE}-1"));
        if !finished.exists() {
            build(&finished);
        }
        finished
    });
    &LAYOUT
}

/// `oci:FOLDER:TAG` of one of the images.
pub(crate) fn reference(tag: &str) -> String {
    format!("oci:{}:{tag}", tools::text(layout()))
}

/// What a container of any of the images would see. Unpacked once per run (some 15 s).
pub(crate) fn unpacked() -> &'static BTreeMap<Vec<u8>, Unpacked> {
    static UNPACKED: LazyLock<BTreeMap<Vec<u8>, Unpacked>> =
        LazyLock::new(|| oracle::unpack(layout(), "gzip"));
    &UNPACKED
}

/// Builds in a temporary folder and renames it, so that an interrupted run leaves nothing that
/// looks finished.
fn build(finished: &Path) {
    let building =
        tempfile::Builder::new().prefix("debian-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let archive = building.path().join("root.tar");
    tools::run(
        tools::command("mmdebstrap")
            .env("SOURCE_DATE_EPOCH", "1704067200")
            .args(["--variant=minbase", "--quiet", SUITE])
            .arg(&archive),
    );
    let tar = fs::read(&archive).unwrap();
    let folder = building.path().join("layout");
    let mut layout = Layout::at(&folder);
    for (tag, compression) in
        [("gzip", Compression::Gzip), ("none", Compression::None), ("zstd", Compression::Zstd)]
    {
        let descriptor = layout.image(&Image::new().layer(Layer::new(&tar, compression)));
        layout.tag(tag, descriptor);
    }
    // Another process may have been faster; its layout is just as good.
    if let Err(error) = fs::rename(&folder, finished) {
        assert!(finished.exists(), "{}: {error}", finished.display());
    }
}
