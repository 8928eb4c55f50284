//! The tar decoder: a state machine that takes bytes and returns events.
//!
//! ```text
//!                  ┌───────── x, g, L, K ────────▶ Extension ─┐
//!                  │                                           │ complete
//!        ┌─▶ Header ◀─────────────────── Padding ◀────────────┘
//!        │     │ │                          ▲
//!        │     │ └ zero block ▶ Header(after zero) ─ zero block ▶ Ended (swallows the rest)
//!        │     │
//!        │     ├─ S, extended ─▶ SparseBlocks ┐ map complete: Event::Entry
//!        │     ├─ sparse 1.0 ──▶ SparseMap ───┤
//!        │     └─ else: Event::Entry ─────────┴▶ Content (Data, Hole) ─▶ EntryEnd ─▶ Padding
//!        └──────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Any error leads to `Failed`, which returns it again. Where formats and readers disagree, this decoder does what Go's
//! archive/tar does, because all runtimes unpack layers with it. Deviations:
//! - Global headers apply, as POSIX specifies. Go returns them as entries, which runtimes ignore.
//! - Numbers that nothing depends on (a file's device numbers, a link's size) may be malformed.
//! - A stream that ends between an extended header and its entry is truncated; Go accepts it.
//!
//! Invariants: content passes through and is never kept. The decoder keeps at most one block, one extended header per
//! kind (`limits::PAX_BYTES` each) and one sparse map (`limits::SPARSE_SEGMENTS`).

use std::mem;

use crate::{
    limits,
    offset::Uncompressed,
    tar::{
        entry::Entry,
        error::{Error, ErrorKind},
        header::{self, BLOCK, Block, Header, SparseBlock},
        overrides::{Layout, Member, Overrides},
        pax::{Records, check_xattrs},
        sparse::{Extent, Extents, Map, MapReader},
    },
};

const ZERO_BLOCK: Block = [0; BLOCK];

/// One step through the archive. Every [`Entry`](Self::Entry) is followed by `Data` and `Hole` events that add up to
/// its size, then by [`EntryEnd`](Self::EntryEnd).
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Event<'a> {
    /// Content of the entry, never empty.
    Data(&'a [u8]),
    /// The end-of-archive marker. No event follows.
    End,
    /// An entry begins.
    Entry(Box<Entry>),
    /// The entry's content is complete.
    EntryEnd,
    /// This many zero bytes of content, which the archive does not store. Never 0.
    Hole(u64),
}

/// Decodes one tar stream.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// The start of the current block, filled up to `gathered`.
    block: Block,
    gathered: usize,
    consumed: u64,
    /// What extended headers say about the next entry.
    overrides: Overrides,
    /// What global headers say about all further entries.
    global: Records,
    /// Whether any global header changes an entry.
    has_global: bool,
}

