//! Taking names and images away.

use tare_model::{Digest, Error, Reference, Result};

use super::{Images, InUse};
use crate::layout::Layout;
use crate::meta::{Op, Table};

/// What a removal did, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<Reference>,
    /// Images deleted, by id.
    pub deleted: Vec<Digest>,
    /// Layers deleted because no image needs them, by key.
    pub layers: Vec<Digest>,
}

// === impl Images ===

impl Images {
    /// Takes away the name, or the image if `name` is its id or its last name. What a container was made from stays:
    /// without `force` the request is refused, with it the image only loses its names.
    pub(crate) fn remove(&self, layout: &Layout, name: &str, force: bool, in_use: &InUse) -> Result<Removed> {
        let _one = self.lock();
        let (plan, ops) = self.plan_removal(name, force, in_use)?;
        self.meta.commit(ops)?;
        self.write(|state| {
            state.tags.retain(|tag, _| !plan.untagged.contains(tag));
            state.images.retain(|id, _| !plan.deleted.contains(id));
            state.layers.retain(|key, _| !plan.layers.contains(key));
        });
        for key in &plan.layers {
            layout.discard(&layout.layers, &key.hex())?;
        }
        Ok(plan)
    }

    fn plan_removal(&self, name: &str, force: bool, in_use: &InUse) -> Result<(Removed, Vec<Op>)> {
        let state = self.read();
        let id = state.find(name)?;
        let tags = state.tags_of(&id);
        let by_name = name.parse::<Reference>().ok().map(Reference::or_latest).filter(|r| tags.contains(r));
        let used = in_use.contains(&id);
        let mut plan = Removed::default();
        match by_name {
            Some(tag) if tags.len() > 1 => plan.untagged.push(tag),
            Some(tag) if used && !force => {
                return Err(Error::conflict(format!(
                    "conflict: unable to remove repository reference \"{}\" (must force) - a container is using its \
                     referenced image {}",
                    tag.familiar(),
                    id.short()
                )));
            }
            None if !force && tags.len() > 1 => {
                return Err(Error::conflict(format!(
                    "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                    id.short()
                )));
            }
            None if used && (!force || tags.is_empty()) => {
                return Err(Error::conflict(format!(
                    "conflict: unable to delete {} - a container is using it: remove the container first",
                    id.short()
                )));
            }
            _ => {
                plan.untagged = tags;
                if !used {
                    plan.deleted.push(id);
                    plan.layers = state.unneeded_without(&id);
                }
            }
        }
        let delete = |table, keys: Vec<String>| keys.into_iter().map(move |key| Op::Delete(table, key));
        let ids: Vec<_> = plan.deleted.iter().map(Digest::to_string).collect();
        let mut ops: Vec<_> =
            delete(Table::Tags, plan.untagged.iter().map(Reference::to_string).collect()).collect();
        ops.extend(delete(Table::Images, ids.clone()));
        ops.extend(delete(Table::Documents, ids));
        ops.extend(delete(Table::Layers, plan.layers.iter().map(Digest::to_string).collect()));
        Ok((plan, ops))
    }
}
