//! Work on other threads and tasks, and chance.

use tare_model::{Error, Result};

/// Runs something that blocks on the disk, on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::system(format!("a worker of the engine failed: {e}"))),
    }
}

/// Does something whole, even if nobody waits for the answer any more: a face drops what it waits for when its
/// client hangs up, and a future that is dropped stops wherever it happens to be.
pub(crate) async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::system(format!("a task of the engine failed: {e}"))),
    }
}

/// Random bytes for an id.
pub(crate) fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole once the kernel's source is ready.
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(32) => Ok(bytes),
        Ok(n) => Err(Error::system(format!("getrandom: {n} bytes instead of 32"))),
        Err(e) => Err(Error::system(format!("getrandom: {e}"))),
    }
}
