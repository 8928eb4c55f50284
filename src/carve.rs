//! `carve`: the content of files, as a container would see them.

use futures_util::FutureExt as _;

use crate::{
    error::{Error, Kind},
    image::{
        Image,
        rootfs::{Content, Resolution},
    },
    layer::{
        Layer, Plan,
        ahead::Ahead,
        known::{Known, verification},
        scan::Reading,
    },
    tar::entry::EntryKind,
};

mod answer;
mod candidates;
mod collect;
mod collection;
mod fetch;
mod file;
mod hunt;
mod listing;
mod options;
mod pass;
mod planned;
mod selection;
mod sink;
mod spool;

use self::{
    answer::{is_unproved, rests_on},
    candidates::Candidates,
    hunt::{Extent, Query, stack},
    pass::Hunting,
    sink::{Reader, Sink, Stream},
};
pub use self::{
    collection::{Collection, Item},
    file::{File, Outcome},
    options::CarveOptions,
    selection::Selection,
};

impl Image {
    /// The file at `path` as a container would see it: links followed, whiteouts applied, the newest layer first.
    ///
    /// # Errors
    ///
    /// See [`Image::carve_with`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let content = image.carve("/etc/passwd").await?.read_to_end(1 << 20).await?;
    /// assert!(content.starts_with(b"root:"));
    /// assert!(image.carve("/app/secret").await.is_err_and(|error| error.is_deleted()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn carve(&self, path: impl AsRef<[u8]> + Send) -> Result<File, Error> {
        self.carve_with(path, &CarveOptions::default()).await
    }

    /// Like [`Image::carve`], with options.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is nothing at the path, a dangling link or a loop of links;
    /// [`Error::is_deleted`] if a newer layer ended the search; [`Error::is_wrong_kind`] if it is no file;
    /// [`Error::is_corrupt`], [`Error::is_unavailable`] and [`Error::is_unauthorized`] of the layers that were read. While
    /// content streams, errors of the same kinds are items of the stream.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::CarveOptions;
    ///
    /// let base = image.carve_with("/etc/passwd", &CarveOptions::default().layer(0)).await?;
    /// assert_eq!(base.entry().size, 30);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn carve_with(
        &self,
        path: impl AsRef<[u8]> + Send,
        options: &CarveOptions,
    ) -> Result<File, Error> {
        if let Some(layer) = options.layer {
            self.layer(layer)?;
        }
        let path = path.as_ref();
        match options.verifies() {
            true => self.carve_verified(path, *options).await,
            // On the heap: callers ask for many files at once.
            false => self.configured(self.carve_streaming(path, *options).boxed()).await,
        }
    }

    /// Content is given while it is read.
    async fn carve_streaming(&self, path: &[u8], options: CarveOptions) -> Result<File, Error> {
        let (mut held, mut hunted, mut plan) = (None, Vec::new(), Plan::Scan);
        let mut ahead = self.ahead(Reading::Growing, options);
        loop {
            let known = self.known();
            let (resolution, trace) = stack(&known).resolve(path, options.resolution());
            let (found, content, certain) = match unread(&known, &resolution) {
                Some(layer) => {
                    let learn = self.layer(layer)?.learn(options.least).boxed();
                    if ahead.meanwhile(learn).await? {
                        continue;
                    }
                    let again = hunted.contains(&layer);
                    hunted.push(layer);
                    let progress = self.read_on(known, layer, (path, again, options), &ahead).await?;
                    match progress {
                        Progress::Held(content, how) => (held, plan) = (content.or(held), how),
                        Progress::Streaming(file) => return Ok(*file),
                    }
                    continue;
                }
                None => {
                    let located = self.file_at(&stack(&known), path, resolution, &trace);
                    located.inspect_err(|_| self.warn_of_unproved(rests_on(&known, trace.oldest, options)))?
                }
            };
            let rest = rests_on(&known, trace.oldest, options);
            let certain = certain && !is_unproved(rest);
            if let Some((_, bytes)) = held.take_if(|(record, _)| *record == content) {
                let outcome = Outcome { verification: verification(rest), is_final: certain, plan };
                return Ok(File::held(found, bytes.into(), outcome));
            }
            let rest = (verification(rest), certain);
            let mut file = self.fetch(found, content, rest, &known, options)?;
            // What was begun of other layers is not polled from here on, and must hold nothing that the file needs.
            ahead = self.ahead(Reading::Growing, options);
            if known.get(content.layer).is_some_and(Known::is_unproved_ztoc)
                && let Err(error) = file.begin().await
            {
                if !error.is_corrupt() {
                    return Err(error);
                }
                // The table has been forgotten. Which of them is wrong the layer tells once all of it is hashed.
                hunted.push(content.layer);
                continue;
            }
            return Ok(file);
        }
    }

    /// Everything is read and hashed before anything is given.
    async fn carve_verified(&self, path: &[u8], options: CarveOptions) -> Result<File, Error> {
        let collection = self.collect(&Selection::paths([path]), &options).await?;
        collection.into_only_file()
    }

    /// Reads a layer until the path is answered as far as the layer can answer it.
    async fn read_on(
        &self,
        known: Vec<Known>,
        layer: usize,
        (path, again, options): (&[u8], bool, CarveOptions),
        ahead: &Ahead,
    ) -> Result<Progress, Error> {
        let (stream, reader) = Stream::new();
        let paths = [path.to_vec()];
        let query = Query {
            paths: &paths,
            candidates: Candidates::None,
            options: options.resolution(),
            extent: if again { Extent::Whole } else { options.extent() },
        };
        let Hunting { mut pass, demand, resumed } = self.hunt(known, layer, query, Sink::Stream(stream))?;
        let Reader { mut started, pieces } = reader;
        let started = tokio::select! {
            biased;
            Ok(started) = &mut started => started,
            never = ahead.run(layer, &demand) => match never {},
            result = &mut pass => {
                return match result {
                    Ok((Sink::Stream(mut stream), plan)) => Ok(Progress::Held(stream.held(), plan)),
                    Ok((Sink::Spool(_), plan)) => Ok(Progress::Held(None, plan)),
                    // Nothing vouches for what an earlier pass has left.
                    Err(error) if resumed && error.is_corrupt() => {
                        self.layer(layer)?.forget();
                        Ok(Progress::Held(None, Plan::Scan))
                    }
                    Err(error) => Err(error),
                };
            }
        };
        // More content than is held back: it flows on while the layer is read.
        let Some(found) = started.found else { return Ok(Progress::Held(None, Plan::Scan)) };
        let (image, path, content) = (self.clone(), path.to_vec(), started.content);
        let pass = async move {
            let plan = match pass.await {
                Ok((_, plan)) => plan,
                Err(error) => {
                    if resumed && error.is_corrupt() {
                        image.layer(layer)?.forget();
                    }
                    return Err(error);
                }
            };
            let known = image.known();
            let (resolution, trace) = stack(&known).resolve(&path, options.resolution());
            match resolution {
                Resolution::Found { content: last, certain, .. } if last == content => {
                    let rest = rests_on(&known, trace.oldest, options);
                    let certain = certain && !is_unproved(rest);
                    Ok(Outcome { verification: verification(rest), is_final: certain, plan })
                }
                _ => Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "layer {layer} of {} holds /{} again after the content that was given; --verify reads the whole layer",
                        image.reference(),
                        path.escape_ascii()
                    ),
                )),
            }
        };
        Ok(Progress::Streaming(Box::new(File::streaming(found, pieces, pass.boxed()))))
    }

    /// What asks for layers ahead of their turn, from the newest down; none where one layer alone is asked for, or where guesses are read
    /// anyway. Nobody knows whether the next one is needed before a layer has been read: of what is read to its end for a proof the
    /// first range is asked for, no more.
    fn ahead(&self, reading: Reading, options: CarveOptions) -> Ahead {
        let layers = self.layers().iter().rev().filter(|_| options.layer.is_none()).cloned();
        Ahead::new(layers, reading, options.least)
    }

    /// What is known of all layers now, base first.
    fn known(&self) -> Vec<Known> {
        self.layers().iter().map(Layer::known).collect()
    }
}

/// How a pass of [`Image::carve_with`] went.
enum Progress {
    /// The layer has answered what it can; content that is small and complete comes along.
    Held(Option<(Content, Vec<u8>)>, Plan),
    /// The content has begun to flow.
    Streaming(Box<File>),
}

/// The layer that is to be read on before a file is given. What is a directory so far may be a file by a later entry of its name.
fn unread(known: &[Known], resolution: &Resolution) -> Option<usize> {
    match *resolution {
        Resolution::NeedMore { layer } => Some(layer),
        Resolution::Found { content, .. } => {
            let is_directory = stack(known).kind(content) == EntryKind::Directory;
            let is_whole = matches!(known.get(content.layer), None | Some(Known::Wholly(..)));
            (is_directory && !is_whole).then_some(content.layer)
        }
        _ => None,
    }
}
