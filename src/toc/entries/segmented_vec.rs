//! Vectors in segments: they grow without copying and never reserve more than one segment.

/// Items in order. The first segment grows by doubling, so that a small list stays small. Full segments have `CAPACITY`
/// items, a constant because every access divides by it.
#[derive(Clone, Debug)]
pub(super) struct SegmentedVec<T, const CAPACITY: usize> {
    segments: Vec<Vec<T>>,
}

impl<T, const CAPACITY: usize> SegmentedVec<T, CAPACITY> {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self { segments: Vec::new() }
    }

    /// The index after the last item. Adding slices may skip indexes.
    pub(super) fn len(&self) -> usize {
        let full = self.segments.len().saturating_sub(1) * CAPACITY;
        full + self.segments.last().map_or(0, Vec::len)
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.segments.get(index / CAPACITY)?.get(index % CAPACITY)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.segments.get_mut(index / CAPACITY)?.get_mut(index % CAPACITY)
    }

    /// Adds one item at index `len`.
    pub(super) fn push(&mut self, item: T) {
        if let Some(last) = self.room(1) {
            last.push(item);
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        if let Some(last) = self.segments.last_mut() {
            last.shrink_to_fit();
        }
    }

    /// The last segment, with room for `more` items; `None` if that exceeds a segment.
    fn room(&mut self, more: usize) -> Option<&mut Vec<T>> {
        if more > CAPACITY {
            return None;
        }
        if self.segments.last().is_none_or(|last| last.len() + more > CAPACITY) {
            let first = self.segments.is_empty();
            self.segments.push(if first { Vec::new() } else { Vec::with_capacity(CAPACITY) });
        }
        let last = self.segments.last_mut()?;
        if last.len() + more > last.capacity() {
            let doubled = (last.len() + more).next_power_of_two().clamp(more, CAPACITY);
            last.reserve_exact(doubled - last.len());
        }
        Some(last)
    }
}

impl<T: Copy, const CAPACITY: usize> SegmentedVec<T, CAPACITY> {
    /// Adds items as one contiguous slice; returns the index of the first. `None` if they exceed a segment.
    pub(super) fn push_slice(&mut self, items: &[T]) -> Option<usize> {
        self.room(items.len())?.extend_from_slice(items);
        Some(self.len() - items.len())
    }

    /// Items that were added as one slice.
    pub(super) fn slice(&self, start: usize, length: usize) -> Option<&[T]> {
        let within = start % CAPACITY;
        self.segments.get(start / CAPACITY)?.get(within..within + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_contiguous() {
        let mut items = SegmentedVec::<u8, 8>::new();
        let texts: [&[u8]; 6] = [b"abc", b"", b"defgh", b"i", b"jklmnopq", b"rst"];
        let starts: Vec<usize> = texts.iter().filter_map(|text| items.push_slice(text)).collect();
        assert_eq!(starts, [0, 3, 3, 8, 16, 24]);
        for (start, text) in starts.iter().zip(texts) {
            assert_eq!(items.slice(*start, text.len()).unwrap_or_default(), text);
        }
        assert_eq!(items.push_slice(b"123456789"), None);
        assert_eq!(items.slice(6, 4), None);
    }

    #[test]
    fn pushed_items_keep_their_index_across_segments() {
        let mut items = SegmentedVec::<usize, 4>::new();
        for number in 0..11 {
            assert_eq!(items.len(), number);
            items.push(number);
        }
        items.shrink_to_fit();
        assert!((0..11).all(|number| items.get(number) == Some(&number)));
        assert_eq!(items.get_mut(4), Some(&mut 4));
        assert_eq!(items.get(11), None);
    }
}
