//! Network namespaces beside those of the engines, made when first needed.

use std::cell::OnceCell;

use tare_kit::Space;

use crate::subject::Subject;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Around {
    neighbours: OnceCell<Vec<Space>>,
    pair: OnceCell<(Space, Space)>,
}

// === impl Around ===

impl Around {
    /// A neighbour of the host of the subject at this place. The host's own address is there from then on.
    pub(crate) fn neighbour(&self, subjects: &[&Subject<'_>], at: usize) -> &Space {
        &self.neighbours.get_or_init(|| subjects.iter().map(|subject| subject.space.neighbour()).collect())
            [at]
    }

    /// Two ends of a pair of links, with nothing else around.
    pub(crate) fn pair(&self) -> &(Space, Space) {
        self.pair.get_or_init(|| {
            let near = Space::new();
            let far = near.neighbour();
            (near, far)
        })
    }
}
