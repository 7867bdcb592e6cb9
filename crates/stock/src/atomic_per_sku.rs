//! Array of one atomic number per SKU of a shop, written without a lock in the usual case.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use parking_lot::RwLock;

use super::SkuId;
use super::per_sku::{CHUNK_LENGTH, position};

/// Array like [`super::PerSku`] that is written through a shared reference.
#[derive(Debug)]
pub(super) struct AtomicPerSku<T> {
    // Arrays, not slices: their length is known at compile time.
    chunks: RwLock<Vec<Arc<[T; CHUNK_LENGTH]>>>,
}

impl<T> Default for AtomicPerSku<T> {
    fn default() -> Self {
        Self {
            chunks: RwLock::default(),
        }
    }
}

impl<T: AtomicNumber> AtomicPerSku<T> {
    /// Returns the number of this SKU, or the default if it was never set.
    pub(super) fn load(&self, id: SkuId) -> T::Primitive {
        let (chunk, cell) = position(id);
        let chunks = self.chunks.read();
        let cells = chunks.get(chunk);
        cells.map_or_else(T::Primitive::default, |cells| cells[cell].get())
    }

    /// Applies `change` to the cell of each SKU.
    pub(super) fn update(
        &self,
        ids: impl Iterator<Item = SkuId>,
        mut change: impl FnMut(SkuId, &T),
    ) {
        let mut chunks = self.chunks.read();
        for id in ids {
            let (chunk, cell) = position(id);
            if let Some(cells) = chunks.get(chunk) {
                change(id, &cells[cell]);
            } else {
                drop(chunks);
                self.grow(chunk + 1);
                chunks = self.chunks.read();
                change(id, &chunks[chunk][cell]);
            }
        }
    }

    fn grow(&self, length: usize) {
        let mut chunks = self.chunks.write();
        while chunks.len() < length {
            chunks.push(Arc::new(std::array::from_fn(|_| T::default())));
        }
    }
}

/// Atomic unsigned number of 8 or 16 bits.
pub(super) trait AtomicNumber: Default {
    type Primitive: Default;
    fn get(&self) -> Self::Primitive;
}

impl AtomicNumber for AtomicU16 {
    type Primitive = u16;

    fn get(&self) -> u16 {
        self.load(Ordering::Relaxed)
    }
}

impl AtomicNumber for AtomicU8 {
    type Primitive = u8;

    fn get(&self) -> u8 {
        self.load(Ordering::Relaxed)
    }
}
