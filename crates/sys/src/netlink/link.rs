//! Links: made, changed, looked up, deleted.
//!
//! See [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html) and
//! [ip-link(8)](https://man7.org/linux/man-pages/man8/ip-link.8.html).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Attributes, Message, Protocol, Request, Result, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNETCONF: u16 = 80;

const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_FORCE_FORWARDING: u16 = 9;
/// `NETCONFA_MC_FORWARDING`, `NETCONFA_PROXY_NEIGH`, `NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN`.
const NETCONFA_OTHERS: [u16; 3] = [4, 5, 6];

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_GROUP_FWD_MASK: u16 = 31;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;
const BRIDGE: &str = "bridge";
/// `IF_OPER_UP` of RFC 2863.
const OPERATIONAL: u8 = 6;

/// Bytes of `struct ifinfomsg`.
const FIXED: usize = 16;

/// A hardware address.
pub type Mac = [u8; 6];

/// What a new link is.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// A bridge without spanning tree: ports forward at once. Multicast goes to all ports: nobody on it asks who listens,
    /// without which the kernel's listening in on the answers forgets members after minutes.
    Bridge,
    /// One end of a pair.
    Veth {
        /// The other end, which starts down.
        peer: Box<NewLink<'a>>,
    },
    /// A link of its own hardware address on `parent`.
    Macvlan {
        /// Index of the link that it is on.
        parent: u32,
        /// `MACVLAN_MODE_*`.
        mode: u32,
    },
    /// A link of the same hardware address on `parent`.
    Ipvlan {
        /// Index of the link that it is on.
        parent: u32,
        /// `IPVLAN_MODE_*`.
        mode: u16,
        /// `IPVLAN_F_*`.
        flags: u16,
    },
    /// The frames of one 802.1Q VLAN on `parent`.
    Vlan {
        /// Index of the link that it is on.
        parent: u32,
        /// The VLAN.
        id: u16,
    },
    /// An intermediate device, whose purpose is to shape what others receive.
    Ifb,
    /// A link that leads nowhere.
    Dummy,
}

/// A link to be made.
#[derive(Clone, Debug)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: Option<Kind<'a>>,
    /// Its hardware address; absent: the kernel draws one.
    pub mac: Option<Mac>,
    /// Its greatest packet; absent: the kernel's default.
    pub mtu: Option<u32>,
    /// Index of the bridge whose port it becomes.
    pub master: Option<u32>,
    /// The namespace that it is made in; absent: the socket's.
    pub namespace: Option<BorrowedFd<'a>>,
    /// How many queues it has each way; absent: the kernel's default, of a pair one for each CPU there could be.
    pub queues: Option<u32>,
    /// It starts up.
    pub up: bool,
}

/// What is changed of a link; nothing unless said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// It asks for no neighbours of IPv4 and answers nobody who does.
    pub no_arp: bool,
    /// Another name; only while it is down on older kernels.
    pub name: Option<&'a str>,
    /// Another hardware address.
    pub mac: Option<Mac>,
    /// Another greatest packet.
    pub mtu: Option<u32>,
    /// Another master; 0: none.
    pub master: Option<u32>,
    /// Another namespace.
    pub namespace: Option<BorrowedFd<'a>>,
    /// A note to the reader of `ip link`; the kernel takes none with a new link.
    pub alias: Option<&'a str>,
    /// The number of its group, by which rules and `ip link` know it, and by which many are deleted as one.
    pub group: Option<u32>,
    /// What it may do as a port of a bridge.
    pub port: Option<Port>,
    /// The kernel gives it no link-local IPv6 address of its own making from now on: before [`Change::up`], since they take
    /// effect in the other order. The kernel takes it for links that are there only (`EAFNOSUPPORT` with a new one).
    pub no_ipv6_address: bool,
}

