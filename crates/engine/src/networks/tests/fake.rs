//! A fabric that only remembers, and fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use ipnet::IpNet;
use tare_model::fault::Impairment;
use tare_model::network::{Network, Protocol, Published};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::shaping::Shaping;
use tare_model::{ContainerId, Error, Result};

use crate::networks::Resolver;
use crate::networks::fabric::{Cut, Fabric, Join};

/// What the kernel would have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Interfaces, by the endpoint, with what they suffer.
    pub(super) ends: BTreeMap<String, [Impairment; 2]>,
    /// Endpoints of the networks that a container's questions are answered for.
    pub(super) names: BTreeMap<ContainerId, BTreeSet<String>>,
    /// Where default routes go.
    pub(super) routes: BTreeMap<ContainerId, Vec<String>>,
    pub(super) published: Vec<Published>,
    pub(super) cuts: Vec<Cut>,
    pub(super) limits: BTreeMap<String, Shaping>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Fake {
    kernel: Mutex<Kernel>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    /// Calls until one fails; none: all succeed.
    fails_at: Option<usize>,
    /// A program of the host's has these ports.
    taken: BTreeSet<u16>,
    /// Threads that looked for who has one.
    searches: Vec<ThreadId>,
}

// === impl Fake ===

impl Fake {
    pub(super) fn kernel(&self) -> Kernel {
        let mut kernel = self.lock().clone();
        kernel.published.sort();
        kernel
    }

    /// The call after so many others fails, once.
    pub(super) fn fail_at(&self, call: usize) {
        self.plan.lock().unwrap().fails_at = Some(call);
    }

    /// True if the failure that was ordered has come; there is none any more.
    pub(super) fn has_failed(&self) -> bool {
        self.plan.lock().unwrap().fails_at.take().is_none()
    }

    pub(super) fn take_port(&self, port: u16) {
        self.plan.lock().unwrap().taken.insert(port);
    }

    pub(super) fn searches(&self) -> Vec<ThreadId> {
        self.plan.lock().unwrap().searches.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap()
    }

    fn step(&self) -> Result<()> {
        let mut plan = self.plan.lock().unwrap();
        match plan.fails_at {
            Some(0) => {
                plan.fails_at = None;
                Err(Error::system("ordered to fail"))
            }
            Some(calls) => {
                plan.fails_at = Some(calls - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Fabric for Fake {
    fn routes(&self) -> Result<Vec<IpNet>> {
        self.step().map(|()| Vec::new())
    }

    fn ensure(&self, _: &Network) -> Result<()> {
        self.step()
    }

    fn remove(&self, _: &Network) -> Result<()> {
        self.step()
    }

    /// Fails with half of it done.
    fn attach(&self, joins: &[Join], _: &NetworkSockets) -> Result<NetworkReady> {
        for join in joins {
            self.lock().ends.insert(join.endpoint.id.clone(), Default::default());
            self.lock().limits.insert(join.endpoint.id.clone(), join.shaping);
            self.step()?;
        }
        Ok(NetworkReady::default())
    }

    fn serve_names(&self, joins: &[Join], _: &Resolver, _: &NetworkSockets) -> Result<()> {
        self.step()?;
        let Some(first) = joins.first() else { return Ok(()) };
        let on = joins.iter().map(|join| join.endpoint.id.clone()).collect();
        self.lock().names.insert(first.container.clone(), on);
        Ok(())
    }

    fn shape(&self, joins: &[Join]) -> Result<()> {
        for join in joins {
            self.step()?;
            self.lock().limits.insert(join.endpoint.id.clone(), join.shaping);
        }
        Ok(())
    }

    fn impair(&self, join: &Join, suffered: &[Impairment; 2], _: &NetworkSockets) -> Result<()> {
        self.step()?;
        self.lock().ends.insert(join.endpoint.id.clone(), *suffered);
        Ok(())
    }

    fn part(&self, cuts: &[Cut]) -> Result<()> {
        self.step()?;
        let mut kernel = self.lock();
        kernel.cuts = cuts.iter().filter(|cut| kernel.ends.contains_key(&cut.endpoint)).cloned().collect();
        Ok(())
    }

    fn detach(&self, join: &Join, _: &NetworkSockets) -> Result<()> {
        self.step()?;
        self.lock().ends.remove(&join.endpoint.id);
        self.lock().limits.remove(&join.endpoint.id);
        Ok(())
    }

    fn route(&self, joins: &[Join], _: &NetworkSockets) -> Result<()> {
        self.step()?;
        let Some(first) = joins.first() else { return Ok(()) };
        let ways = joins.iter().filter(|join| join.default_routes.0 || join.default_routes.1);
        let ways = ways.map(|join| join.endpoint.id.clone()).collect();
        self.lock().routes.insert(first.container.clone(), ways);
        Ok(())
    }

    fn rename(&self, _: &[Join]) {}

    fn forget(&self, joins: &[Join]) -> Result<()> {
        let mut kernel = self.lock();
        for join in joins {
            kernel.ends.remove(&join.endpoint.id);
            kernel.limits.remove(&join.endpoint.id);
            kernel.names.remove(&join.container);
            kernel.routes.remove(&join.container);
        }
        Ok(())
    }

    fn forget_connections(&self, _: &[Join]) -> Result<()> {
        Ok(())
    }

    fn publish(&self, published: &[Published], _: Vec<Option<OwnedFd>>) -> Result<()> {
        self.step()?;
        self.lock().published.extend(published.iter().cloned());
        Ok(())
    }

    fn unpublish(&self, published: &[Published]) -> Result<()> {
        self.step()?;
        self.lock().published.retain(|one| !published.contains(one));
        Ok(())
    }

    fn to_be_kept(&self) -> Option<OwnedFd> {
        None
    }

    fn restore(
        &self,
        _: &[Arc<Network>],
        joins: &[Join],
        (published, _): (&[Published], Vec<Option<OwnedFd>>),
        _: Option<OwnedFd>,
    ) -> Result<()> {
        self.step()?;
        let ends = joins.iter().map(|join| (join.endpoint.id.clone(), Default::default()));
        let mut kernel = self.lock();
        kernel.ends = ends.collect();
        kernel.published = published.to_vec();
        Ok(())
    }

    fn hold(&self, _: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        match self.plan.lock().unwrap().taken.contains(&address.port()) {
            true => Err(io::ErrorKind::AddrInUse.into()),
            false => Ok(None),
        }
    }

    fn holder(&self, _: Protocol, _: SocketAddr) -> String {
        self.plan.lock().unwrap().searches.push(std::thread::current().id());
        "nginx (PID 7)".into()
    }

    fn ephemeral_ports(&self) -> (u16, u16) {
        (40_000, 40_100)
    }

    fn retire(&self, _: &[Arc<Network>]) {}
}
