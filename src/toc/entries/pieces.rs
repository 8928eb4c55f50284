//! Vectors that grow piece by piece: no copy when they grow, and never more than one piece of room to spare.

/// Items in order. The first piece grows by doubling, so that a small list stays small; when full, all have `CAPACITY` items: a
/// constant, as an index is divided by it at every access.
#[derive(Clone, Debug)]
pub(super) struct Pieces<T, const CAPACITY: usize> {
    pieces: Vec<Vec<T>>,
}

impl<T, const CAPACITY: usize> Pieces<T, CAPACITY> {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// The index after the last item. Where items were added side by side, indexes may have been skipped.
    pub(super) fn len(&self) -> usize {
        let full = self.pieces.len().saturating_sub(1) * CAPACITY;
        full + self.pieces.last().map_or(0, Vec::len)
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.pieces.get(index / CAPACITY)?.get(index % CAPACITY)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pieces.get_mut(index / CAPACITY)?.get_mut(index % CAPACITY)
    }

    /// Adds one item at index `len`.
    pub(super) fn push(&mut self, item: T) {
        if let Some(last) = self.room(1) {
            last.push(item);
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        if let Some(last) = self.pieces.last_mut() {
            last.shrink_to_fit();
        }
    }

    /// The last piece, with room for `more` items; `None` if no piece has that much.
    fn room(&mut self, more: usize) -> Option<&mut Vec<T>> {
        if more > CAPACITY {
            return None;
        }
        if self.pieces.last().is_none_or(|last| last.len() + more > CAPACITY) {
            let first = self.pieces.is_empty();
            self.pieces.push(if first { Vec::new() } else { Vec::with_capacity(CAPACITY) });
        }
        let last = self.pieces.last_mut()?;
        if last.len() + more > last.capacity() {
            let doubled = (last.len() + more).next_power_of_two().clamp(more, CAPACITY);
            last.reserve_exact(doubled - last.len());
        }
        Some(last)
    }
}

impl<T: Copy, const CAPACITY: usize> Pieces<T, CAPACITY> {
    /// Adds items side by side; returns the index of the first. `None` if there are more than a piece takes.
    pub(super) fn extend_together(&mut self, items: &[T]) -> Option<usize> {
        self.room(items.len())?.extend_from_slice(items);
        Some(self.len() - items.len())
    }

    /// Items that were added side by side.
    pub(super) fn together(&self, start: usize, length: usize) -> Option<&[T]> {
        let within = start % CAPACITY;
        self.pieces.get(start / CAPACITY)?.get(within..within + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_side_by_side_is_found_there() {
        let mut pieces = Pieces::<u8, 8>::new();
        let texts: [&[u8]; 6] = [b"abc", b"", b"defgh", b"i", b"jklmnopq", b"rst"];
        let starts: Vec<usize> = texts.iter().filter_map(|text| pieces.extend_together(text)).collect();
        assert_eq!(starts, [0, 3, 3, 8, 16, 24]);
        for (start, text) in starts.iter().zip(texts) {
            assert_eq!(pieces.together(*start, text.len()).unwrap_or_default(), text);
        }
        assert_eq!(pieces.extend_together(b"123456789"), None);
        assert_eq!(pieces.together(6, 4), None);
    }

    #[test]
    fn pushed_items_keep_their_index_across_pieces() {
        let mut pieces = Pieces::<usize, 4>::new();
        for number in 0..11 {
            assert_eq!(pieces.len(), number);
            pieces.push(number);
        }
        pieces.shrink_to_fit();
        assert!((0..11).all(|number| pieces.get(number) == Some(&number)));
        assert_eq!(pieces.get_mut(4), Some(&mut 4));
        assert_eq!(pieces.get(11), None);
    }
}
