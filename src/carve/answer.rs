//! What an answer says, and what it rests on.

use super::{CarveOptions, file::Found};
use crate::{
    error::{Error, Kind},
    image::{
        Image,
        rootfs::{Content, Resolution, Stack, Trace},
    },
    layer::known::Known,
    tar::entry::{Entry, EntryKind},
};

/// What is at a path.
pub(super) struct Located {
    pub(super) found: Found,
    pub(super) content: Content,
}

impl Image {
    /// The file that a resolution found, or why it is none.
    pub(super) fn file_at(
        &self,
        stack: &Stack<'_>,
        path: &[u8],
        resolution: Resolution,
        trace: &Trace,
    ) -> Result<(Found, Content, bool), Error> {
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
                let table = stack.layer(content.layer).ok_or_else(|| self.lost(content))?;
                let entry = Entry { path: path.clone(), ..table.entry(content.record) };
                let trace = trace.steps.iter().map(ToString::to_string).collect();
                let found = Found { entry, layer, trace };
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

    /// Says of an answer without content, which no level goes with, that nobody vouches for it.
    pub(super) fn warn_of_unproved(&self, rest: &[Known]) {
        if is_unproved(rest)
            && let Some(layer) = self.layers().first()
        {
            let message = "the answer rests on a table of contents that nobody vouches for";
            layer.progress.warning(&format!("{message}; --verify reads the layers themselves"));
        }
    }

    /// That there is no such layer.
    pub(super) fn lost(&self, content: Content) -> Error {
        Error::new(Kind::Other, format!("{} has no layer {}", self.reference(), content.layer))
    }
}

/// Those of the layers that an answer rests on: the oldest that was asked and all above, or the only one.
pub(super) fn rests_on(known: &[Known], oldest: Option<usize>, options: CarveOptions) -> &[Known] {
    let layers = match options.layer {
        Some(only) => known.get(only..=only),
        None => known.get(oldest.unwrap_or_default()..),
    };
    layers.unwrap_or_default()
}

/// Whether one of these is known by a table of files that nobody vouches for. What such a table leaves out nobody sees.
pub(super) fn is_unproved(layers: &[Known]) -> bool {
    layers.iter().any(Known::is_unproved_table)
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
        _ => "no file",
    }
}