/// What is set of a bridge's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// It exchanges no frames with other isolated ports.
    pub isolated: bool,
    /// Frames may go back out of the port they came in by.
    pub hairpin: bool,
    /// Frames to the groups that no bridge forwards (01:80:c2:00:00:0x; IEEE 802.1D) are as others'. Else the kernel takes them
    /// for itself by the port, and shows some of them to no rule for frames. Since Linux 4.15.
    pub plain_groups: bool,
}

/// A link to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// By its index.
    Index(u32),
    /// By its name: for one that is made by the same packet.
    Name(&'a str),
}

/// A link that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is (`bridge`, `veth`, …); empty for hardware and loopback.
    pub kind: String,
    /// Its note.
    pub alias: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its greatest packet.
    pub mtu: u32,
    /// The bridge whose port it is.
    pub master: Option<u32>,
    /// The number of its group.
    pub group: u32,
    /// The link that it is on; of a pair the other end, by its index in its own namespace.
    pub lower: Option<u32>,
    /// It is up.
    pub up: bool,
    /// It is up, and so is what is at its other end.
    pub operational: bool,
    /// What went through it.
    pub counters: Counters,
}

/// What went through a link since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received packets.
    pub rx_packets: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Dropped on receipt.
    pub rx_dropped: u64,
    /// Dropped on sending.
    pub tx_dropped: u64,
}

// === impl NewLink ===

impl<'a> NewLink<'a> {
    /// A link of that name and kind, down, with everything else as the kernel has it.
    pub fn new(name: &'a str, kind: Option<Kind<'a>>) -> Self {
        Self { name, kind, mac: None, mtu: None, master: None, namespace: None, queues: None, up: false }
    }

    /// Asks for it to be made.
    pub fn request(&self) -> Request {
        let mut request =
            Request::new(RTM_NEWLINK, Request::CREATE | Request::EXCLUSIVE, &head(0, flags(self.up), IFF_UP));
        self.put(&mut request);
        request
    }

    fn put(&self, request: &mut Request) {
        request.put_str(IFLA_IFNAME, self.name);
        if let Some(mac) = self.mac {
            request.put(IFLA_ADDRESS, &mac);
        }
        if let Some(mtu) = self.mtu {
            request.put_u32(IFLA_MTU, mtu);
        }
        if let Some(master) = self.master {
            request.put_u32(IFLA_MASTER, master);
        }
        if let Some(namespace) = self.namespace {
            request.put(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        }
        if let Some(queues) = self.queues {
            request.put_u32(IFLA_NUM_TX_QUEUES, queues).put_u32(IFLA_NUM_RX_QUEUES, queues);
        }
        if let Some(kind) = &self.kind {
            kind.put(request);
        }
    }
}

fn put_no_ipv6_address(request: &mut Request) {
    const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
    request.nest(IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET6 as u16, |inet6| {
            inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
}

// === impl Change ===

impl Change<'_> {
    /// Asks for it to be made.
    pub fn request(&self, which: Which<'_>) -> Request {
        let (up, mask) = self.up.map_or((0, 0), |up| (flags(up), IFF_UP));
        let no_arp = if self.no_arp { IFF_NOARP } else { 0 };
        let index = if let Which::Index(index) = which { index } else { 0 };
        let mut request = Request::new(RTM_NEWLINK, 0, &head(index, up | no_arp, mask | no_arp));
        // With an index a name is the new one, without it says which.
        let named = if let Which::Name(name) = which { Some(name) } else { self.name };
        for (kind, text) in [(IFLA_IFNAME, named), (IFLA_IFALIAS, self.alias)] {
            if let Some(text) = text {
                request.put_str(kind, text);
            }
        }
        if let Some(mac) = self.mac {
            request.put(IFLA_ADDRESS, &mac);
        }
        for (kind, number) in [(IFLA_MTU, self.mtu), (IFLA_MASTER, self.master), (IFLA_GROUP, self.group)] {
            if let Some(number) = number {
                request.put_u32(kind, number);
            }
        }
        if let Some(namespace) = self.namespace {
            request.put(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        }
        if let Some(port) = self.port {
            port.put(&mut request);
        }
        if self.no_ipv6_address {
            put_no_ipv6_address(&mut request);
        }
        request
    }
}

// === impl Port ===

impl Port {
    fn put(self, request: &mut Request) {
        request.nest(IFLA_LINKINFO, |info| {
            info.put_str(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.put(IFLA_BRPORT_ISOLATED, &[u8::from(self.isolated)]);
                data.put(IFLA_BRPORT_MODE, &[u8::from(self.hairpin)]);
                // All but those that pause a sender, which the kernel drops.
                let groups: u16 = if self.plain_groups { !(1 << 1) } else { 0 };
                data.put(IFLA_BRPORT_GROUP_FWD_MASK, &groups.to_ne_bytes());
            });
        });
    }
}

// === impl Kind ===

impl Kind<'_> {
    fn word(&self) -> &'static str {
        match self {
            Self::Bridge => BRIDGE,
            Self::Veth { .. } => "veth",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Ifb => "ifb",
            Self::Dummy => "dummy",
        }
    }

