//! After the end: what is recorded, who is told, what is removed.

use tare_model::{Error, ExitRecord, Result, Status};

use super::driver::{Driver, answer};
use super::ending::Then;
use crate::api::event::Action;
use crate::assets;
use crate::work;

// === impl Driver ===

impl Driver {
    /// The container has ended.
    pub(super) async fn ended(&mut self, exit: ExitRecord) {
        (self.link, self.pid, self.shim_pid) = (None, None, None);
        self.tell_networks(&Action::NetworkDisconnect);
        // Before anyone hears of the end: who does may want the same ports at once.
        self.give_networks_back().await;
        self.status = Status::Exited;
        self.exits += 1;
        self.me.life.running = false;
        self.me.life.error = exit.error.clone().unwrap_or_default();
        let code = exit.exit.code();
        self.me.life.exit = Some(exit);
        self.core.execs.container_ended(&self.me.id);
        let then = self.ending.take();
        let again = then.iter().any(|t| matches!(t, Then::Start(_)));
        let removes_itself = self.me.made.fixed.config.auto_remove && !again;
        // Durable before anyone hears of it. Its own removal needs no record of how it ended.
        if !removes_itself && let Err(e) = self.save().await {
            tracing::error!(container = self.me.id.as_str(), "keep its exit: {e}");
        }
        self.core.tell(&self.view(), Action::Die, &[("exitCode", code.to_string())]);
        self.publish();
        self.serve(then).await;
        if removes_itself && !self.gone {
            self.remove_itself().await;
        }
    }

    /// Those who waited for the end get what they wanted: a start before a removal, and the first removal for all.
    async fn serve(&mut self, then: Vec<Then>) {
        let (mut starts, mut removals) = (Vec::new(), Vec::new());
        for then in then {
            match then {
                Then::Tell(reply) => {
                    self.core.tell(&self.view(), Action::Stop, &[]);
                    answer(reply, Ok(()));
                }
                Then::Done(reply) => answer(reply, Ok(())),
                Then::Missed(why, reply) => answer(reply, Err(why)),
                Then::Start(reply) => starts.push(reply),
                Then::Remove(options, reply) => removals.push((options, reply)),
            }
        }
        if !removals.is_empty() {
            let volumes = removals.iter().any(|(options, _)| options.volumes);
            let result = self.remove(volumes).await;
            removals.into_iter().for_each(|(_, reply)| answer(reply, result.clone()));
            let gone = || Err(Error::conflict("container is marked for removal and cannot be started"));
            starts.into_iter().for_each(|reply| answer(reply, gone()));
            return;
        }
        if !starts.is_empty() {
            let result = self.start(&Default::default()).await;
            starts.into_iter().for_each(|reply| self.restarted(reply, result.clone()));
        }
    }

    /// `--rm`.
    pub(super) async fn remove_itself(&mut self) {
        if let Err(e) = self.remove(true).await {
            tracing::error!(container = self.me.id.as_str(), "remove it after its end: {e}");
        }
    }

    /// Takes away everything that belongs to the container alone, and tells everything that could not be.
    ///
    /// The record goes first: should the engine be killed here, what has no record is cleaned at the next start.
    pub(super) async fn demolish(&self, volumes: bool) -> Result<()> {
        let (core, me) = (self.core.clone(), self.me.clone());
        let work = move || {
            core.store.containers().remove(&me.id)?;
            let volumes = if volumes { me.made.volumes.as_slice() } else { &[] };
            assets::discard(&core.store, &me.id, volumes, &me.made.fixed.paths.run_dir)
        };
        match self.me.durability() {
            // Renames and unlinks in memory and on warm directories: quicker than to hand them to another thread.
            tare_store::Durability::Process => work(),
            tare_store::Durability::Disk => work::blocking(work).await,
        }
    }
}