#[derive(Debug)]
enum State {
    Content { extents: Extents, padding: u64 },
    Ended,
    Extension { kind: ExtensionKind, start: u64, missing: u64, content: Vec<u8> },
    Failed(Error),
    Header { is_after_zero: bool },
    Padding(u64),
    Skip { missing: u64, padding: u64 },
    SparseBlocks { entry: Box<Entry>, data: u64, map: Map },
    SparseMap { entry: Box<Entry>, data: u64, reader: MapReader },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ExtensionKind {
    Global,
    Link,
    Name,
    Records,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub(crate) fn new() -> Self {
        Self::at(Uncompressed(0))
    }

    /// A decoder for the rest of a stream. `offset` is the first header of an entry; global headers before it do not
    /// apply.
    pub(crate) fn at(offset: Uncompressed) -> Self {
        Self {
            state: State::Header { is_after_zero: false },
            block: ZERO_BLOCK,
            gathered: 0,
            consumed: offset.0,
            overrides: Overrides::default(),
            global: Records::default(),
            has_global: false,
        }
    }

    /// Consumes bytes from the front of `input` and returns the next event, or `None` once all of `input` is consumed
    /// and no event is due. After an error, every later call returns it again.
    pub(crate) fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let result = self.next_event(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Ends the stream. Fails inside a header, an extended header or content. A missing end-of-archive marker or
    /// missing padding before it is not an error.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let gathered = self.block.get(..self.gathered).unwrap_or_default();
        let is_first_block = self.consumed == self.gathered as u64;
        let kind = match &self.state {
            State::Ended => return Ok(()),
            State::Failed(error) => return Err(*error),
            State::Content { extents, .. } if extents.stored_ahead() == 0 => return Ok(()),
            State::Skip { missing: 0, .. } => return Ok(()),
            State::Header { .. } if gathered.iter().any(|&byte| byte != 0) => {
                if is_first_block && !header::has_magic(gathered) {
                    ErrorKind::NotTar
                } else {
                    ErrorKind::Truncated
                }
            }
            State::Header { .. } | State::Padding(_) if self.overrides.start.is_none() => return Ok(()),
            _ => ErrorKind::Truncated,
        };
        let error = Error::new(self.consumed, kind);
        self.state = State::Failed(error);
        Err(error)
    }

    /// The offset of the next byte of input.
    pub(crate) fn offset(&self) -> Uncompressed {
        Uncompressed(self.consumed)
    }

    /// The offset of the next entry's first header: a decoder started [there](Self::at) returns the same events as this
    /// one. `None` after the end, after an error, and while global headers apply.
    pub(crate) fn next_header(&self) -> Option<Uncompressed> {
        if self.has_global {
            return None;
        }
        let after = |bytes: u64, padding: u64| self.consumed.checked_add(bytes)?.checked_add(padding);
        let header = match &self.state {
            State::Content { extents, padding } => after(extents.stored_ahead(), *padding)?,
            State::Ended | State::Failed(_) => return None,
            State::Extension { .. } | State::Header { .. } | State::Padding(_)
                if self.overrides.start.is_some() =>
            {
                self.overrides.start?
            }
            State::Extension { .. } => return None,
            // The meaning of a lone zero block depends on the next block.
            State::Header { is_after_zero } => {
                let block = if *is_after_zero { BLOCK } else { 0 };
                self.consumed.checked_sub((self.gathered + block) as u64)?
            }
            State::Padding(missing) => after(*missing, 0)?,
            State::Skip { missing, padding } => after(*missing, *padding)?,
            State::SparseBlocks { entry, .. } | State::SparseMap { entry, .. } => entry.header_offset.0,
        };
        Some(Uncompressed(header))
    }

    /// Whether entries depend on global headers. If so, a decoder started in the [middle](Self::at) may return different entries.
    pub(crate) fn has_global(&self) -> bool {
        self.has_global
    }

    /// Stored bytes of the current entry's content that are not consumed yet, padding included.
    pub(crate) fn content_left(&self) -> u64 {
        match &self.state {
            State::Content { extents, padding } => extents.stored_ahead().saturating_add(*padding),
            State::Skip { missing, padding } => missing.saturating_add(*padding),
            _ => 0,
        }
    }

    /// Skips the rest of the current entry's content, holes included. Returns how many bytes of the stream, padding
    /// included, the caller must skip before the next call; 0 outside of content. `EntryEnd` still follows.
    pub(crate) fn skip_content(&mut self) -> u64 {
        let bytes = self.content_left();
        if bytes > 0 {
            self.consumed = self.consumed.saturating_add(bytes);
            self.state = State::Skip { missing: 0, padding: 0 };
        }
        bytes
    }

    fn next_event<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match &mut self.state {
                State::Content { extents, padding } => {
                    let wanted = match extents.peek() {
                        Extent::Data(wanted) => wanted,
                        Extent::End => {
                            self.state = State::Padding(*padding);
                            return Ok(Some(Event::EntryEnd));
                        }
                        Extent::Hole(bytes) => {
                            extents.advance(bytes);
                            return Ok(Some(Event::Hole(bytes)));
                        }
                    };
                    let data = take(input, wanted, &mut self.consumed);
                    extents.advance(data.len() as u64);
                    return Ok((!data.is_empty()).then_some(Event::Data(data)));
                }
                State::Ended => {
                    take(input, u64::MAX, &mut self.consumed);
                    return Ok(None);
                }
                State::Extension { missing, content, .. } => {
                    let piece = take(input, *missing, &mut self.consumed);
                    *missing -= piece.len() as u64;
                    content.extend_from_slice(piece);
                    if *missing > 0 {
                        return Ok(None);
                    }
                    self.end_extension()?;
                }
                State::Failed(error) => return Err(*error),
                State::Header { is_after_zero } => {
                    let is_after_zero = *is_after_zero;
                    let Some((block, offset)) = self.gather(input) else { return Ok(None) };
                    if block == ZERO_BLOCK {
                        if is_after_zero {
                            self.state = State::Ended;
                            return Ok(Some(Event::End));
                        }
                        self.state = State::Header { is_after_zero: true };
                        continue;
                    }
                    if is_after_zero {
                        return Err(Error::new(offset, ErrorKind::LoneZeroBlock));
                    }
                    if let Some(event) = self.begin(&block, offset)? {
                        return Ok(Some(event));
                    }
                }
                State::Padding(missing) => {
                    *missing -= take(input, *missing, &mut self.consumed).len() as u64;
                    if *missing > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header { is_after_zero: false };
                }
                State::Skip { missing, padding } => {
                    *missing -= take(input, *missing, &mut self.consumed).len() as u64;
                    if *missing > 0 {
                        return Ok(None);
                    }
                    self.state = State::Padding(*padding);
                    return Ok(Some(Event::EntryEnd));
                }
                State::SparseBlocks { .. } => {
                    let Some((block, offset)) = self.gather(input) else { return Ok(None) };
                    if let Some(event) = self.sparse_block(&block, offset)? {
                        return Ok(Some(event));
                    }
                }
                State::SparseMap { .. } => match self.sparse_map(input)? {
                    Some(event) => return Ok(Some(event)),
                    None if input.is_empty() => return Ok(None),
                    None => {}
                },
            }
        }
    }

    /// Returns the next block and its offset once it is complete.
    fn gather(&mut self, input: &mut &[u8]) -> Option<(Block, u64)> {
        let rest = self.block.get_mut(self.gathered..)?;
        let piece = take(input, rest.len() as u64, &mut self.consumed);
        rest.split_at_mut_checked(piece.len())?.0.copy_from_slice(piece);
        self.gathered += piece.len();
        if self.gathered < BLOCK {
            return None;
        }
        self.gathered = 0;
        Some((self.block, self.consumed - BLOCK as u64))
    }

    /// Parses the header of an entry or an extension.
    fn begin<'a>(&mut self, block: &Block, offset: u64) -> Result<Option<Event<'a>>, Error> {
        let Some(header) = Header::parse(block, offset) else {
            let kind = if offset == 0 && !header::has_magic(block) {
                ErrorKind::NotTar
            } else {
                ErrorKind::Checksum
            };
            return Err(Error::new(offset, kind));
        };
        let kind = match header.type_flag() {
            b'K' => ExtensionKind::Link,
            b'L' => ExtensionKind::Name,
            b'g' => ExtensionKind::Global,
            b'x' => ExtensionKind::Records,
            _ => {
                let Member { entry, data, layout } =
                    mem::take(&mut self.overrides).member(&self.global, &header, offset)?;
                return self.begin_content(entry, data, layout, offset);
            }
        };
        let missing = header.size()?;
        if missing > limits::PAX_BYTES {
            return Err(Error::new(offset, ErrorKind::ExtensionTooLong));
        }
        self.overrides.start.get_or_insert(offset);
        let content = Vec::with_capacity(usize::try_from(missing).unwrap_or_default());
        self.state = State::Extension { kind, start: self.consumed, missing, content };
        Ok(None)
    }

    fn begin_content<'a>(
        &mut self,
        mut entry: Box<Entry>,
        data: u64,
        layout: Layout,
        offset: u64,
    ) -> Result<Option<Event<'a>>, Error> {
        let padding = data.next_multiple_of(BLOCK as u64) - data;
        let extents = match layout {
            Layout::Mapped(map) => map.extents(entry.size, data).map_err(|kind| Error::new(offset, kind))?,
            Layout::MappedInBlocks(map) => {
                self.state = State::SparseBlocks { entry, data, map };
                return Ok(None);
            }
            Layout::MappedInData => {
                self.state = State::SparseMap { entry, data, reader: MapReader::default() };
                return Ok(None);
            }
            Layout::Skipped => {
                entry.data_offset = Uncompressed(self.consumed);
                entry.stored_size = data;
                self.state = State::Skip { missing: data, padding };
                return Ok(Some(Event::Entry(entry)));
            }
            Layout::Solid => Extents::solid(data),
        };
        entry.data_offset = Uncompressed(self.consumed);
        entry.stored_size = data;
        self.state = State::Content { extents, padding };
        Ok(Some(Event::Entry(entry)))
    }

    fn end_extension(&mut self) -> Result<(), Error> {
        let state = mem::replace(&mut self.state, State::Ended);
        let State::Extension { kind, start, mut content, .. } = state else { return Ok(()) };
        let length = content.len() as u64;
        self.state = State::Padding(length.next_multiple_of(BLOCK as u64) - length);

        let records = |content: &[u8]| {
            Records::parse(content).map_err(|(at, kind)| Error::new(start.saturating_add(at as u64), kind))
        };
        match kind {
            ExtensionKind::Global => {
                self.global.merge(records(&content)?);
                check_xattrs(&self.global.xattrs).map_err(|kind| Error::new(start, kind))?;
                // A header with only a comment, as `git archive` writes it, changes no entry.
                self.has_global |= self.global.bytes() > 0;
                if self.global.bytes() > limits::PAX_GLOBAL_BYTES {
                    return Err(Error::new(start, ErrorKind::GlobalTooLong));
                }
                // In Go a global header is an entry, so it consumes the extended headers before it.
                self.overrides = Overrides::default();
            }
            ExtensionKind::Link | ExtensionKind::Name => {
                content.truncate(content.iter().position(|&byte| byte == 0).unwrap_or(content.len()));
                let is_link = kind == ExtensionKind::Link;
                let slot =
                    if is_link { &mut self.overrides.long_link } else { &mut self.overrides.long_name };
                *slot = Some(content);
            }
            // A second header replaces the first as a whole, as in GNU tar, BSD tar and Go.
            ExtensionKind::Records => self.overrides.records = records(&content)?,
        }
        Ok(())
    }

    /// Parses one extension block of an old GNU sparse map.
    fn sparse_block<'a>(&mut self, block: &Block, offset: u64) -> Result<Option<Event<'a>>, Error> {
        let State::SparseBlocks { map, .. } = &mut self.state else { return Ok(None) };
        let block = SparseBlock::extension(block, offset);
        for segment in block.segments() {
            let (at, start, length) = segment?;
            map.push(start, length).map_err(|kind| Error::new(at, kind))?;
        }
        if block.is_extended {
            return Ok(None);
        }
        let state = mem::replace(&mut self.state, State::Ended);
        let State::SparseBlocks { entry, data, map } = state else { return Ok(None) };
        self.begin_content(entry, data, Layout::Mapped(map), offset)
    }

    /// Reads the sparse map before the content, up to the content's first block.
    fn sparse_map<'a>(&mut self, input: &mut &[u8]) -> Result<Option<Event<'a>>, Error> {
        let State::SparseMap { data, reader, .. } = &mut self.state else { return Ok(None) };
        let fault = |consumed, kind| Error::new(consumed, kind);
        while !reader.is_complete() {
            if *data == 0 {
                return Err(fault(self.consumed, ErrorKind::SparseMap));
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            reader.push(byte).map_err(|kind| fault(self.consumed, kind))?;
            *data -= 1;
            self.consumed += 1;
        }
        let missing = reader.padding();
        if missing > *data {
            return Err(fault(self.consumed, ErrorKind::SparseMap));
        }
        let skipped = take(input, missing, &mut self.consumed).len() as u64;
        *data -= skipped;
        reader.skip(skipped);
        if skipped < missing {
            return Ok(None);
        }
        let state = mem::replace(&mut self.state, State::Ended);
        let State::SparseMap { entry, data, reader, .. } = state else { return Ok(None) };
        let offset = self.consumed;
        self.begin_content(entry, data, Layout::Mapped(reader.finish()), offset)
    }
}

/// Takes up to `wanted` bytes from the front of `input`.
fn take<'a>(input: &mut &'a [u8], wanted: u64, consumed: &mut u64) -> &'a [u8] {
    let length = usize::try_from(wanted).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at_checked(length).unwrap_or_default();
    *input = rest;
    *consumed += taken.len() as u64;
    taken
}
