use super::book::SkuId;

/// How many cells are allocated at once.
///
/// A chunk of 4096 sixteen-byte cells is 64 KiB: growing never copies what is there and
/// wastes at most one chunk, where a doubling `Vec` may waste half of itself.
const CHUNK: usize = 4096;

/// What one room remembers of each SKU of one shop, by the number the book gave the SKU.
///
/// So rooms keep facts about a million SKUs without keeping a million SKUs each.
#[derive(Debug, Default)]
pub struct Column<T> {
    chunks: Vec<Box<[T]>>,
}

impl<T: Copy + Default> Column<T> {
    /// The cell of this SKU, the default if it was never set.
    #[must_use]
    pub fn get(&self, id: SkuId) -> T {
        let (chunk, cell) = place(id);
        self.chunks
            .get(chunk)
            .map_or_else(T::default, |cells| cells[cell])
    }

    /// Writes the cell of this SKU.
    pub fn set(&mut self, id: SkuId, value: T) {
        let (chunk, cell) = place(id);
        while self.chunks.len() <= chunk {
            self.chunks
                .push(vec![T::default(); CHUNK].into_boxed_slice());
        }
        self.chunks[chunk][cell] = value;
    }

    /// Forgets every cell.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }
}

fn place(id: SkuId) -> (usize, usize) {
    (id.index() / CHUNK, id.index() % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_what_was_set_and_others_their_default() {
        let mut column = Column::default();
        let far = SkuId::from_index(3 * CHUNK + 7);
        column.set(far, 5u32);
        assert_eq!(column.get(far), 5);
        assert_eq!(column.get(SkuId::from_index(3 * CHUNK + 8)), 0);
        assert_eq!(column.get(SkuId::from_index(9 * CHUNK)), 0);
        column.clear();
        assert_eq!(column.get(far), 0);
    }
}