    fn put(&self, request: &mut Request) {
        if let Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } = self {
            request.put_u32(IFLA_LINK, *parent);
        }
        request.nest(IFLA_LINKINFO, |info| {
            info.put_str(IFLA_INFO_KIND, self.word());
            info.nest(IFLA_INFO_DATA, |data| self.put_data(data));
        });
    }

    fn put_data(&self, data: &mut Request) {
        match self {
            Self::Bridge => data.put_u32(IFLA_BR_FORWARD_DELAY, 0).put(IFLA_BR_MCAST_SNOOPING, &[0]),
            Self::Veth { peer } => data.nest(VETH_INFO_PEER, |end| {
                // The kernel cannot take it up while its other end is being made (ENOTCONN): `NewLink::up` is not for it.
                end.raw(&head(0, 0, 0));
                peer.put(end);
            }),
            Self::Macvlan { mode, .. } => data.put_u32(IFLA_MACVLAN_MODE, *mode),
            Self::Ipvlan { mode, flags, .. } => {
                data.put(IFLA_IPVLAN_MODE, &mode.to_ne_bytes()).put(IFLA_IPVLAN_FLAGS, &flags.to_ne_bytes())
            }
            Self::Vlan { id, .. } => data.put(IFLA_VLAN_ID, &id.to_ne_bytes()),
            Self::Ifb | Self::Dummy => data,
        };
    }
}

// === impl Link ===

