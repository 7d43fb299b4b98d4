//! Images: what loading and removing them tells.

use tare_model::{Digest, Reference};

/// What `load` or `import` brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// The image.
    pub id: Digest,
    /// Names it got now.
    pub tags: Vec<Reference>,
}

/// One thing `remove_image` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedImage {
    /// This name is gone.
    Untagged(Reference),
    /// The image is gone.
    Deleted(Digest),
}
