//! What is decided about networks, with a fabric that only remembers: whatever fails, nothing is left of it.

mod fake;

use std::sync::Arc;

use tare_model::container::{ContainerConfig, NetworkMode};
use tare_model::fault::{Direction, Fault, Impairment, Peer};
use tare_model::network::{EndpointConfig, NetworkConfig, PortBinding, Protocol};
use tare_model::sandbox::NetworkSockets;
use tare_model::shaping::Reshaping;
use tare_model::{ContainerId, ErrorKind, FaultId, NetworkId, Result};
use tare_store::{Store, StoreConfig};

use super::{Attached, Networks, Party, Settings};
use crate::api::network::PortChange;
use fake::{Fake, Kernel};

/// More calls than anything here makes.
const MANY: usize = 40;

/// Networks `front` and `back`, and containers by number.
struct Room {
    networks: Arc<Networks>,
    fabric: Arc<Fake>,
    _scratch: tempfile::TempDir,
}

/// What is told of a container.
struct Who {
    id: ContainerId,
    name: String,
    config: ContainerConfig,
}

/// Everything that can be left of something: addresses in use, who is a member of which network, and what the kernel has.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    in_use: Vec<(String, Vec<u64>, usize)>,
    kernel: Kernel,
    faults: usize,
}

fn open(scratch: &tempfile::TempDir, fabric: &Arc<Fake>) -> Arc<Networks> {
    let config = StoreConfig {
        root: scratch.path().join("root"),
        run_dir: scratch.path().join("run"),
        ids: tare_store::IDS.into(),
    };
    std::fs::create_dir_all(&config.run_dir).unwrap();
    let store = Arc::new(Store::open(&config).unwrap());
    let settings = Settings { bridge: Some("tare0".into()), ula: [7; 5] };
    let fabric = Arc::clone(fabric);
    Arc::new(Networks::open(store, Some(fabric), &settings).unwrap())
}

fn sockets() -> NetworkSockets {
    let any = || std::fs::File::open("/dev/null").unwrap().into();
    NetworkSockets { route: any(), netfilter: any(), dns_udp: any(), dns_tcp: any() }
}

impl Room {
    async fn new() -> Self {
        let (scratch, fabric) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
        let networks = open(&scratch, &fabric);
        for name in ["front", "back"] {
            let mut config =
                NetworkConfig { name: name.into(), ipv4: true, ipv6: true, ..Default::default() };
            config.bridge.rates =
                if name == "front" { "in=10MB".parse().unwrap() } else { Default::default() };
            networks.create(config).await.unwrap();
        }
        Self { networks, fabric, _scratch: scratch }
    }

    fn left(&self) -> Left {
        let views = self.networks.list();
        let in_use = views.iter().map(|view| {
            let used = view.usage.iter().map(|usage| usage.in_use).collect();
            (view.network.config.name.clone(), used, view.containers.len())
        });
        let faults = self.networks.lock().cuts().len();
        Left { in_use: in_use.collect(), kernel: self.fabric.kernel(), faults }
    }

    /// As a driver does it.
    async fn start(&self, who: &Who) -> Result<Attached> {
        let attached = self.networks.take_when_free(who.party()).await?.expect("it is on networks");
        let done = match self.networks.ready(&attached).await {
            Ok(()) => self.networks.set_up(&who.id, &attached, &sockets()).map(drop),
            refused => refused,
        };
        if let Err(e) = done {
            self.end(who, attached).await;
            return Err(e);
        }
        Ok(attached)
    }

    async fn end(&self, who: &Who, attached: Attached) {
        self.networks.give_back(&who.id, attached).await;
        self.networks.settled().await;
    }

    /// Tries with each call failing in turn, and gives what came of it when none did. Where it was refused, all is as before.
    async fn with_failures<T>(&self, attempt: impl AsyncFn() -> Result<T>) -> T {
        for call in 0..MANY {
            let before = self.left();
            self.fabric.fail_at(call);
            let tried = attempt().await;
            let failed = self.fabric.has_failed();
            match tried {
                Ok(done) if !failed => return done,
                Ok(_) => panic!("call {call} failed, and nobody was told"),
                Err(e) => assert_eq!(self.left(), before, "call {call} failed: {e}"),
            }
        }
        panic!("it does not end")
    }
}

