//! Array of one value per SKU of a shop, indexed by [`SkuId`].

use super::book::SkuId;

/// Number of cells allocated at once.
///
/// A chunk of 1024 sixteen-byte cells is 16 KiB. Growing never copies existing cells and wastes at
/// most one chunk, where a doubling `Vec` may waste half of its memory.
pub(super) const CHUNK_LENGTH: usize = 1024;

/// One value per SKU of a shop.
///
/// With it, other modules keep values for a million SKUs without a copy of the million SKU texts.
#[derive(Debug, Default)]
pub struct PerSku<T> {
    chunks: Vec<Box<[T]>>,
}

impl<T: Copy + Default> PerSku<T> {
    /// Returns the value of this SKU, or the default if it was never set.
    #[must_use]
    pub fn get(&self, id: SkuId) -> T {
        let (chunk, cell) = position(id);
        let cells = self.chunks.get(chunk);
        cells.map_or_else(T::default, |cells| cells[cell])
    }

    /// Sets the value of this SKU.
    pub fn set(&mut self, id: SkuId, value: T) {
        let (chunk, cell) = position(id);
        while self.chunks.len() <= chunk {
            self.chunks.push(vec![T::default(); CHUNK_LENGTH].into());
        }
        self.chunks[chunk][cell] = value;
    }

    /// Resets every value to the default.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }
}

/// Returns the chunk of a SKU and the cell in it.
pub(super) fn position(id: SkuId) -> (usize, usize) {
    (id.index() / CHUNK_LENGTH, id.index() % CHUNK_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_cells_have_the_default() {
        let mut per_sku = PerSku::default();
        let id = |chunk: u32, cell: u32| SkuId::from_number(chunk * 1024 + cell);
        let distant_id = id(3, 7);
        per_sku.set(distant_id, 5u32);
        assert_eq!(per_sku.get(distant_id), 5);
        assert_eq!(per_sku.get(id(3, 8)), 0);
        assert_eq!(per_sku.get(id(9, 0)), 0);
        per_sku.clear();
        assert_eq!(per_sku.get(distant_id), 0);
    }
}
