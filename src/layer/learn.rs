//! What can be known of a layer without streaming it.
//!
//! ```text
//! the cache ─▶ a table inside the blob ─▶ one beside the image (SOCI, pushed) ─▶ a shared hint ─▶ (a pass over the layer) ─▶ the cache
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Layer, Verification,
    extract::Extraction,
    inside::{content_level, published},
    known::{Known, Place, Proved},
    pushed::PushedTocs,
    record::WindowSpool,
};
use crate::{
    cache::{Cache, SharedToc},
    decompress::Encoding,
    error::Error,
    toc::{ContentMap, LayerToc, entries::EntryTree, format, spans::Spans},
};

impl Layer {
    /// What is known of the layer now.
    pub(crate) fn known(&self) -> Known {
        self.knowledge.now()
    }

    /// Looks for a table of contents where none has been looked for yet; `least` is what must vouch for it. Tells whether more is
    /// known now.
    pub(crate) async fn learn(&self, least: Verification) -> Result<bool, Error> {
        if self.learn_from_twin(least).await || self.learn_here(least).await? {
            return Ok(true);
        }
        if least > Verification::Span {
            return Ok(false);
        }
        if self.knowledge.ask(Place::Registry) && self.learn_pushed().await {
            return Ok(true);
        }
        if self.knowledge.ask(Place::Shared) && self.learn_shared(least).await {
            return Ok(true);
        }
        let is_asked = least == Verification::None && self.knowledge.pushed.is_some();
        Ok(is_asked && self.knowledge.ask(Place::Referring) && self.learn_referring().await)
    }

    /// Looks for a table that others have stored, last of all: where no trusted key vouches for it, it is a hint and no more.
    async fn learn_shared(&self, least: Verification) -> bool {
        let (Some(cache), Some(digest)) = (self.knowledge.cache.clone(), self.digest.clone()) else {
            return false;
        };
        let read = move || cache.shared_toc(&digest);
        let Some(opened) = tokio::task::spawn_blocking(read).await.unwrap_or_default() else { return false };
        let (bytes, level) = match opened {
            SharedToc::Untrusted(bytes) => (bytes, Verification::None),
            SharedToc::Trusted(bytes) => (bytes, Verification::Span),
        };
        if level < least {
            return false;
        }
        match self.stored_toc(move || Some(bytes)).await {
            Some(Ok((header, toc))) if header.complete => {
                self.warn_of(&toc.entries);
                self.knowledge.keep(Known::Wholly(Arc::new(toc), level));
                true
            }
            Some(Err(error)) => {
                let name = &self.name;
                self.progress
                    .warning(&format!("the shared table of contents of {name} is not used: {error}"));
                false
            }
            _ => false,
        }
    }

    /// Whether it will be read from its start for all that is known now, where the cache has been looked at.
    pub(crate) fn will_be_read(&self, least: Verification) -> bool {
        let inside_or_beside =
            self.table_inside(least).is_some() || self.soci.is_some() && least <= Verification::Chunk;
        // What is shared and vouched for, the cache has by now.
        let is_shared = self.knowledge.cache.as_ref().is_some_and(Cache::is_shared);
        let elsewhere = is_shared && least == Verification::None
            || self.knowledge.pushed.is_some() && least <= Verification::Span;
        matches!(self.known(), Known::Nothing(_)) && !inside_or_beside && !elsewhere
    }

    /// Looks for a signed table beside the image.
    async fn learn_pushed(&self) -> bool {
        let (Some(pushed), Some(cache)) = (&self.knowledge.pushed, self.knowledge.cache.as_ref()) else {
            return false;
        };
        let Some(digest) = self.digest.clone() else { return false };
        let warn = |problem: &str| {
            let name = &self.name;
            let message = format!("the table of contents that was pushed for layer {name} is not used");
            self.progress.warning(&format!("{message}: {problem}"));
            false
        };
        let tables = match pushed.tables(&digest, self.size()).await {
            Ok(tables) if tables.is_empty() => return false,
            Ok(tables) => tables,
            Err(error) => return warn(&error.to_string()),
        };
        let mut is_adopted = false;
        for table in tables {
            let (table, signature) = match pushed.fetch(&table).await {
                Ok(fetched) => fetched,
                Err(error) => return warn(&error.to_string()),
            };
            let (cache, digest) = (cache.clone(), digest.clone());
            let adopt = move || cache.store_signed(&digest, &table, &signature);
            if tokio::task::spawn_blocking(adopt).await.unwrap_or(false) {
                is_adopted = true;
                break;
            }
        }
        if !is_adopted {
            return warn("no trusted key vouches for it");
        }
        let Some(known) = self.cached().await else { return false };
        self.warn_of(known.table());
        self.knowledge.keep(known);
        true
    }

    /// Looks at the SOCI index that refers to the image, where it is known what does. Nobody vouches for it.
    async fn learn_referring(&self) -> bool {
        let Some(pushed) = &self.knowledge.pushed else { return false };
        let Some(toc) = self.soci_of(pushed).await else { return false };
        self.adopt(Known::Wholly(Arc::new(toc), Verification::None));
        true
    }

    async fn soci_of(&self, pushed: &PushedTocs) -> Option<LayerToc> {
        match pushed.soci(self.digest.as_ref()?, self.size()).await {
            Ok(toc) => toc,
            Err(error) => {
                if error.is_corrupt() {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                    let (name, cause) = (&self.name, cause.unwrap_or_default());
                    self.progress.warning(&format!("layer {name}: {error}{cause}; reading the layer itself"));
                }
                None
            }
        }
    }

    /// Goes by such a table from now on. One that turns out to be wrong does not come back.
    pub(crate) fn adopt(&self, known: Known) {
        self.knowledge.ask(Place::Referring);
        self.warn_of(known.table());
        self.knowledge.keep(known);
    }

