//! The images: Debian packages, assembled by `mmdebstrap` and `umoci`, pushed by `skopeo`. Built once, in `target/wan`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use layerslayer::Digest;
use serde_json::{Value, json};

use super::{noise::Noise, registry::Registry, tools};

/// The Debian release of the packages; its point releases change sizes slightly.
const SUITE: &str = "bookworm";

/// The packages in the layers of *ml* above the base, oldest first.
const LAYERS: [&str; 3] = ["nginx", "python3-numpy,python3-pandas", "python3-scipy"];

/// Images other than *debian*: the base with the first, or all, of the layers above it; and the smaller one with embedded TOCs.
pub(crate) const TWO: &str = "two";
const ML: &str = "ml";
pub(crate) const CHUNKED: &str = "two-zstd-chunked";
pub(crate) const ESTARGZ: &str = "two-estargz";

/// *debian* below small layers.
pub(crate) const SMALL: &str = "small";

/// Incompressible content of the layers of *small* above the base, oldest first, in KB.
const SMALL_LAYERS: [usize; 8] = [24, 4, 100, 8, 64, 16, 48, 32];

/// The annotation with the name of an image in a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation that marks a layer as eStargz and has the digest of its TOC.
const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// Length of the footer of an eStargz layer, which has the offset of the TOC.
const ESTARGZ_FOOTER: usize = 51;

/// Changes whenever the images are built differently, so that old ones are not reused.
const FOLDER: &str = "images-3";

/// Image layouts, and a registry storage with the images.
#[derive(Debug)]
pub(crate) struct Images {
    folder: PathBuf,
}

/// A layer, as described by the manifest.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// `sha256:…`.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    /// The blob.
    pub(crate) file: PathBuf,
    /// Size of the TOC embedded in the blob, in bytes, according to the manifest.
    pub(crate) toc: Option<u64>,
}

impl Images {
    /// Builds missing images below `target`; `estargz` is the program that makes eStargz layers, if it could be built.
    pub(crate) fn prepare(target: &Path, estargz: Option<&Path>) -> Self {
        let images = Self { folder: target.join(FOLDER) };
        if !images.folder.exists() {
            let building = target.join(format!("{FOLDER}.building"));
            let _ = fs::remove_dir_all(&building);
            fs::create_dir_all(&building).expect("a folder");
            build(&building);
            // An interrupted build never gets the final name.
            fs::rename(&building, &images.folder).expect("a folder");
        }
        if let Some(program) = estargz.filter(|_| !images.has_estargz()) {
            let building = images.folder.join("estargz.building");
            let _ = fs::remove_dir_all(&building);
            images.build_estargz(program, &building);
            fs::rename(&building, images.layout(ESTARGZ)).expect("a folder");
        }
        if !images.layout(SMALL).exists() {
            let building = images.folder.join("small.building");
            let _ = fs::remove_dir_all(&building);
            images.build_small(&building);
            fs::rename(&building, images.layout(SMALL)).expect("a folder");
        }
        images
    }

    /// Whether an image of eStargz layers exists.
    pub(crate) fn has_estargz(&self) -> bool {
        self.layout(ESTARGZ).exists()
    }

