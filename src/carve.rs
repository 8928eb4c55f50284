//! `carve`: the content of files, as a container would see them.
//!
//! ```text
//! Selection ─▶ search: discover a TOC, else a pass with PathSearch ─▶ content: held ▸ streamed ▸ spooled ▸ read by the TOC
//! ```

use std::collections::HashMap;

use futures_util::FutureExt as _;

use crate::{
    error::{Error, Kind},
    hint::Hint,
    image::{
        Image,
        rootfs::{Content, Resolution},
    },
    layer::toc_state::{TocState, verification},
    read::{method::ReadMethod, task::Task, verification::Verification},
    reader::driver,
};

mod answer;
mod blob;
mod candidates;
mod collect;
mod collection;
mod content_fetch;
mod file;
mod listing;
pub(crate) mod locate;
mod metadata;
mod options;
mod path_search;
mod planned;
mod search;
mod selection;
mod sink;
mod spool;

use self::{
    answer::{depends_on, is_untrusted},
    content_fetch::ContentFetch,
    file::FoundFile,
    path_search::stack,
    sink::{ContentSink, Sinks, StreamReader, StreamSink},
};
pub use self::{
    blob::LayerBlob,
    collection::{Collection, Item},
    file::{File, Outcome},
    metadata::DirectoryEntry,
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
        self.begin_question();
        if let Some(layer) = options.layer {
            self.layer(layer)?;
        }
        let path = path.as_ref();
        // On the heap: callers carve many files at once.
        match options.verifies() {
            true => self.carve_verified(path, *options).boxed().await,
            false => self.configured(self.carve_streaming(path, *options).boxed()).await,
        }
    }

    /// Everything is read and hashed before anything is given.
    async fn carve_verified(&self, path: &[u8], options: CarveOptions) -> Result<File, Error> {
        let collection = self.collect(&Selection::paths([path]), &options).await?;
        collection.into_only_file()
    }

    /// Content is given while it is read.
    async fn carve_streaming(&self, path: &[u8], options: CarveOptions) -> Result<File, Error> {
        let (sender, StreamReader { started, pieces }) = StreamSink::channel();
        let (image, path, sinks) = (self.clone(), path.to_vec(), Sinks::Stream(sender));
        let mut answering = Task::spawn(async move { image.answer(&path, options, sinks).await });
        let answer = tokio::select! {
            biased;
            Ok(started) = started => {
                let Some(found) = started.found else {
                    return Err(Error::new(Kind::Other, "content has no entry"));
                };
                // More content than is held back: it flows while the layer is read.
                let streamed = started.content;
                let outcome = Task::spawn(async move {
                    match answering.await? {
                        Answer::Streamed(content, outcome) if content == streamed => Ok(outcome),
                        _ => Err(Error::new(Kind::Other, "content was not streamed to its end")),
                    }
                });
                return Ok(File::streaming(found, pieces, outcome));
            }
            answer = &mut answering => answer?,
        };
        match answer {
            Answer::File(file) => Ok(*file),
            Answer::Streamed(..) => Err(Error::new(Kind::Other, "content was streamed to no one")),
        }
    }

    /// Searches for a file, and gives its content or how to read it.
    async fn answer(&self, path: &[u8], options: CarveOptions, sinks: Sinks) -> Result<Answer, Error> {
        let (selection, mut searched) = (Selection::file(path), Vec::new());
        let is_started = |sinks: &Sinks| sinks.make().is_ok_and(|sink| sink.is_none());
        loop {
            let found = self.search(&selection, options, &sinks, &mut searched).await?;
            let (mut sink, method) = (found.sink, found.method);
            let states = self.toc_states();
            let (resolution, trace) = stack(&states).resolve(path, options.resolution());
            let layers = depends_on(&states, trace.oldest, options);
            if is_started(&sinks) {
                return self.streamed(path, &resolution, layers, method, sink);
            }
            let located = self.file_at(&stack(&states), path, resolution, &trace);
            let (found, content, certain) = located.inspect_err(|_| self.warn_untrusted(layers))?;
            let certain = certain && !is_untrusted(layers);
            if let ContentSink::Stream(stream) = &mut sink
                && let Some((_, bytes)) = stream.held().filter(|(record, _)| *record == content)
            {
                let verification = verification(layers);
                let outcome = Outcome { verification, is_final: certain, method };
                return Ok(Answer::File(Box::new(File::held(found, bytes.into(), outcome))));
            }
            drop(sink);
            let verified = (verification(layers), certain);
            let mut file = self.read_file(found, content, verified, &states, options)?;
            if states.get(content.layer).is_some_and(TocState::is_untrusted_ztoc)
                && let Err(error) = file.begin().await
            {
                if !error.is_corrupt() {
                    return Err(error);
                }
                // The TOC has been dropped. A pass over the whole layer finds out whether the TOC or the layer is wrong.
                searched.push(content.layer);
                continue;
            }
            return Ok(Answer::File(Box::new(file)));
        }
    }

    /// The outcome of a search whose content was streamed while the layer was read.
    fn streamed(
        &self,
        path: &[u8],
        resolution: &Resolution,
        layers: &[TocState],
        method: ReadMethod,
        sink: ContentSink,
    ) -> Result<Answer, Error> {
        let streamed = match sink {
            ContentSink::Stream(stream) => stream.streamed(),
            ContentSink::Discard | ContentSink::Spool(_) => None,
        };
        match *resolution {
            Resolution::Found { content, certain, .. } if Some(content) == streamed => {
                let is_final = certain && !is_untrusted(layers);
                let outcome = Outcome { verification: verification(layers), is_final, method };
                Ok(Answer::Streamed(content, outcome))
            }
            _ => {
                let (path, image) = (path.escape_ascii(), self.reference());
                let message =
                    format!("a layer of {image} holds /{path} again after the content that was given");
                Err(Error::new(Kind::Corrupt, message).with_hint(Hint::VerifyWholeLayer))
            }
        }
    }

    /// Reads content of a layer that is known: by its TOC, or by reading the layer again.
    fn read_file(
        &self,
        found: FoundFile,
        content: Content,
        (verification, is_final): (Verification, bool),
        states: &[TocState],
        options: CarveOptions,
    ) -> Result<File, Error> {
        let (sender, StreamReader { pieces, .. }) = StreamSink::channel();
        let Some(state) = states.get(content.layer).cloned() else { return Err(self.lost(content)) };
        let wanted = HashMap::from([(state.tree().header_offset(content.record), content)]);
        let sink = ContentSink::Stream(StreamSink::direct(sender));
        let fetch = ContentFetch::new(wanted, options.stop_when(), sink);
        let layer = self.layer(content.layer)?.clone();
        let pass = Task::spawn(async move {
            let (records, min_verification) = (vec![content.record], options.min_verification);
            let read = driver::read_content(&layer, &state, records, min_verification, fetch);
            let (fetch, level, method) = read.await?;
            fetch.finish().map_err(|error| layer.error(error))?;
            Ok(Outcome { verification: level.min(verification), is_final, method })
        });
        Ok(File::streaming(found, pieces, pass))
    }
}

/// How a search for a file ended.
enum Answer {
    /// The file.
    File(Box<File>),
    /// Its content was streamed while its layer was read.
    Streamed(Content, Outcome),
}
