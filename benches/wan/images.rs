//! The images: Debian packages, put together by `mmdebstrap` and `umoci`, pushed by `skopeo`. Built once into `target/wan`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{registry::Registry, tools};

/// The release that packages come from; its point releases change sizes a little.
const SUITE: &str = "bookworm";

/// What goes into the layers of *ml* above the base, oldest first.
const LAYERS: [&str; 3] = ["nginx", "python3-numpy,python3-pandas", "python3-scipy"];

/// Images beside *debian*: the base and the first, or all, of the layers above; and the smaller one as zstd:chunked.
const TWO: &str = "two";
const ML: &str = "ml";
const CHUNKED: &str = "two-zstd-chunked";

/// Changes with how images are made, so that old ones are not taken for new ones.
const FOLDER: &str = "images-3";

/// An image layout with both images, and a registry's storage that holds them.
#[derive(Debug)]
pub(crate) struct Images {
    folder: PathBuf,
}

/// A layer as the manifest describes it.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// `sha256:…`.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    /// The blob.
    pub(crate) file: PathBuf,
    /// Bytes of the table of contents that the blob brings, as the manifest says.
    pub(crate) table: Option<u64>,
}

impl Images {
    /// Builds what is not there yet, below `target`.
    pub(crate) fn prepare(target: &Path) -> Self {
        let images = Self { folder: target.join(FOLDER) };
        if !images.folder.exists() {
            let building = target.join(format!("{FOLDER}.building"));
            let _ = fs::remove_dir_all(&building);
            fs::create_dir_all(&building).expect("a folder");
            build(&building);
            // What was cut short never gets the name that is looked for.
            fs::rename(&building, &images.folder).expect("a folder");
        }
        images
    }

    /// The storage of a registry with both images.
    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.join("registry")
    }

    /// The layers of an image, base first.
    pub(crate) fn layers(&self, name: &str) -> Vec<Layer> {
        let blob = |digest: &str| self.folder.join("layout/blobs").join(digest.replace(':', "/"));
        let json = |path: PathBuf| -> Value {
            serde_json::from_slice(&fs::read(&path).expect("a blob")).expect("JSON")
        };
        let index = json(self.folder.join("layout/index.json"));
        let manifest = index["manifests"]
            .as_array()
            .expect("manifests")
            .iter()
            .find(|manifest| manifest["annotations"]["org.opencontainers.image.ref.name"] == name)
            .and_then(|manifest| manifest["digest"].as_str())
            .expect("an image of this name");
        let layer = |layer: &Value| {
            let digest = layer["digest"].as_str().expect("a digest").to_owned();
            let table = layer["annotations"]["io.containers.zstd-chunked.manifest-position"].as_str();
            Layer {
                size: layer["size"].as_u64().expect("a size"),
                file: blob(&digest),
                table: table.and_then(|position| position.split(':').nth(1)?.parse().ok()),
                digest,
            }
        };
        json(blob(manifest))["layers"].as_array().expect("layers").iter().map(layer).collect()
    }
}

fn build(folder: &Path) {
    let layout = folder.join("layout");
    let tag = |name: &str| format!("{}:{name}", layout.display());
    let umoci = |arguments: &[&str]| tools::run(tools::command("umoci").args(arguments));
    umoci(&["init", "--layout", tools::text(&layout)]);
    umoci(&["new", "--image", &tag("debian")]);
    add_layer(folder, &tag("debian"), "--variant=minbase", None);
    let mut below = "debian";
    for (name, packages) in [(TWO, &LAYERS[..1]), (ML, &LAYERS[1..])] {
        umoci(&["tag", "--image", &tag(below), name]);
        for packages in packages {
            add_layer(folder, &tag(name), "--variant=extract", Some(packages));
        }
        below = name;
    }
    umoci(&["gc", "--layout", tools::text(&layout)]);

    // Compressed layers would be taken as they are.
    let plain = format!("dir:{}", folder.join("plain").display());
    copy(&["--dest-decompress", &format!("oci:{}", tag(TWO)), &plain]);
    let format = "--dest-compress-format=zstd:chunked";
    copy(&["--dest-compress", format, &plain, &format!("oci:{}", tag(CHUNKED))]);
    fs::remove_dir_all(folder.join("plain")).expect("to remove the copy");

    let registry = Registry::start(&folder.join("registry"));
    for name in ["debian", TWO, ML, CHUNKED] {
        let destination = format!("docker://{}/{name}:latest", registry.address());
        copy(&["--preserve-digests", "--dest-tls-verify=false", &format!("oci:{}", tag(name)), &destination]);
    }
}

fn copy(arguments: &[&str]) {
    tools::run(tools::command("skopeo").args(["copy", "--quiet"]).args(arguments));
}

fn add_layer(folder: &Path, image: &str, variant: &str, packages: Option<&str>) {
    let archive = folder.join("layer.tar");
    eprintln!("building a layer of {image}: {}", packages.unwrap_or("the base system"));
    tools::run(
        tools::command("mmdebstrap")
            .env("SOURCE_DATE_EPOCH", "1704067200")
            .args(["--quiet", variant])
            .args(packages.map(|packages| format!("--include={packages}")))
            .arg(SUITE)
            .arg(&archive),
    );
    cut_padding(&archive);
    tools::run(tools::command("umoci").args(["raw", "add-layer", "--image", image]).arg(&archive));
    fs::remove_file(&archive).expect("to remove the archive");
}

/// Leaves two zero blocks at the end of a tar: of more, skopeo 1.9 keeps only two in zstd:chunked, and the DiffID would be wrong.
fn cut_padding(archive: &Path) {
    let file = fs::File::options().read(true).write(true).open(archive).expect("the archive");
    let mut end = 0;
    for entry in tar::Archive::new(&file).entries_with_seek().expect("a tar") {
        let entry = entry.expect("an entry");
        end = entry.raw_file_position() + entry.size().next_multiple_of(512);
    }
    file.set_len(end + 1024).expect("to cut the archive");
}