    /// The registry storage with the images.
    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.join("registry")
    }

    /// The layers of an image, base first.
    pub(crate) fn layers(&self, name: &str) -> Vec<Layer> {
        let layout = self.layout(name);
        let layer = |layer: &Value| {
            let digest = layer["digest"].as_str().expect("a digest").to_owned();
            let file = blob(&layout, &digest);
            let chunked = layer["annotations"]["io.containers.zstd-chunked.manifest-position"].as_str();
            let toc = match chunked {
                Some(position) => position.split(':').nth(1).and_then(|length| length.parse().ok()),
                None => layer["annotations"].get(TOC_DIGEST).map(|_| estargz_toc(&file)),
            };
            Layer { size: layer["size"].as_u64().expect("a size"), file, toc, digest }
        };
        self.manifest(name)["layers"].as_array().expect("layers").iter().map(layer).collect()
    }

    /// The layout with the blobs of an image.
    fn layout(&self, name: &str) -> PathBuf {
        self.folder.join(match name {
            ESTARGZ => "estargz",
            SMALL => "small",
            _ => "layout",
        })
    }

    fn manifest(&self, name: &str) -> Value {
        let layout = self.layout(name);
        let index = json_of(&layout.join("index.json"));
        let manifest = index["manifests"]
            .as_array()
            .expect("manifests")
            .iter()
            .find(|manifest| manifest["annotations"][NAME] == name)
            .and_then(|manifest| manifest["digest"].as_str())
            .expect("an image of this name");
        json_of(&blob(&layout, manifest))
    }

    /// Adds small layers to *debian* and pushes the image to the registry.
    fn build_small(&self, layout: &Path) {
        eprintln!("building {SMALL}");
        fs::create_dir_all(layout).expect("a folder");
        let debian = format!("oci:{}:debian", self.layout("debian").display());
        let image = format!("{}:{SMALL}", layout.display());
        copy(&[&debian, &format!("oci:{image}")]);
        let archive = self.folder.join("layer.tar");
        for (index, size) in SMALL_LAYERS.into_iter().enumerate() {
            let content = Noise::new(index as u64 + 1).bytes(size * 1000);
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            let mut layer = tar::Builder::new(fs::File::create(&archive).expect("an archive"));
            let path = format!("srv/app/part-{index}");
            layer.append_data(&mut header, path, content.as_slice()).expect("to write the archive");
            layer.into_inner().expect("to write the archive");
            tools::run(tools::command("umoci").args(["raw", "add-layer", "--image", &image]).arg(&archive));
        }
        fs::remove_file(&archive).expect("to remove the archive");
        tools::run(tools::command("umoci").args(["gc", "--layout"]).arg(layout));
        push(&Registry::start(&self.storage()), layout, SMALL);
    }

    /// Rebuilds *two* with eStargz layers and pushes it to the registry.
    fn build_estargz(&self, program: &Path, layout: &Path) {
        fs::create_dir_all(layout.join("blobs/sha256")).expect("a folder");
        let store = |content: &[u8], media_type: &str| -> Value {
            let digest = Digest::sha256(content).to_string();
            fs::write(blob(layout, &digest), content).expect("a blob");
            json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
        };
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in self.layers(TWO) {
            eprintln!("making a layer of {ESTARGZ} of {}", layer.digest);
            let made = layout.join("layer");
            let said = tools::run(std::process::Command::new(program).arg(&layer.file).arg(&made));
            let said = String::from_utf8(said).expect("text");
            let (diff_id, toc_digest) = said.trim_end().split_once('\n').expect("two digests");
            let content = fs::read(&made).expect("a layer");
            fs::remove_file(&made).expect("to remove the layer");
            let mut descriptor = store(&content, "application/vnd.oci.image.layer.v1.tar+gzip");
            descriptor["annotations"] = json!({ TOC_DIGEST: toc_digest });
            layers.push(descriptor);
            diff_ids.push(diff_id.to_owned());
        }
        let two = self.manifest(TWO);
        let mut config =
            json_of(&blob(&self.layout(TWO), two["config"]["digest"].as_str().expect("a digest")));
        config["rootfs"]["diff_ids"] = json!(diff_ids);
        let config = store(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        let mut descriptor = store(manifest.to_string().as_bytes(), media_type);
        descriptor["annotations"] = json!({ NAME: ESTARGZ });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        fs::write(layout.join("index.json"), index.to_string()).expect("a file");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        let registry = Registry::start(&self.storage());
        push(&registry, layout, ESTARGZ);
    }
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a blob")).expect("JSON")
}

/// Compressed size of the TOC of an eStargz layer: from the offset in its footer to the footer.
fn estargz_toc(file: &Path) -> u64 {
    let content = fs::read(file).expect("a blob");
    let (blob, footer) = content.split_at(content.len() - ESTARGZ_FOOTER);
    // Ten bytes of gzip header, two of a length, four of a subfield header; then a hexadecimal number.
    let offset = std::str::from_utf8(&footer[16..32]).expect("text");
    blob.len() as u64 - u64::from_str_radix(offset, 16).expect("an offset")
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

    // Layers that are already compressed would be copied as they are.
    let plain = format!("dir:{}", folder.join("plain").display());
    copy(&["--dest-decompress", &format!("oci:{}", tag(TWO)), &plain]);
    let format = "--dest-compress-format=zstd:chunked";
    copy(&["--dest-compress", format, &plain, &format!("oci:{}", tag(CHUNKED))]);
    fs::remove_dir_all(folder.join("plain")).expect("to remove the copy");

    let registry = Registry::start(&folder.join("registry"));
    for name in ["debian", TWO, ML, CHUNKED] {
        push(&registry, &layout, name);
    }
}

fn push(registry: &Registry, layout: &Path, name: &str) {
    let source = format!("oci:{}:{name}", layout.display());
    let destination = format!("docker://{}/{name}:latest", registry.address());
    copy(&["--preserve-digests", "--dest-tls-verify=false", &source, &destination]);
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

/// Leaves two zero blocks at the end of a tar: skopeo 1.9 drops any further ones in zstd:chunked, and the DiffID would be wrong.
fn cut_padding(archive: &Path) {
    let file = fs::File::options().read(true).write(true).open(archive).expect("the archive");
    let mut end = 0;
    for entry in tar::Archive::new(&file).entries_with_seek().expect("a tar") {
        let entry = entry.expect("an entry");
        end = entry.raw_file_position() + entry.size().next_multiple_of(512);
    }
    file.set_len(end + 1024).expect("to cut the archive");
}
