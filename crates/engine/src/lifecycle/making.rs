//! Images that containers in the making begin as: in use already, and not yet to be seen in any published view.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tare_model::{Digest, Result};
use tokio::sync::{RwLock, RwLockWriteGuard};

/// All of them.
#[derive(Default)]
pub(crate) struct Making {
    /// Read while an image is looked up and claimed, written while one is removed.
    gate: RwLock<()>,
    ids: Mutex<Vec<Digest>>,
}

/// Keeps an image from being removed, for as long as it lives.
pub(crate) struct Claim {
    making: Arc<Making>,
    id: Digest,
}

// === impl Making ===

impl Making {
    /// Looks something up and claims the image it names, if it names one. No image goes between the two.
    ///
    /// # Errors
    /// What `look` fails with.
    pub(crate) async fn claim<T>(
        self: &Arc<Self>,
        look: impl FnOnce() -> Result<T>,
        image: impl FnOnce(&T) -> Option<Digest>,
    ) -> Result<(T, Option<Claim>)> {
        let _open = self.gate.read().await;
        let found = look()?;
        let claim = image(&found).map(|id| {
            self.lock().push(id);
            Claim { making: Arc::clone(self), id }
        });
        Ok((found, claim))
    }

    /// The claimed images, and the right to remove others: nothing is claimed while the guard lives.
    pub(crate) async fn closed(&self) -> (Vec<Digest>, RwLockWriteGuard<'_, ()>) {
        let closed = self.gate.write().await;
        (self.lock().clone(), closed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Digest>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Claim ===

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ids = self.making.lock();
        if let Some(at) = ids.iter().position(|id| *id == self.id) {
            ids.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_image_is_claimed_as_often_as_it_is_used() {
        let making = Arc::new(Making::default());
        let id = Digest::from_bytes([1; 32]);
        let claim = || making.claim(|| Ok(id), |id| Some(*id));
        let (_, first) = claim().await.expect("claims");
        let (_, second) = claim().await.expect("claims");
        drop(first);
        assert_eq!(making.closed().await.0, [id]);
        drop(second);
        assert!(making.closed().await.0.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_claimed_while_an_image_is_removed() {
        let making = Arc::new(Making::default());
        let id = Digest::from_bytes([1; 32]);
        let (_, closed) = making.closed().await;
        let mut claim = Box::pin(making.claim(|| Ok(id), |id| Some(*id)));
        assert!((&mut claim).now_or_never().is_none());
        drop(closed);
        assert!(claim.await.expect("claims").1.is_some());
    }
}
