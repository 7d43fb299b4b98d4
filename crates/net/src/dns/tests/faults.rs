//! Upstreams that are dead, slow, lying or broken, and containers that ask too much.

use std::time::Instant;

use super::upstream::Fault;
use super::*;

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn names_of_containers_are_answered_at_once_while_the_upstream_is_dead() {
    let fake = Fake::with(Fault::Dead).await;
    let place = Place::new(&on(&[1], &[fake.address]));
    let dead = async {
        let answer = place.ask("www.example.", RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::ServFail);
        Instant::now()
    };
    let alive = async {
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(told(&place.ask("web.", RecordType::A).await), ["10.1.0.2"]);
            assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        }
        Instant::now()
    };
    let start = Instant::now();
    let (dead, alive) = tokio::join!(dead, alive);
    assert!(alive < dead && dead - start < limits().total * 2);
    assert_eq!(fake.asked(), 3);
}

#[tokio::test]
async fn the_next_server_is_asked_after_silence_and_first_from_then_on() {
    let (dead, good) = (Fake::with(Fault::Dead).await, Fake::new().await);
    let place = Place::new(&on(&[1], &[dead.address, good.address]));
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
    let start = Instant::now();
    assert_eq!(told(&place.ask("mail.example.", RecordType::A).await), ["192.0.2.1"]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((dead.asked(), good.asked()), (1, 2));
}

#[tokio::test]
async fn a_server_that_is_slower_than_our_patience_is_still_heard() {
    let slow = Fake::with(Fault::Slow(limits().patience * 2)).await;
    let place = Place::new(&on(&[1], &[slow.address]));
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn broken_answers_are_never_passed_on() {
    for fault in [Fault::Garbage, Fault::Hollow, Fault::OtherQuestion] {
        let bad = Fake::with(fault).await;
        let place = Place::new(&on(&[1], &[bad.address]));
        let answer = place.ask("www.example.", RecordType::A).await;
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::ServFail, 0), "{fault:?}");
        let good = Fake::new().await;
        place.dns.update(&container(1), &on(&[1], &[bad.address, good.address])).unwrap();
        assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_refusal_hands_over_at_once_and_is_passed_on_if_nobody_does_better() {
    let refusing = Fake::with(Fault::Says(ResponseCode::Refused)).await;
    let place = Place::new(&on(&[1], &[refusing.address]));
    let start = Instant::now();
    assert_eq!(code(&place.ask("www.example.", RecordType::A).await), ResponseCode::Refused);
    let good = Fake::new().await;
    place.dns.update(&container(1), &on(&[1], &[refusing.address, good.address])).unwrap();
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
    assert!(start.elapsed() < limits().patience, "{:?}", start.elapsed());
}

#[tokio::test]
async fn forged_answers_are_waited_past() {
    let fake = Fake::with(Fault::Forged).await;
    let place = Place::new(&on(&[1], &[fake.address]));
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn what_was_cut_short_is_fetched_whole_by_tcp() {
    let fake = Fake::with(Fault::Truncated).await;
    let place = Place::new(&on(&[1], &[fake.address]));
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
    *fake.fault.lock().unwrap() = Fault::TruncatedOnly;
    let answer = place.ask("other.example.", RecordType::A).await;
    assert!(answer.metadata.truncation);
    *fake.fault.lock().unwrap() = Fault::None;
    assert_eq!(told(&place.ask("other.example.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn one_container_too_greedy_leaves_room_for_the_next() {
    let dead = Fake::with(Fault::Dead).await;
    let few = Limits { outstanding: 16, outstanding_each: 12, ..limits() };
    let place = Place::with(&on(&[1], &[dead.address]), few);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = place.udp.local_addr().unwrap();
    for number in 0..40 {
        let name = format!("n{number}.example.");
        client.send_to(&question(&name, RecordType::A).to_vec().unwrap(), server).await.unwrap();
    }
    // What is too much is refused at once: all but the half.
    let mut buffer = [0; 512];
    let mut refused = 0;
    while timeout(SOON, client.recv(&mut buffer)).await.is_ok() {
        refused += 1;
    }
    assert_eq!(refused, 32);
    // Another container, another socket, the same server.
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = Place {
        asked: udp.local_addr().unwrap(),
        udp,
        tcp: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        ..place
    };
    let good = Fake::new().await;
    other.serve(&container(2), &on(&[1], &[good.address]));
    assert_eq!(told(&other.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
    // And when the time is over the greedy one may ask again.
    tokio::time::sleep(limits().total * 2).await;
    assert_eq!(other.dns.shared.outstanding(), 0);
}

#[tokio::test]
async fn a_container_that_stops_takes_its_questions_along() {
    let dead = Fake::with(Fault::Dead).await;
    let place =
        Place::with(&on(&[1], &[dead.address]), Limits { total: Duration::from_secs(60), ..limits() });
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = question("www.example.", RecordType::A).to_vec().unwrap();
    client.send_to(&asked, place.udp.local_addr().unwrap()).await.unwrap();
    while dead.asked() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(place.dns.shared.outstanding(), 1);
    assert!(place.dns.stop(&container(1)));
    let gone = async {
        while place.dns.shared.outstanding() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON * 20, gone).await.expect("the question ends with its container");
}
