//! zTOCs of layers stored block by block, so that decoding can begin at each block
//! (soci-snapshotter, ztoc/fbs/ztoc.fbs).

use layerslayer::Digest;

/// Largest stored block of deflate, in bytes.
const BLOCK: usize = 65_535;

/// Bytes before the content of a block, and before the first block.
const BLOCK_HEADER: usize = 5;
const GZIP_HEADER: usize = 10;

/// Blocks in a span: about 4 MiB.
const SPAN_BLOCKS: usize = 64;

const WINDOW: usize = 32 << 10;

/// An archive in gzip format, stored without compression.
pub(crate) struct Stored {
    pub(crate) tar: Vec<u8>,
    pub(crate) blob: Vec<u8>,
}

impl Stored {
    pub(crate) fn new(tar: &[u8]) -> Self {
        let mut blob = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let last = tar.len().div_ceil(BLOCK) - 1;
        for (number, block) in tar.chunks(BLOCK).enumerate() {
            let length = block.len() as u16;
            blob.push(u8::from(number == last));
            blob.extend(length.to_le_bytes());
            blob.extend((!length).to_le_bytes());
            blob.extend(block);
        }
        let mut sum = flate2::Crc::new();
        sum.update(tar);
        blob.extend(sum.sum().to_le_bytes());
        blob.extend((tar.len() as u32).to_le_bytes());
        Self { tar: tar.to_vec(), blob }
    }
}

/// The zTOC of a layer with these files in this order, each with its size and one block of header.
pub(crate) fn of(layer: &Stored, files: &[(&str, u64)]) -> Vec<u8> {
    let mut data = 0;
    let entries = files.iter().map(|(name, size)| {
        data += 512;
        let entry = Value::Table(vec![
            (0, text(name)),
            (1, text("reg")),
            (2, Value::Long(data)),
            (3, Value::Long(*size as i64)),
            (5, Value::Long(0o644)),
            (10, text("2024-01-01T00:00:00Z")),
        ]);
        data += size.next_multiple_of(512) as i64;
        entry
    });
    let entries = Value::List(entries.collect());
    let blocks = layer.tar.len().div_ceil(BLOCK);
    let places: Vec<_> = (0..blocks)
        .step_by(SPAN_BLOCKS)
        .map(|block| (GZIP_HEADER + block * (BLOCK_HEADER + BLOCK), block * BLOCK))
        .collect();
    let mut checkpoints = (places.len() as i32).to_le_bytes().to_vec();
    checkpoints.extend((4_i64 << 20).to_le_bytes());
    let mut digests = Vec::new();
    for (number, (packed, unpacked)) in places.iter().enumerate() {
        checkpoints.extend((*packed as i64).to_le_bytes());
        checkpoints.extend((*unpacked as i64).to_le_bytes());
        checkpoints.push(0);
        let window = &layer.tar[unpacked.saturating_sub(WINDOW)..*unpacked];
        checkpoints.resize(checkpoints.len() + WINDOW - window.len(), 0);
        checkpoints.extend(window);
        let end = places.get(number + 1).map_or(layer.blob.len(), |(packed, _)| *packed);
        digests.push(text(&Digest::sha256(&layer.blob[*packed..end]).to_string()));
    }
    let compression = Value::Table(vec![
        (0, Value::Byte(1)),
        (1, Value::Int(places.len() as i32 - 1)),
        (2, Value::List(digests)),
        (3, Value::Bytes(checkpoints)),
    ]);
    let root = Value::Table(vec![
        (0, text("0.9")),
        (2, Value::Long(layer.blob.len() as i64)),
        (3, Value::Long(layer.tar.len() as i64)),
        (4, Value::Table(vec![(0, entries)])),
        (5, compression),
    ]);
    let mut buffer = vec![0; 4];
    let at = root.write(&mut buffer) as u32;
    buffer[..4].copy_from_slice(&at.to_le_bytes());
    buffer
}

/// A value of a flatbuffer.
enum Value {
    Byte(u8),
    Bytes(Vec<u8>),
    Int(i32),
    List(Vec<Self>),
    Long(i64),
    Table(Vec<(usize, Self)>),
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

impl Value {
    /// Writes a value that is not a number, and returns its position.
    fn write(&self, buffer: &mut Vec<u8>) -> usize {
        let mut references = Vec::new();
        let at = match self {
            Self::Bytes(bytes) => {
                let at = buffer.len();
                buffer.extend((bytes.len() as u32).to_le_bytes());
                buffer.extend(bytes);
                at
            }
            Self::List(values) => {
                let at = buffer.len();
                buffer.extend((values.len() as u32).to_le_bytes());
                for value in values {
                    value.place(buffer, &mut references);
                }
                at
            }
            Self::Table(fields) => {
                let last = fields.iter().map(|(field, _)| *field).max().unwrap();
                let slots = buffer.len();
                let length = 4 + 2 * (last + 1);
                buffer.resize(slots + length, 0);
                let at = buffer.len();
                buffer.extend((length as i32).to_le_bytes());
                for (field, value) in fields {
                    let slot = slots + 4 + 2 * field;
                    let offset = (buffer.len() - at) as u16;
                    buffer[slot..slot + 2].copy_from_slice(&offset.to_le_bytes());
                    value.place(buffer, &mut references);
                }
                let size = (buffer.len() - at) as u16;
                buffer[slots..slots + 2].copy_from_slice(&(length as u16).to_le_bytes());
                buffer[slots + 2..slots + 4].copy_from_slice(&size.to_le_bytes());
                at
            }
            Self::Byte(_) | Self::Int(_) | Self::Long(_) => unreachable!("a number is stored in its table"),
        };
        for (place, value) in references {
            let target = value.write(buffer);
            buffer[place..place + 4].copy_from_slice(&((target - place) as u32).to_le_bytes());
        }
        at
    }

    /// Writes a number, or a reference to be resolved later.
    fn place<'a>(&'a self, buffer: &mut Vec<u8>, references: &mut Vec<(usize, &'a Self)>) {
        match self {
            Self::Byte(number) => buffer.push(*number),
            Self::Int(number) => buffer.extend(number.to_le_bytes()),
            Self::Long(number) => buffer.extend(number.to_le_bytes()),
            Self::Bytes(_) | Self::List(_) | Self::Table(_) => {
                references.push((buffer.len(), self));
                buffer.extend([0; 4]);
            }
        }
    }
}