impl Link {
    fn read(message: Message<'_>) -> Option<Self> {
        if message.kind != RTM_NEWLINK {
            return None;
        }
        let attributes = message.attributes(FIXED);
        let number = |at: usize| Some(u32::from_ne_bytes(message.body.get(at..at + 4)?.try_into().ok()?));
        let word = |value: Option<&str>| value.unwrap_or_default().to_owned();
        Some(Self {
            index: number(4)?,
            name: word(attributes.str(IFLA_IFNAME)),
            kind: word(attributes.nested(IFLA_LINKINFO).str(IFLA_INFO_KIND)),
            alias: word(attributes.str(IFLA_IFALIAS)),
            mac: attributes.find(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
            mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
            master: attributes.u32(IFLA_MASTER).filter(|index| *index != 0),
            group: attributes.u32(IFLA_GROUP).unwrap_or(0),
            lower: attributes.u32(IFLA_LINK).filter(|index| *index != 0),
            up: number(8)? & IFF_UP != 0,
            operational: attributes.find(IFLA_OPERSTATE) == Some(&[OPERATIONAL]),
            counters: Counters::read(attributes),
        })
    }
}

// === impl Counters ===

impl Counters {
    /// From `struct rtnl_link_stats64`, whose first eight numbers these are.
    fn read(attributes: Attributes<'_>) -> Self {
        let bytes = attributes.find(IFLA_STATS64).unwrap_or_default();
        let number = |place: usize| {
            let bytes = bytes.get(place * 8..place * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        Self {
            rx_packets: number(0),
            tx_packets: number(1),
            rx_bytes: number(2),
            tx_bytes: number(3),
            rx_errors: number(4),
            tx_errors: number(5),
            rx_dropped: number(6),
            tx_dropped: number(7),
        }
    }
}

/// Makes a link; with a pair both ends.
///
/// # Errors
/// `EEXIST` if the name is taken, `EOPNOTSUPP` if the kernel lacks the kind.
pub fn create(socket: &mut Socket, new: &NewLink<'_>) -> Result<()> {
    socket.call(new.request())
}

/// Changes a link.
///
/// # Errors
/// `ENODEV` if it is gone; the kernel's refusal.
pub fn change(socket: &mut Socket, index: u32, change: &Change<'_>) -> Result<()> {
    socket.call(change.request(Which::Index(index)))
}

/// Deletes a link; of a pair the other end goes too.
///
/// Waits for an RCU period, 19 ms and more: off the path of anybody who waits.
///
/// # Errors
/// `ENODEV` if it is gone already.
pub fn delete(socket: &mut Socket, index: u32) -> Result<()> {
    socket.call(Request::new(RTM_DELLINK, 0, &head(index, 0, 0)))
}

/// Deletes all links of a group; of pairs the other ends go too. Takes as long as for one.
///
/// # Errors
/// `ENODEV` if the group has none.
pub fn delete_group(socket: &mut Socket, group: u32) -> Result<()> {
    let mut request = Request::new(RTM_DELLINK, 0, &head(0, 0, 0));
    request.put_u32(IFLA_GROUP, group);
    socket.call(request)
}

/// The link of that name, without its counters.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn find(socket: &mut Socket, name: &str) -> Result<Link> {
    let mut request = Request::new(RTM_GETLINK, 0, &head(0, 0, 0));
    request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).put_str(IFLA_IFNAME, name);
    socket.get(request, Link::read)
}

/// What is told of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// The link of that name is there, has changed, or is gone.
    Link(&'a str),
    /// The same of a bridge.
    Bridge(&'a str),
    /// Somebody has changed whether packets are forwarded, or a link has come.
    Forwarding {
        /// Index of the link; none: all, or those to come.
        link: Option<u32>,
        /// The setting, if it is told; of a link and IPv6 it is `force_forwarding`, since the other one decides about no packet
        /// there.
        value: Option<u32>,
    },
}

/// Hears of links, and of what forwards, from now on, with [`news`].
///
/// # Errors
/// The kernel's refusal.
pub fn monitor() -> Result<Socket> {
    const LINKS: u32 = 1;
    const SETTINGS: [u32; 2] = [24, 25];
    let socket = Socket::open(Protocol::Route)?;
    socket.subscribe(&[LINKS, SETTINGS[0], SETTINGS[1]])?;
    Ok(socket)
}

/// Waits for news and gives them to `each`.
///
/// # Errors
/// `ENOBUFS` when news were lost: then anything may have changed.
pub fn news(monitor: &mut Socket, mut each: impl FnMut(News<'_>)) -> Result<()> {
    monitor.news(|message| {
        let told = match message.kind {
            RTM_NEWLINK | RTM_DELLINK => {
                let attributes = message.attributes(FIXED);
                let is_bridge = attributes.nested(IFLA_LINKINFO).str(IFLA_INFO_KIND) == Some(BRIDGE);
                attributes.str(IFLA_IFNAME).map(if is_bridge { News::Bridge } else { News::Link })
            }
            RTM_NEWNETCONF => forwarding(message),
            _ => None,
        };
        told.into_iter().for_each(&mut each);
    })
}

/// From `struct netconfmsg`.
fn forwarding(message: Message<'_>) -> Option<News<'static>> {
    const PADDED: usize = 4;
    let attributes = message.attributes(PADDED);
    // Those of all links and of links to come are negative.
    let link = attributes.u32(NETCONFA_IFINDEX).filter(|index| index.cast_signed() > 0);
    let is_ipv6 = message.body.first().is_some_and(|family| i32::from(*family) == libc::AF_INET6);
    let [plain, forced] = [NETCONFA_FORWARDING, NETCONFA_FORCE_FORWARDING].map(|kind| attributes.u32(kind));
    let says = |kind: &u16| attributes.u32(*kind).is_some();
    let value = if is_ipv6 && link.is_some() { forced } else { plain.or(forced) };
    // Linux tells of a changed `force_forwarding` (6.17) without its value, and of everything else with it.
    let is_forced = is_ipv6 && plain.is_none() && !NETCONFA_OTHERS.iter().any(says);
    (value.is_some() || is_forced).then_some(News::Forwarding { link, value })
}

/// What went through the link of that index.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn counters(socket: &mut Socket, index: u32) -> Result<Counters> {
    let request = Request::new(RTM_GETLINK, 0, &head(index, 0, 0));
    socket.get(request, |message| Link::read(message).map(|link| link.counters))
}

/// The link of that index, without its counters.
///
/// The kernel (since 6.9) first draws the consequences of a change at the link's other end, which it else does when it comes to
/// it: a port of a bridge then forwards.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn get(socket: &mut Socket, index: u32) -> Result<Link> {
    let mut request = Request::new(RTM_GETLINK, 0, &head(index, 0, 0));
    request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.get(request, Link::read)
}

/// All links.
///
/// # Errors
/// The kernel's refusal.
pub fn list(socket: &mut Socket) -> Result<Vec<Link>> {
    socket.dump(&Request::new(RTM_GETLINK, 0, &head(0, 0, 0)), Link::read)
}

/// Name and index of all links, as [`Socket::glance`] has it: some may be missing.
///
/// # Errors
/// The kernel's refusal.
pub fn names(socket: &mut Socket) -> Result<Vec<(String, u32)>> {
    let mut request = Request::new(RTM_GETLINK, 0, &head(0, 0, 0));
    request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.glance(&request, |message| Link::read(message).map(|link| (link.name, link.index)))
}

/// All bridges, without their counters, each once; as [`Socket::glance`] has it: some may be missing, where there are so many that
/// the kernel tells of them in parts.
///
/// # Errors
/// The kernel's refusal.
pub fn bridges(socket: &mut Socket) -> Result<Vec<Link>> {
    let mut request = Request::new(RTM_GETLINK, 0, &head(0, 0, 0));
    request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    request.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, BRIDGE);
    });
    let mut bridges =
        socket.glance(&request, |message| Link::read(message).filter(|link| link.kind == BRIDGE))?;
    bridges.sort_by_key(|bridge| bridge.index);
    bridges.dedup_by_key(|bridge| bridge.index);
    Ok(bridges)
}

/// The links that are ports of a bridge, without their counters, each once; as [`Socket::glance`] has it: some may be
/// missing.
///
/// # Errors
/// The kernel's refusal.
pub fn ports(socket: &mut Socket, bridge: u32) -> Result<Vec<Link>> {
    let mut request = Request::new(RTM_GETLINK, 0, &head(0, 0, 0));
    request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).put_u32(IFLA_MASTER, bridge);
    // A kernel that does not know the filter tells of all.
    let is_port = |link: &Link| link.master == Some(bridge);
    let mut ports = socket.glance(&request, |message| Link::read(message).filter(is_port))?;
    ports.sort_by_key(|port| port.index);
    ports.dedup_by_key(|port| port.index);
    Ok(ports)
}

fn flags(up: bool) -> u32 {
    if up { IFF_UP } else { 0 }
}

/// `struct ifinfomsg`: family, padding, type (all 0), index, flags, which flags are meant.
fn head(index: u32, flags: u32, mask: u32) -> [u8; FIXED] {
    let mut head = [0; FIXED];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..].copy_from_slice(&mask.to_ne_bytes());
    head
}
