//! Reads flatbuffers: tables of optional fields that refer to each other by offsets (flatbuffers.dev, "FlatBuffer
//! Internals").
//!
//! Every offset is checked before it is followed. In a hostile buffer many fields may refer to the same long vector, so
//! the total bytes read, repetitions included, are limited to the size of the buffer. A writer that stores each value once
//! never exceeds that.

use std::cell::Cell;

/// Offset of a reference that leads outside the buffer, or whose target is read too often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed(pub(super) usize);

/// A buffer, and how much of it may still be read.
#[derive(Debug)]
pub(super) struct Buffer<'a> {
    bytes: &'a [u8],
    left: Cell<usize>,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, left: Cell::new(bytes.len()) }
    }

    pub(super) fn root(&self) -> Result<Table<'_, 'a>, Malformed> {
        self.table(self.follow(0)?)
    }

    /// The bytes of the number at an offset.
    fn number<const N: usize>(&self, at: usize) -> Result<[u8; N], Malformed> {
        let (_, rest) = self.bytes.split_at_checked(at).ok_or(Malformed(at))?;
        rest.first_chunk().copied().ok_or(Malformed(at))
    }

    /// The target of the reference at an offset.
    fn follow(&self, at: usize) -> Result<usize, Malformed> {
        let offset = u32::from_le_bytes(self.number(at)?);
        at.checked_add(offset as usize).filter(|target| *target < self.bytes.len()).ok_or(Malformed(at))
    }

    fn charge(&self, bytes: usize, at: usize) -> Result<(), Malformed> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(Malformed(at))?);
        Ok(())
    }

    fn table(&self, at: usize) -> Result<Table<'_, 'a>, Malformed> {
        self.charge(size_of::<i32>(), at)?;
        let back = i64::from(i32::from_le_bytes(self.number(at)?));
        let fields = (at as i64).checked_sub(back).and_then(|fields| usize::try_from(fields).ok());
        let fields = fields.ok_or(Malformed(at))?;
        let length = u16::from_le_bytes(self.number(fields)?);
        Ok(Table { buffer: self, at, fields, length: length.into() })
    }

    /// The elements of a vector, `size` bytes each: their start and number.
    fn elements(&self, at: usize, size: usize) -> Result<(usize, usize), Malformed> {
        let count = u32::from_le_bytes(self.number(at)?) as usize;
        let bytes = count.checked_mul(size).ok_or(Malformed(at))?;
        let start = at + size_of::<u32>();
        self.charge(bytes + size_of::<u32>(), at)?;
        if start.checked_add(bytes).is_none_or(|end| end > self.bytes.len()) {
            return Err(Malformed(at));
        }
        Ok((start, count))
    }

    fn text(&self, at: usize) -> Result<&'a [u8], Malformed> {
        let (start, length) = self.elements(at, 1)?;
        self.bytes.get(start..start + length).ok_or(Malformed(at))
    }
}

/// A table. Fields are numbered in the order of the schema; absent ones have the schema's default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'b, 'a> {
    buffer: &'b Buffer<'a>,
    at: usize,
    fields: usize,
    length: usize,
}

impl<'b, 'a> Table<'b, 'a> {
    /// A byte.
    pub(super) fn u8(&self, field: u16, default: u8) -> Result<u8, Malformed> {
        self.number(field, [default]).map(u8::from_le_bytes)
    }

    /// A signed number of 32 bits, 0 if absent.
    pub(super) fn i32(&self, field: u16) -> Result<i32, Malformed> {
        self.number(field, [0; 4]).map(i32::from_le_bytes)
    }

    /// An unsigned number of 32 bits, 0 if absent.
    pub(super) fn u32(&self, field: u16) -> Result<u32, Malformed> {
        self.number(field, [0; 4]).map(u32::from_le_bytes)
    }

    /// A signed number of 64 bits, 0 if absent.
    pub(super) fn i64(&self, field: u16) -> Result<i64, Malformed> {
        self.number(field, [0; 8]).map(i64::from_le_bytes)
    }

    /// Text or bytes, empty if absent.
    pub(super) fn text(&self, field: u16) -> Result<&'a [u8], Malformed> {
        let Some(at) = self.field(field)? else { return Ok(&[]) };
        self.buffer.text(self.buffer.follow(at)?)
    }

    /// A table in this one.
    pub(super) fn table(&self, field: u16) -> Result<Self, Malformed> {
        let at = self.field(field)?.ok_or(Malformed(self.at))?;
        self.buffer.table(self.buffer.follow(at)?)
    }

    /// A list of tables, empty if absent.
    pub(super) fn tables(
        &self,
        field: u16,
    ) -> Result<impl ExactSizeIterator<Item = Result<Table<'b, 'a>, Malformed>> + use<'a, 'b>, Malformed>
    {
        let buffer = self.buffer;
        Ok(self.references(field)?.map(move |at| buffer.table(buffer.follow(at)?)))
    }

    /// A list of texts, empty if absent.
    pub(super) fn texts(
        &self,
        field: u16,
    ) -> Result<impl ExactSizeIterator<Item = Result<&'a [u8], Malformed>> + use<'a, 'b>, Malformed> {
        let buffer = self.buffer;
        Ok(self.references(field)?.map(move |at| buffer.text(buffer.follow(at)?)))
    }

    /// The offsets of a list's references.
    fn references(&self, field: u16) -> Result<impl ExactSizeIterator<Item = usize> + use<>, Malformed> {
        const SIZE: usize = size_of::<u32>();
        let (start, count) = match self.field(field)? {
            Some(at) => self.buffer.elements(self.buffer.follow(at)?, SIZE)?,
            None => (0, 0),
        };
        Ok((0..count).map(move |index| start + index * SIZE))
    }

    fn number<const N: usize>(&self, field: u16, default: [u8; N]) -> Result<[u8; N], Malformed> {
        match self.field(field)? {
            Some(at) => self.buffer.number(at),
            None => Ok(default),
        }
    }

    /// The offset of a field's value, if present.
    pub(super) fn field(&self, field: u16) -> Result<Option<usize>, Malformed> {
        // The first field follows the lengths of the field list and of the table.
        let at = 2 * size_of::<u16>() + usize::from(field) * size_of::<u16>();
        if at + size_of::<u16>() > self.length {
            return Ok(None);
        }
        match u16::from_le_bytes(self.buffer.number(self.fields + at)?) {
            0 => Ok(None),
            offset => Ok(Some(self.at + usize::from(offset))),
        }
    }
}
