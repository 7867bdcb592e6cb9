use super::book::SkuId;

/// How many cells are allocated at once.
///
/// A chunk of 4096 sixteen-byte cells is 64 KiB: growing never copies what is there and
/// wastes at most one chunk, where a doubling `Vec` may waste half of itself.
const CHUNK_LENGTH: usize = 4096;

/// What one room remembers of each SKU of one shop, by the number the book gave the SKU.
///
/// So rooms keep facts about a million SKUs without keeping a million SKUs each.
#[derive(Debug, Default)]
pub struct PerSku<T> {
    chunks: Vec<Box<[T]>>,
}

impl<T: Copy + Default> PerSku<T> {
    /// The cell of this SKU, the default if it was never set.
    #[must_use]
    pub fn get(&self, id: SkuId) -> T {
        let (chunk, cell) = position(id);
        self.chunks
            .get(chunk)
            .map_or_else(T::default, |cells| cells[cell])
    }

    /// Writes the cell of this SKU.
    pub fn set(&mut self, id: SkuId, value: T) {
        let (chunk, cell) = position(id);
        while self.chunks.len() <= chunk {
            self.chunks
                .push(vec![T::default(); CHUNK_LENGTH].into_boxed_slice());
        }
        self.chunks[chunk][cell] = value;
    }

    /// Forgets every cell.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }
}

fn position(id: SkuId) -> (usize, usize) {
    (id.index() / CHUNK_LENGTH, id.index() % CHUNK_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_what_was_set_and_others_their_default() {
        let mut per_sku = PerSku::default();
        let distant_id = SkuId::from_index(3 * CHUNK_LENGTH + 7);
        per_sku.set(distant_id, 5u32);
        assert_eq!(per_sku.get(distant_id), 5);
        assert_eq!(per_sku.get(SkuId::from_index(3 * CHUNK_LENGTH + 8)), 0);
        assert_eq!(per_sku.get(SkuId::from_index(9 * CHUNK_LENGTH)), 0);
        per_sku.clear();
        assert_eq!(per_sku.get(distant_id), 0);
    }
}
