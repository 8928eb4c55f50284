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
const LAYERS: [&str; 3] =
    ["nginx", "python3-numpy,python3-pandas", "clang-14,libclang-14-dev,python3-scipy,python3-matplotlib"];

/// Changes with how images are made, so that old ones are not taken for new ones.
const FOLDER: &str = "images-1";

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
            Layer { size: layer["size"].as_u64().expect("a size"), file: blob(&digest), digest }
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
    umoci(&["tag", "--image", &tag("debian"), "ml"]);
    for packages in LAYERS {
        add_layer(folder, &tag("ml"), "--variant=extract", Some(packages));
    }
    umoci(&["gc", "--layout", tools::text(&layout)]);

    let registry = Registry::start(&folder.join("registry"));
    for name in ["debian", "ml"] {
        tools::run(
            tools::command("skopeo")
                .args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"])
                .arg(format!("oci:{}", tag(name)))
                .arg(format!("docker://{}/{name}:latest", registry.address())),
        );
    }
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
    tools::run(tools::command("umoci").args(["raw", "add-layer", "--image", image]).arg(&archive));
    fs::remove_file(&archive).expect("to remove the archive");
}
