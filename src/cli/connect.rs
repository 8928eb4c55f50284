//! From the command line to an open image.

use std::io;

use layerslayer::{Cache, CacheOptions, Client, Credential, Image, ImageReference, Platform};

use super::{
    args::Common,
    auth,
    console::Console,
    exit::{Failure, chain},
    output::facts::ImageFacts,
    report::Report,
};

/// An image and the client that reads it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) image: Image,
    /// To be kept until the answer is given.
    pub(crate) writes: Writes,
}

/// Waits, when dropped, for what is being written to the cache meanwhile.
#[derive(Debug)]
pub(crate) struct Writes(Option<Cache>);

impl Drop for Writes {
    fn drop(&mut self) {
        if let Some(cache) = &self.0 {
            cache.finish_writes();
        }
    }
}

/// Opens `image` as the flags say.
pub(crate) async fn open(
    image: &str,
    common: &Common,
    console: &Console,
    report: &mut Report,
) -> Result<Connection, Failure> {
    let reference: ImageReference = image
        .parse()
        .map_err(|error| Failure::usage(format!("malformed image reference {image:?}: {}", chain(&error))))?;
    let platform = match &common.platform {
        Some(text) => text
            .parse()
            .map_err(|error| Failure::usage(format!("malformed platform {text:?}: {}", chain(&error))))?,
        None => Platform::default(),
    };
    let mut builder = Client::builder()
        .plain_http(common.plain_http)
        .progress(console.display())
        .credential_sources(auth::sources());
    let writes = Writes(cache(common, console)?);
    if let Some(cache) = writes.0.clone() {
        builder = builder.cache(cache);
    }
    if let Some(bytes) = common.max_bytes {
        builder = builder.max_bytes(bytes);
    }
    if let Some(layers) = common.parallel_layers {
        builder = builder.parallel_layers(layers.into());
    }
    if let Some(file) = &common.ca {
        builder = builder.ca_file(file.clone());
    }
    if let Some(username) = &common.username {
        let ImageReference::Registry(reference) = &reference else {
            return Err(Failure::usage(format!("--username is for registries, and {image:?} is none")));
        };
        let credential = Credential::basic(username, auth::password::read(io::stdin().lock())?);
        builder = builder.credential(reference.registry(), credential);
    }
    let client = builder.build()?;
    let result = client.image(&reference, &platform).await;
    report.read_by(&client);
    let image = result?;
    // Sizes are what the manifest says: together they may be more than there is room for.
    let bytes = image.layers().iter().map(layerslayer::Layer::size).fold(0, u64::saturating_add);
    report.image(image.reference().to_string(), image.digest().to_string(), bytes);
    Ok(Connection { client, image, writes })
}

/// What there is to say of an image. Reads its configuration.
pub(crate) async fn facts(
    client: &Client,
    image: &Image,
    report: &mut Report,
) -> Result<ImageFacts, Failure> {
    let facts = ImageFacts::of(image).await;
    report.read_by(client);
    let facts = facts?;
    report.platform(&facts.platform);
    Ok(facts)
}

/// The cache, unless there is to be none. One that cannot be used is no reason not to answer.
fn cache(common: &Common, console: &Console) -> Result<Option<Cache>, Failure> {
    if common.no_cache {
        return Ok(None);
    }
    let options = CacheOptions::from_environment().map_err(|error| Failure::usage(error.to_string()))?;
    match Cache::open(&options) {
        Ok(cache) => Ok(Some(cache)),
        Err(error) if error.is_setting() => Err(Failure::usage(chain(&error))),
        Err(error) => {
            console.warning(&format!("{}; going on without the cache", chain(&error)));
            Ok(None)
        }
    }
}
