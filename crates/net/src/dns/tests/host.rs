//! What programs of the host are told.

use super::*;

/// A server that is asked by the host.
fn place() -> Place {
    let mut place = Place::new(&on(&[1], &[]));
    let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    place.asked = udp.local_addr().unwrap();
    place.dns.serve_host_on(udp.into(), tcp.into()).unwrap();
    place
}

#[tokio::test]
async fn every_network_is_seen_below_the_domain() {
    let place = place();
    for (name, addresses) in [
        ("web.front.tare.internal.", &["10.1.0.2"][..]),
        ("W1.Front.Tare.Internal.", &["10.1.0.2"]),
        ("db.back.tare.internal.", &["10.2.0.3"]),
        ("my.db.back.tare.internal.", &["10.2.0.3"]),
        ("db.tare.internal.", &["10.2.0.3"]),
        ("web.tare.internal.", &["10.1.0.2", "10.2.0.2"]),
    ] {
        let answer = place.ask(name, RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NoError, "{name}");
        assert_eq!(told(&answer), addresses, "{name}");
    }
    assert_eq!(told(&place.ask("web.tare.internal.", RecordType::AAAA).await), ["fd01::2"]);
}

#[tokio::test]
async fn an_alias_needs_its_network_and_nobody_is_nobody() {
    let place = place();
    for name in
        ["svc.tare.internal.", "w1.tare.internal.", "nobody.front.tare.internal.", "web.side.tare.internal."]
    {
        assert_eq!(code(&place.ask(name, RecordType::A).await), ResponseCode::NXDomain, "{name}");
    }
    let other = place.ask("db.back.tare.internal.", RecordType::MX).await;
    assert_eq!((code(&other), other.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(code(&place.ask("tare.internal.", RecordType::A).await), ResponseCode::NoError);
}

#[tokio::test]
async fn what_is_not_ours_is_refused_so_that_the_next_server_is_asked() {
    let place = place();
    for name in ["debian.org.", "web.", "web.front.", "xtare.internal.", "internal.", "."] {
        assert_eq!(code(&place.ask(name, RecordType::A).await), ResponseCode::Refused, "{name}");
    }
    assert_eq!(code(&place.ask("1.2.0.192.in-addr.arpa.", RecordType::PTR).await), ResponseCode::Refused);
}

#[tokio::test]
async fn addresses_have_names_that_can_be_asked_for() {
    let place = place();
    let answer = place.ask("2.0.1.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(told(&answer), ["web.front.tare.internal."]);
    assert_eq!(code(&place.ask("9.0.1.10.in-addr.arpa.", RecordType::PTR).await), ResponseCode::NXDomain);
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused_with_the_reason() {
    let taken = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let dns = Dns::open(directory(), limits()).unwrap();
    let refused = dns.serve_host(at).unwrap_err();
    assert!(refused.message().contains(&format!("{at}: bind(UDP): Address already in use")), "{refused}");
}
