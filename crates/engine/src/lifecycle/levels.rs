//! SELinux levels in use: each pair of categories is drawn for one container, and free again when that has gone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tare_model::{Error, Result};

use crate::selinux::CATEGORIES;
use crate::spec::selinux::Context;
use crate::work;

/// How many pairs are tried; there are half a million.
const ATTEMPTS: usize = 256;

/// How often each level is in use: by containers, and by those in the making.
#[derive(Default)]
pub(crate) struct Levels {
    uses: Mutex<HashMap<String, usize>>,
}

/// A level that nobody else is given, for as long as it lives.
#[must_use]
pub(crate) struct Held<'a> {
    levels: &'a Levels,
    level: String,
    /// Its two categories.
    pub(crate) categories: (u16, u16),
}

// === impl Levels ===

impl Levels {
    /// A container has it.
    pub(crate) fn add(&self, level: String) {
        *self.lock().entry(level).or_default() += 1;
    }

    /// A container that had it has gone.
    pub(crate) fn take_away(&self, level: &str) {
        let mut uses = self.lock();
        if let Some(count) = uses.get_mut(level) {
            *count -= 1;
            if *count == 0 {
                uses.remove(level);
            }
        }
    }

    /// Two categories that no container has together, for labels like this one. Nothing where there are no levels.
    ///
    /// # Errors
    /// `Conflict` if none was found.
    pub(crate) fn draw(&self, like: &Context) -> Result<Option<Held<'_>>> {
        self.draw_from(like, || {
            let bytes = work::random()?;
            let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]) % CATEGORIES;
            Ok((number(0), number(2)))
        })
    }

    fn draw_from(
        &self,
        like: &Context,
        mut pair: impl FnMut() -> Result<(u16, u16)>,
    ) -> Result<Option<Held<'_>>> {
        for _ in 0..ATTEMPTS {
            let categories = pair()?;
            let Some(level) = like.clone().with_categories(categories).level else { return Ok(None) };
            let mut uses = self.lock();
            if categories.0 != categories.1 && !uses.contains_key(&level) {
                uses.insert(level.clone(), 1);
                return Ok(Some(Held { levels: self, level, categories }));
            }
        }
        Err(Error::conflict(
            "no two SELinux categories were found that no other container has; name a level with --security-opt label=level:",
        ))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.levels.take_away(&self.level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str) -> Context {
        Context::parse(text).expect("a label")
    }

    #[test]
    fn no_two_containers_have_the_same_two_categories() {
        let levels = Levels::default();
        // The same in either order, and twice the same is none.
        let mut pairs = [(1, 2), (2, 1), (3, 3), (4, 1)].into_iter();
        let mut pair = || pairs.next().ok_or_else(|| Error::system("no more"));
        let first = levels.draw_from(&like("u:r:t:s0"), &mut pair).expect("draws").expect("has levels");
        let second = levels.draw_from(&like("u:r:t:s0"), &mut pair).expect("draws").expect("has levels");
        assert_eq!((first.categories, second.categories), ((1, 2), (4, 1)));
    }

    #[test]
    fn a_pair_is_free_when_the_last_who_had_it_has_gone() {
        let levels = Levels::default();
        let draw = || levels.draw_from(&like("u:r:t:s0"), || Ok((1, 2)));
        let held = draw().expect("free").expect("has levels");
        levels.add("s0:c1,c2".into());
        levels.add("s0:c1,c2".into());
        drop(held);
        assert!(draw().is_err());
        levels.take_away("s0:c1,c2");
        assert!(draw().is_err());
        levels.take_away("s0:c1,c2");
        drop(draw().expect("free"));
        assert!(draw().is_ok());
    }

    #[test]
    fn a_policy_without_levels_has_no_categories() {
        assert!(Levels::default().draw(&like("u:r:t")).expect("nothing to draw").is_none());
    }
}