    /// Takes over what a pass over the same blob has found for another layer of the image, where that unpacks to the same. What was
    /// odd about the blob is said by a pass over each of them.
    async fn learn_from_twin(&self, least: Verification) -> bool {
        let Some(Proved { diff_id, toc }) = self.knowledge.proved() else { return false };
        let is_same = self.diff_id().await.is_ok_and(|expected| expected == diff_id.as_ref());
        let is_news = is_same && toc.entries.warnings().count() == 0 && !self.known().is_known(least);
        if is_news {
            self.knowledge.keep(Known::Wholly(toc, Verification::Blob));
        }
        is_news
    }

    /// Looks in the cache and inside the blob.
    async fn learn_here(&self, least: Verification) -> Result<bool, Error> {
        if least > Verification::Span {
            return Ok(false);
        }
        if self.learn_cached(least).await {
            return Ok(true);
        }
        if least > Verification::Chunk || !self.knowledge.ask(Place::Blob) {
            return Ok(false);
        }
        let found = match published(self).await {
            Ok(None) => self.beside().await,
            found => found,
        };
        let found = found.map(|found| found.map(|(toc, level)| (level.min(content_level(&toc)), toc)));
        match found {
            Ok(Some((level, toc))) if level >= least => {
                self.warn_of(&toc.entries);
                self.knowledge.keep(Known::Wholly(Arc::new(toc), level));
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.is_corrupt() => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let (name, cause) = (&self.name, cause.unwrap_or_default());
                self.progress.warning(&format!("layer {name}: {error}{cause}; reading the layer itself"));
                Ok(false)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// Looks in the cache only.
    pub(crate) async fn learn_cached(&self, least: Verification) -> bool {
        if least > Verification::Span || self.knowledge.has_asked(Place::Cache) {
            return false;
        }
        let known = self.cached().await;
        // Only now: who is dropped while waiting has not looked.
        if !self.knowledge.ask(Place::Cache) {
            return !matches!(self.known(), Known::Nothing(_));
        }
        let Some(known) = known else { return false };
        self.warn_of(known.table());
        self.knowledge.keep(known);
        true
    }

    /// The table that a SOCI index beside the image has. Without one the layer is read as if there were none: copies of images
    /// often lack what lay beside the original.
    async fn beside(&self) -> Result<Option<(LayerToc, Verification)>, Error> {
        let (Some(soci), Some(digest)) = (&self.soci, &self.digest) else { return Ok(None) };
        match soci.toc(digest, self.size()).await {
            Ok(toc) => Ok(toc.map(|toc| (toc, Verification::Chunk))),
            Err(error) if error.is_corrupt() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What the cache knows of the layer, if only in part: what goes on from there comes to the proof of all.
    pub(super) async fn cached(&self) -> Option<Known> {
        let cache = self.knowledge.cache.clone()?;
        let (digest, reading) = (self.digest.clone()?, cache.clone());
        let bytes = {
            let digest = digest.clone();
            move || reading.toc(&digest)
        };
        match self.stored_toc(bytes).await? {
            Ok((header, toc)) => {
                let toc = Arc::new(toc);
                Some(match header.complete {
                    true => Known::Wholly(toc, Verification::Span),
                    false => Known::Partly(toc),
                })
            }
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || cache.remove_toc(&digest)).await;
                let name = &self.name;
                let message = format!("the cached table of contents of {name} cannot be used ({error})");
                self.progress.warning(&format!("{message}; it will be made again"));
                None
            }
        }
    }

    /// Reads a stored table, if there is one and it is of this layer.
    async fn stored_toc(
        &self,
        bytes: impl FnOnce() -> Option<Bytes> + Send + 'static,
    ) -> Option<Result<(format::Header, LayerToc), format::Error>> {
        let read = move || bytes().map(format::read);
        let (header, toc) = match tokio::task::spawn_blocking(read).await.ok()?? {
            Ok(stored) => stored,
            Err(error) => return Some(Err(error)),
        };
        let is_of_blob = self.digest.as_ref() == Some(&header.digest) && header.size == self.size();
        // The same blob under another configuration is to hash to another DiffID: a pass will tell.
        let fits = is_of_blob && header.diff_id.as_ref() == self.diff_id().await.ok()?;
        fits.then_some(Ok((header, toc)))
    }

    /// What a pass goes on with that stopped before: the entries so far, and the spans.
    pub(crate) fn unfinished(&self) -> Option<(EntryTree, Spans)> {
        let Known::Partly(toc) = self.known() else { return None };
        let ContentMap::Spans(spans) = &toc.content else { return None };
        let resume = spans.resume.as_ref()?;
        // That a window lacks nothing shows when what is unpacked with it is hashed.
        let is_proved = spans.encoding != Encoding::Gzip || self.expected().has_diff_id();
        if !is_proved || !self.expected().can_resume(resume) {
            return None;
        }
        let table = toc.entries.until(resume.next_header)?;
        let spans = spans.copied_into(Box::new(WindowSpool::new())).ok()?;
        Some((table, spans))
    }

    /// How to read content by what is known of the layer, if that tells where content lies.
    pub(crate) fn extraction(&self, known: &Known) -> Option<Extraction> {
        let level = match known {
            Known::Nothing(_) => return None,
            Known::Partly(_) => Verification::None,
            Known::Wholly(_, level) => *level,
        };
        let extraction = Extraction {
            source: Arc::clone(&self.source),
            toc: Arc::clone(known.toc()),
            level,
            progress: Arc::clone(&self.progress),
            layer: self.index,
            name: self.name.clone(),
        };
        extraction.is_possible().then_some(extraction)
    }
}
