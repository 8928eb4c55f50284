//! What an answer says, and what it depends on.

use super::{CarveOptions, file::FoundFile};
use crate::{
    error::{Error, Kind},
    image::{
        Image,
        rootfs::{Content, Resolution, Stack, Trace},
    },
    layer::toc_state::TocState,
    tar::entry::{Entry, EntryKind},
};

/// What is at a path.
pub(super) struct Located {
    pub(super) found: FoundFile,
    pub(super) content: Content,
}

impl Image {
    /// The file that a resolution found, or why there is no file.
    pub(super) fn file_at(
        &self,
        stack: &Stack<'_>,
        path: &[u8],
        resolution: Resolution,
        trace: &Trace,
    ) -> Result<(FoundFile, Content, bool), Error> {
        let (located, certain) = self.located(stack, path, resolution, trace)?;
        match located.found.entry.kind {
            EntryKind::File => Ok((located.found, located.content, certain)),
            kind => {
                let message = format!("/{} is {} in {}", display(path), describe(kind), self.reference());
                Err(Error::new(Kind::NotAFile, message))
            }
        }
    }

    /// What a resolution found, of any kind, or why there is nothing.
    pub(super) fn located(
        &self,
        stack: &Stack<'_>,
        path: &[u8],
        resolution: Resolution,
        trace: &Trace,
    ) -> Result<(Located, bool), Error> {
        let (shown, image) = (display(path), self.reference());
        let why = trace.steps.last().map(|step| format!(" ({step})")).unwrap_or_default();
        let (kind, message) = match resolution {
            Resolution::Found { layer, path, content, certain, .. } => {
                let tree = stack.layer(content.layer).ok_or_else(|| self.lost(content))?;
                let entry = Entry { path: path.clone(), ..tree.entry(content.record) };
                let trace = trace.steps.iter().map(ToString::to_string).collect();
                let found = FoundFile { entry, layer, trace };
                return Ok((Located { found, content }, certain));
            }
            Resolution::Deleted { layer } => {
                (Kind::Deleted, format!("/{shown} was removed by layer {layer} of {image}{why}"))
            }
            Resolution::Loop => (Kind::NotFound, format!("/{shown} in {image} is a loop of links")),
            Resolution::Missing => (Kind::NotFound, format!("there is no /{shown} in {image}{why}")),
            Resolution::NeedMore { layer } => {
                (Kind::Other, format!("layer {layer} of {image} ended before /{shown} was answered"))
            }
        };
        Err(Error::new(kind, message))
    }

    /// Warns that an answer without content depends on an unsigned TOC: no verification level goes with it.
    pub(super) fn warn_untrusted(&self, states: &[TocState]) {
        if is_untrusted(states)
            && let Some(layer) = self.layers().first()
        {
            layer.progress.warning("the answer depends on an unsigned TOC and is not verified");
        }
    }

    /// The error that there is no such layer.
    pub(super) fn lost(&self, content: Content) -> Error {
        Error::new(Kind::Other, format!("{} has no layer {}", self.reference(), content.layer))
    }
}

/// The layers that an answer depends on: the oldest that was consulted and all above, or the only one.
pub(super) fn depends_on(states: &[TocState], oldest: Option<usize>, options: CarveOptions) -> &[TocState] {
    let layers = match options.layer {
        Some(only) => states.get(only..=only),
        None => states.get(oldest.unwrap_or_default()..),
    };
    layers.unwrap_or_default()
}

/// Whether one of these TOCs is unsigned and from elsewhere: it may leave entries out.
pub(super) fn is_untrusted(layers: &[TocState]) -> bool {
    layers.iter().any(TocState::is_untrusted)
}

/// A path for messages, from the root, without its leading slash.
pub(super) fn display(mut path: &[u8]) -> String {
    while let [b'/', rest @ ..] | [b'.', b'/', rest @ ..] = path {
        path = rest;
    }
    if path == b"." {
        path = b"";
    }
    path.escape_ascii().to_string()
}

/// A kind for messages.
pub(super) fn describe(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Block => "a block device",
        EntryKind::Char => "a character device",
        EntryKind::Directory => "a directory",
        EntryKind::Fifo => "a named pipe",
        EntryKind::Symlink => "a symbolic link",
        _ => "not a file",
    }
}
