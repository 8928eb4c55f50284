//! Opens the image that the command line names.

use std::io;

use layerslayer::{
    Cache, CacheOptions, CarveOptions, Client, Credential, Error, File, Image, ImageReference, Limits,
    Platform,
};

use super::{
    args::Common,
    auth,
    console::Console,
    exit::{Failure, chain},
    output::facts::ImageFacts,
    report::Report,
};

/// An open image and the client that reads it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) image: Image,
    /// Keep this until the result has been printed.
    pub(crate) writes: CacheWrites,
}

/// The client, image and platform that the options select.
struct Target {
    client: Client,
    reference: ImageReference,
    platform: Platform,
    writes: CacheWrites,
}

/// Waits on drop for pending writes to the cache.
#[derive(Debug)]
pub(crate) struct CacheWrites(Option<Cache>);

impl Drop for CacheWrites {
    fn drop(&mut self) {
        if let Some(cache) = &self.0 {
            cache.finish_writes();
        }
    }
}

/// Opens `image` with the given options.
pub(crate) async fn open(
    image: &str,
    common: &Common,
    console: &Console,
    report: &mut Report,
) -> Result<Connection, Failure> {
    let Target { client, reference, platform, writes } = target(image, common, console)?;
    let result = client.image(&reference, &platform).await;
    report.read_by(&client);
    let image = result?;
    report.opened(&image);
    Ok(Connection { client, image, writes })
}

/// Opens `image` with the given options and finds the file at `path`.
pub(crate) async fn carve(
    (image, path, options): (&str, &[u8], &CarveOptions),
    common: &Common,
    console: &Console,
    report: &mut Report,
) -> Result<(Connection, Result<File, Error>), Failure> {
    let Target { client, reference, platform, writes } = target(image, common, console)?;
    let result = client.carve(&reference, &platform, path, options).await;
    report.read_by(&client);
    let (image, file) = result?;
    report.opened(&image);
    Ok((Connection { client, image, writes }, file))
}

fn malformed(image: &str, error: &dyn std::error::Error) -> Failure {
    let shown = ImageReference::redact(image);
    // The cause quotes parts of the reference.
    let problem = match shown == image {
        true => chain(error),
        false => "it has a user name or password; use --username and --password-stdin, or layerslayer login"
            .to_owned(),
    };
    Failure::usage(format!("malformed image reference {shown:?}: {problem}"))
}

/// Builds the client and parses the reference and the platform.
fn target(image: &str, common: &Common, console: &Console) -> Result<Target, Failure> {
    let reference = ImageReference::detect(image).map_err(|error| malformed(image, &error))?;
    if ImageReference::is_registry_url(image) {
        console.warning(&format!(
            "{image} is read as {reference} in a registry; layouts are written oci:DIRECTORY"
        ));
    } else if image.parse::<ImageReference>().ok().as_ref() != Some(&reference) {
        console.warning(&format!("{image} is read as {reference}"));
    }
    let platform = match &common.platform {
        Some(text) => text
            .parse()
            .map_err(|error| Failure::usage(format!("malformed platform {text:?}: {}", chain(&error))))?,
        None => Platform::default(),
    };
    let mut builder = Client::builder()
        .plain_http(common.plain_http)
        .address_policy(auth::address_policy(&common.allow_host))
        .progress(console.display())
        .credentials(auth::credentials());
    let writes = CacheWrites(cache(common, console)?);
    if let Some(cache) = writes.0.clone() {
        builder = builder.cache(cache);
    }
    if let Some(bytes) = common.max_bytes {
        builder = builder.max_bytes(bytes);
    }
    if let Some(bytes) = common.max_unpacked {
        builder = builder.limits(Limits::default().with_unpacked_archive_bytes(bytes));
    }
    if let Some(layers) = common.parallel_layers {
        builder = builder.parallel_layers(layers.into());
    }
    if let Some(file) = &common.ca {
        builder = builder.ca_file(file.clone());
    }
    if let Some(username) = &common.username {
        let ImageReference::Registry(reference) = &reference else {
            return Err(Failure::usage(format!(
                "--username requires a registry image; {image:?} is not one"
            )));
        };
        auth::check_username(username)?;
        let mut password = auth::password::read(io::stdin().lock())?;
        let credential =
            Credential::basic(username, std::mem::take(&mut *password)).with_source("--username");
        builder = builder.credential(reference.registry(), credential);
    }
    Ok(Target { client: builder.build()?, reference, platform, writes })
}

/// Returns the facts of an image. Reads its configuration.
pub(crate) async fn facts(
    client: &Client,
    image: &Image,
    report: &mut Report,
) -> Result<ImageFacts, Failure> {
    let facts = ImageFacts::of(image).await;
    report.read_by(client);
    let facts = facts?;
    report.platform(facts.platform.as_deref());
    Ok(facts)
}

/// Opens the cache unless `--no-cache` is given. A cache that cannot be opened is only a warning.
fn cache(common: &Common, console: &Console) -> Result<Option<Cache>, Failure> {
    if common.no_cache {
        return Ok(None);
    }
    let options = CacheOptions::from_environment().map_err(|error| Failure::usage(error.to_string()))?;
    match Cache::open(&options) {
        Ok(cache) => Ok(Some(cache)),
        Err(error) if error.is_setting() => Err(Failure::usage(chain(&error))),
        Err(error) => {
            console.warning(&format!("{}; continuing without the cache", chain(&error)));
            Ok(None)
        }
    }
}