impl Who {
    fn new(number: u8, networks: &[&str], ports: &[u16]) -> Self {
        let mut config = ContainerConfig::default();
        config.namespaces.network = NetworkMode::Network { network: networks[0].into() };
        let others = networks[1..].iter().map(|name| ((*name).to_owned(), EndpointConfig::default()));
        config.networking.endpoints = others.collect();
        config.networking.ports = ports.iter().copied().map(binding).collect();
        Self { id: ContainerId::from_bytes([number; 32]), name: format!("c{number}"), config }
    }

    fn party(&self) -> Party<'_> {
        Party { id: &self.id, name: &self.name, config: &self.config, exposed: &[] }
    }
}

fn binding(port: u16) -> PortBinding {
    PortBinding { port: 80, protocol: Protocol::Tcp, host: None, host_ports: (port, port) }
}

fn partition(networks: &[NetworkId], from: &Who) -> Fault {
    Fault {
        id: FaultId::from_bytes([9; 32]),
        network: networks.first().cloned(),
        direction: Direction::Both,
        impairment: Impairment { loss: 1, ..Impairment::default() },
        partition: vec![Peer::Container { id: from.id.clone(), name: from.name.clone() }],
        since: 0,
        until: None,
    }
}

#[tokio::test]
async fn a_start_that_fails_anywhere_leaves_nothing() {
    let room = Room::new().await;
    let (before, who) = (room.left(), Who::new(1, &["front", "back"], &[8080]));
    let attached = room.with_failures(async || room.start(&who).await).await;
    let kernel = room.fabric.kernel();
    assert_eq!((kernel.ends.len(), kernel.published.len(), kernel.names.len()), (2, 2, 1));
    assert!(attached.host.is_some(), "resolv.conf was read once, for all who need it");
    room.end(&who, attached).await;
    assert_eq!(room.left(), before);
}

#[tokio::test]
async fn a_connection_that_fails_anywhere_leaves_all_as_it_was() {
    let room = Room::new().await;
    let (who, config) = (Who::new(1, &["front"], &[8080]), EndpointConfig::default());
    let mut attached = room.start(&who).await.unwrap();
    room.networks
        .set_up(&who.id, &Attached { published: Vec::new(), ..attached.clone() }, &sockets())
        .unwrap();
    // Its routes are where a connection finds them.
    room.networks.settle(&who.id, &attached, &sockets()).unwrap();
    attached.faults = vec![partition(&[], &Who::new(2, &["front"], &[]))];
    room.networks.lock().set_faults(&who.id, &attached.faults);
    let networks = &room.networks;
    let attempt = async || networks.connect(who.party(), &attached, "back", &config, sockets()).await;
    let after = room.with_failures(attempt).await;
    assert_eq!(after.joins.len(), 2);
    let suffers = room.fabric.kernel().ends[&after.joins[1].endpoint.id];
    assert_eq!(suffers.map(|one| one.loss), [1, 1], "a fault of all its networks is one of this one too");
}

#[tokio::test]
async fn a_container_is_on_a_network_or_off_it_whatever_fails() {
    let room = Room::new().await;
    let who = Who::new(1, &["front", "back"], &[8080]);
    for call in 0..MANY {
        let attached = room.start(&who).await.unwrap();
        room.networks.settle(&who.id, &attached, &sockets()).unwrap();
        let before = room.left();
        room.fabric.fail_at(call);
        // By `back` it leaves, and is published; then it is by `front`.
        let left = room.networks.disconnect(who.party(), &attached, "back", sockets()).await;
        let failed = room.fabric.has_failed();
        let now = match left {
            Ok(after) => {
                assert_eq!(after.joins.len(), 1);
                assert!(failed && after.published.is_empty() || after.published.len() == 2, "call {call}");
                let own = |net: &ipnet::IpNet| after.published.iter().any(|one| one.address == net.addr());
                assert!(after.published.is_empty() || after.joins[0].endpoint.addresses.iter().all(own));
                let kernel = room.fabric.kernel();
                assert_eq!(
                    (kernel.ends.len(), kernel.published.len()),
                    (1, after.published.len()),
                    "call {call}"
                );
                drop(kernel);
                after
            }
            Err(e) => {
                assert_eq!(room.left(), before, "call {call} failed: {e}");
                attached
            }
        };
        room.end(&who, now).await;
        if !failed {
            return;
        }
    }
    panic!("it does not end");
}

