//! The network that somebody behind a door sets up.

use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use tare_model::sandbox::{NetworkReady, NetworkSockets, Sandbox};
use tare_model::{Error, ErrorKind, Result};
use tare_sys::netlink::Socket;
use tare_sys::netlink::link::{self, Kind, NewLink};

use crate::setup::{Setup, Started, nothing_left, pipes};

crate::tests![
    sockets_of_the_new_namespace_come_through_the_door_and_stay_with_the_launch,
    parameters_of_interfaces_are_set_inside_and_no_others,
    what_fails_behind_the_door_is_the_error_of_the_start,
    nobody_behind_the_door_is_an_error,
    a_namespace_of_somebody_elses_has_no_door,
];

/// Both ends, behind one of which the answer was given already.
fn door(answer: Option<&Result<NetworkReady>>) -> (OwnedFd, OwnedFd) {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    if let Some(answer) = answer {
        rustix::io::write(&ours, &serde_json::to_vec(answer).unwrap()).unwrap();
    }
    (ours, theirs)
}

fn start(setup: &mut Setup, door: OwnedFd) -> Result<Started> {
    let (stdio, stdout) = pipes();
    setup.plan();
    let (running, launched) = setup.runtime.launch(&setup.spec, stdio, Some(door))?;
    Ok(Started::of(running, launched, stdout, setup))
}

fn come(door: &OwnedFd) -> NetworkSockets {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(door, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    NetworkSockets::from_descriptors(fds).expect("four")
}

fn ready(sysctls: &[(&str, &str)]) -> Result<NetworkReady> {
    let sysctls = sysctls.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
    Ok(NetworkReady { sysctls: sysctls.collect() })
}

fn sockets_of_the_new_namespace_come_through_the_door_and_stay_with_the_launch() {
    let (ours, theirs) = door(Some(&ready(&[])));
    let mut container = start(&mut Setup::new(&["sleep"]), theirs).unwrap();
    let kept = container.launched.network.take().expect("kept");
    for (sockets, name) in [(come(&ours), "one"), (kept, "two")] {
        let mut route = Socket::adopt(sockets.route);
        let other = format!("{name}-peer");
        let peer = Box::new(NewLink::new(&other, None));
        link::create(&mut route, &NewLink::new(name, Some(Kind::Veth { peer }))).unwrap();
        let shown = container.exec_probe(&["cat", "/proc/net/dev"]).out;
        assert!(shown.contains(&format!("{name}:")) && shown.contains(&format!("{other}:")), "{shown}");
    }
    container.kill();
}

fn parameters_of_interfaces_are_set_inside_and_no_others() {
    let (_ours, theirs) = door(Some(&ready(&[("net/ipv4/conf/lo/forwarding", "1")])));
    let container =
        start(&mut Setup::new(&["cat", "/proc/sys/net/ipv4/conf/lo/forwarding"]), theirs).unwrap();
    assert_eq!(container.finish().out, "1");
    for path in ["kernel/hostname", "net/../kernel/hostname"] {
        let (_ours, theirs) = door(Some(&ready(&[(path, "evil")])));
        let error = start(&mut Setup::new(&["host"]), theirs).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("network"), "{error}");
    }
}

fn what_fails_behind_the_door_is_the_error_of_the_start() {
    let (_ours, theirs) = door(Some(&Err(Error::conflict("no address is left"))));
    let mut setup = Setup::new(&["echo", "ran"]);
    let error = start(&mut setup, theirs).map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "no address is left"));
    nothing_left(setup.oci["linux"]["cgroupsPath"].as_str().unwrap());
}

fn nobody_behind_the_door_is_an_error() {
    let (ours, theirs) = door(None);
    drop(ours);
    let error = start(&mut Setup::new(&["echo", "ran"]), theirs).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("network door") || error.to_string().contains("gone away"), "{error}");
    // A stream is no door either: an answer that is no packet of JSON is refused.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"ok").unwrap();
    let error = start(&mut Setup::new(&["echo", "ran"]), theirs.into()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no answer"), "{error}");
}

fn a_namespace_of_somebody_elses_has_no_door() {
    let mut setup = Setup::unmapped(&["echo", "ran"]);
    setup.oci["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    let (_ours, theirs) = door(Some(&ready(&[])));
    let error = start(&mut setup, theirs).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no new network namespace"), "{error}");
}
