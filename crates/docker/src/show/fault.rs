//! Faults of containers' networks, as our own paths and `Tare.Faults` of an inspected container have them.

use tare_docker_api::extension::{Fault as Shown, Suffered};
use tare_docker_api::stamp;
use tare_engine::FaultView;
use tare_model::fault::{Fault, Impairment, Peer, WHOLE};

/// One, with whose it is.
pub(crate) fn fault(view: &FaultView) -> Shown {
    Shown {
        container: view.container.to_string(),
        name: view.name.as_str().to_owned(),
        network: view.network.clone().unwrap_or_default(),
        ..alone(&view.fault)
    }
}

/// One of a container that is known; a network is told by its id.
pub(crate) fn alone(fault: &Fault) -> Shown {
    Shown {
        id: fault.id.to_string(),
        network: fault.network.as_ref().map(ToString::to_string).unwrap_or_default(),
        direction: fault.direction.word().to_owned(),
        suffered: suffered(&fault.impairment),
        partition: fault.partition.iter().map(peer).collect(),
        summary: fault.to_string(),
        since: stamp::rfc3339(fault.since),
        until: fault.until.map(stamp::rfc3339),
        ..Shown::default()
    }
}

fn suffered(how: &Impairment) -> Suffered {
    let some = |nanos: u64| Some(nanos).filter(|nanos| *nanos > 0);
    let percent = |odds: u32| Some(f64::from(odds) * 100.0 / f64::from(WHOLE)).filter(|_| odds > 0);
    Suffered {
        latency: some(how.latency),
        jitter: some(how.jitter),
        loss: percent(how.loss),
        corrupt: percent(how.corrupt),
        duplicate: percent(how.duplicate),
        reorder: percent(how.reorder),
        rate: how.rate,
    }
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Container { name, .. } => format!("container:{name}"),
        Peer::Network { name, .. } => format!("network:{name}"),
    }
}