#[tokio::test]
async fn ports_that_cannot_be_changed_stay_as_they_are() {
    let room = Room::new().await;
    let who = Who::new(1, &["front"], &[8080]);
    let attached = room.start(&who).await.unwrap();
    let change = PortChange { add: vec![binding(8081)], remove: vec![binding(8080)] };
    let networks = &room.networks;
    let after =
        room.with_failures(async || networks.change_ports(who.party(), &attached, &change).await).await;
    let ports: Vec<u16> = after.published.iter().map(|one| one.host_port).collect();
    assert_eq!(ports, [8081, 8081]);
    // The port that was given back can be had again, the other one not.
    room.start(&Who::new(2, &["front"], &[8080])).await.unwrap();
    let taken = room.start(&Who::new(3, &["front"], &[8081])).await.unwrap_err();
    assert_eq!(
        (taken.kind(), taken.message().contains("by container c1")),
        (ErrorKind::Conflict, true),
        "{taken}"
    );
}

#[tokio::test]
async fn a_port_of_another_program_is_told_with_its_holder() {
    let room = Room::new().await;
    room.fabric.take_port(8080);
    let before = room.left();
    let refused = room.start(&Who::new(1, &["front"], &[8080])).await.unwrap_err();
    let words = "Bind for 0.0.0.0:8080 failed: port is already allocated by nginx (PID 7)";
    assert_eq!((refused.kind(), refused.message()), (ErrorKind::Conflict, words));
    assert_eq!(room.left(), before);
}

#[tokio::test]
async fn who_has_a_port_is_looked_for_once_and_not_by_those_who_answer_others() {
    let room = Room::new().await;
    room.fabric.take_port(8081);
    let who = Who::new(1, &["front"], &[8080]);
    let attached = room.start(&who).await.unwrap();
    room.start(&Who::new(2, &["front"], &[8081])).await.unwrap_err();
    let change = PortChange { add: vec![binding(8081)], remove: Vec::new() };
    room.networks.change_ports(who.party(), &attached, &change).await.unwrap_err();
    let searches = room.fabric.searches();
    assert_eq!(searches.len(), 2, "once for the start, once for the change");
    assert!(!searches.contains(&std::thread::current().id()), "this thread runs everybody's tasks");
}

#[tokio::test]
async fn faults_begin_and_end_as_a_whole() {
    let room = Room::new().await;
    let (one, two) = (Who::new(1, &["front", "back"], &[]), Who::new(2, &["front"], &[]));
    let attached = room.start(&one).await.unwrap();
    let peer = room.start(&two).await.unwrap();
    let fault = partition(&[], &two);
    let networks = &room.networks;
    let begin = async || networks.fault(&one.id, &attached, vec![fault.clone()], sockets()).await;
    let faulty = room.with_failures(begin).await;
    assert_eq!(room.fabric.kernel().cuts.len(), 2, "each end is deaf to the other");
    // A peer that is started again is cut off again, with its new endpoint.
    room.end(&two, peer).await;
    assert_eq!(room.fabric.kernel().cuts, []);
    let peer = room.start(&two).await.unwrap();
    let cuts = room.fabric.kernel().cuts;
    assert!(cuts.iter().any(|cut| cut.endpoint == peer.joins[0].endpoint.id) && cuts.len() == 2, "{cuts:?}");
    let end = async || networks.fault(&one.id, &faulty, Vec::new(), sockets()).await;
    let whole = room.with_failures(end).await;
    let kernel = room.fabric.kernel();
    assert!(kernel.cuts.is_empty() && kernel.ends.values().flatten().all(Impairment::is_none));
    room.end(&one, whole).await;
}

