//! HTTP as handlers see it: a [`Call`] comes in, a [`Reply`] goes out, a [`Router`] stands between. Knows nothing of
//! containers.

mod body;
mod call;
mod query;
mod reply;
mod router;
mod upload;

pub(crate) use body::Body;
pub(crate) use call::Call;
pub(crate) use query::Query;
pub(crate) use reply::{Hijack, Reply};
pub(crate) use router::{Route, Router, Verb};
pub(crate) use upload::upload;