#[tokio::test]
async fn a_networks_rate_changes_for_all_who_divide_it_or_for_nobody() {
    let room = Room::new().await;
    let who = Who::new(1, &["front"], &[]);
    let attached = room.start(&who).await.unwrap();
    let change: Reshaping = "in=5MB,out=1MB".parse().unwrap();
    let rates = |room: &Room| room.networks.get("front").unwrap().network.config.bridge.rates;
    let before = rates(&room);
    room.fabric.fail_at(0);
    room.networks.rerate("front", change).await.unwrap_err();
    assert!(room.fabric.has_failed() && rates(&room) == before);
    room.networks.rerate("front", change).await.unwrap();
    assert_eq!(rates(&room), "in=5MB,out=1MB".parse().unwrap());
    let option = &room.networks.get("front").unwrap().network.config.raw_options["tare.network.rate"];
    assert_eq!(option, "in=5000000B,out=1000000B");
    let wrong = room
        .networks
        .rerate("front", "in=1bit".parse::<Reshaping>().unwrap_or(Reshaping { inward: Some(1), ..change }));
    assert_eq!(wrong.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    room.end(&who, attached).await;
}

#[tokio::test]
async fn another_engine_takes_over_what_there_is() {
    let mut room = Room::new().await;
    let (one, two, gone) =
        (Who::new(1, &["front"], &[8080]), Who::new(2, &["front"], &[]), Who::new(3, &["front"], &[]));
    let first = room.start(&one).await.unwrap();
    let second = room.start(&two).await.unwrap();
    let ended = room.start(&gone).await.unwrap();
    let faults = vec![partition(&[], &two)];
    let first = room.networks.fault(&one.id, &first, faults, sockets()).await.unwrap();
    let before = room.fabric.kernel();
    // As it is written down and read back.
    let kept = |attached: &Attached| -> Attached {
        serde_json::from_str(&serde_json::to_string(attached).unwrap()).unwrap()
    };
    let fabric = Arc::new(Fake::default());
    room.networks = {
        let Room { networks, _scratch, .. } = &room;
        let store = Arc::clone(&networks.store);
        let settings = Settings { bridge: Some("tare0".into()), ula: [7; 5] };
        let _ = _scratch;
        Arc::new(Networks::open(store, Some(Arc::clone(&fabric) as _), &settings).unwrap())
    };
    room.fabric = fabric;
    let running = [(one.id.clone(), kept(&first)), (two.id.clone(), kept(&second))];
    for (who, (id, attached)) in [&one, &two].into_iter().zip(&running) {
        room.networks.adopt(id, &who.name, attached);
    }
    room.networks.restore(&running, &[(gone.id.clone(), kept(&ended))], None).unwrap();
    room.networks.fault_again(&one.id, &running[0].1, sockets()).await.unwrap();
    let kernel = room.fabric.kernel();
    assert_eq!((kernel.cuts, kernel.published), (before.cuts, before.published));
    assert_eq!(kernel.ends[&first.joins[0].endpoint.id].map(|one| one.loss), [1, 1]);
    // What they have nobody else gets.
    let taken = room.start(&Who::new(4, &["front"], &[8080])).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    let fresh = room.start(&Who::new(5, &["front"], &[])).await.unwrap();
    let of = |attached: &Attached| attached.joins[0].endpoint.addresses.clone();
    assert!(of(&fresh) != of(&first) && of(&fresh) != of(&second));
    let in_use = room.networks.get("front").unwrap();
    assert_eq!(in_use.containers.len(), 3, "not the one that is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_disconnecting_and_ending_at_once_leave_nothing() {
    let room = Arc::new(Room::new().await);
    let before = room.left();
    let lives = (1..=16_u8).map(|number| {
        let room = Arc::clone(&room);
        tokio::spawn(async move {
            let who = Who::new(number, &["front"], &[9000 + u16::from(number)]);
            for _ in 0..10 {
                let mut attached = room.start(&who).await.unwrap();
                let config = EndpointConfig::default();
                let networks = &room.networks;
                attached =
                    networks.connect(who.party(), &attached, "back", &config, sockets()).await.unwrap();
                let off = if number % 2 == 0 { "front" } else { "back" };
                attached = networks.disconnect(who.party(), &attached, off, sockets()).await.unwrap();
                room.networks.give_back(&who.id, attached).await;
            }
        })
    });
    for life in lives.collect::<Vec<_>>() {
        life.await.unwrap();
    }
    room.networks.settled().await;
    assert_eq!(room.left(), before);
}
