//! What is not ours: asked upstream, remembered, or refused.

use super::upstream::Fault;
use super::*;

#[tokio::test]
async fn an_internal_network_forwards_nothing() {
    let fake = Fake::new().await;
    let place = Place::new(&Settings { search: vec!["Corp.example.".into()], ..on(&[2], &[fake.address]) });
    for kind in [RecordType::A, RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::PTR] {
        for name in ["www.example.", "single.", "8.8.8.8.in-addr.arpa.", "web.front.", "."] {
            let answer = place.ask(name, kind).await;
            assert_eq!(code(&answer), ResponseCode::ServFail, "{name} {kind}");
        }
    }
    // A resolver that completes names goes on to the next domain.
    assert_eq!(code(&place.ask("db.corp.example.", RecordType::A).await), ResponseCode::NXDomain);
    assert_eq!(told(&place.ask("db.", RecordType::A).await), ["10.2.0.3"]);
    assert_eq!(fake.asked(), 0);
    // With a second network there is a way out.
    place.dns.update(&container(1), &on(&[2, 1], &[fake.address])).unwrap();
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_single_label_is_asked_upstream_unless_names_are_completed() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    assert_eq!(told(&place.ask("printer.", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(fake.asked(), 1);
    for (option, code_wanted, asked) in
        [("ndots:0", ResponseCode::NoError, 2), ("ndots:1", ResponseCode::NXDomain, 2)]
    {
        let settings = Settings { options: vec!["edns0".into(), option.into()], ..on(&[1], &[fake.address]) };
        place.dns.update(&container(1), &settings).unwrap();
        let answer = place.ask("scanner.", RecordType::A).await;
        assert_eq!((code(&answer), fake.asked()), (code_wanted, asked), "{option}");
    }
}

#[tokio::test]
async fn an_answer_is_remembered_with_the_askers_own_number_and_spelling() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    place.ask("lower.example.", RecordType::A).await;
    let mut again = question("LoWeR.ExAmPlE.", RecordType::A);
    again.metadata.id = 7;
    let answer = place.put(&again).await;
    assert_eq!(answer.queries[0].name.to_ascii(), "LoWeR.ExAmPlE.");
    assert_eq!((told(&answer), fake.asked()), (vec!["192.0.2.1".into()], 1));
    assert!(answer.answers[0].ttl <= 60 && answer.metadata.recursion_available);
    // Another type, another question.
    place.ask("lower.example.", RecordType::AAAA).await;
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn what_does_not_exist_is_remembered_and_failures_are_not() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    for _ in 0..3 {
        assert_eq!(code(&place.ask("none.example.", RecordType::A).await), ResponseCode::NXDomain);
    }
    assert_eq!(fake.asked(), 1);
    *fake.fault.lock().unwrap() = Fault::Says(ResponseCode::ServFail);
    assert_eq!(code(&place.ask("www.example.", RecordType::A).await), ResponseCode::ServFail);
    *fake.fault.lock().unwrap() = Fault::None;
    assert_eq!(told(&place.ask("www.example.", RecordType::A).await), ["192.0.2.1"]);
    // Nothing says for how long there is no such record: it is asked each time.
    for _ in 0..2 {
        place.ask("www.example.", RecordType::AAAA).await;
    }
    assert_eq!(fake.asked(), 5);
}

#[tokio::test]
async fn a_huge_answer_comes_whole_or_says_that_it_is_not() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    let plain = question("big.example.", RecordType::TXT);
    let short = place.put(&plain).await;
    assert!(short.metadata.truncation && short.answers.is_empty());
    let whole = place.put(&with_edns(plain.clone(), 4096)).await;
    assert!(!whole.metadata.truncation && whole.answers.len() == 1);
    let middle = place.put(&with_edns(plain, 1232)).await;
    assert!(middle.metadata.truncation && middle.answers.is_empty());
}

#[tokio::test]
async fn extensions_are_passed_on_with_their_size() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    let size = |fake: &Fake| {
        let last = fake.last.lock().unwrap().take().unwrap();
        last.edns.map(|edns| (edns.max_payload(), edns.flags().dnssec_ok))
    };
    place.ask("a.example.", RecordType::A).await;
    assert_eq!(size(&fake), None);
    let mut asked = with_edns(question("b.example.", RecordType::A), 1400);
    asked.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = place.put(&asked).await;
    assert_eq!(size(&fake), Some((1400, true)));
    assert!(answer.edns.is_some());
}

#[tokio::test]
async fn the_cache_stays_within_its_bounds() {
    let fake = Fake::new().await;
    let few = Limits { cache_entries: 20, cache_bytes: 1 << 20, ..limits() };
    let small = Limits { cache_entries: 1000, cache_bytes: 8192, ..limits() };
    for limits in [few, small] {
        let place = Place::with(&on(&[1], &[fake.address]), limits);
        for number in 0..60 {
            place.ask(&format!("n{number}.example."), RecordType::A).await;
        }
        let (entries, bytes) = place.dns.shared.held();
        assert!((5..=25).contains(&entries) && bytes <= 8192, "{entries} entries, {bytes} bytes");
        let before = fake.asked();
        place.ask("n59.example.", RecordType::A).await;
        assert_eq!(fake.asked(), before);
    }
}

#[tokio::test]
async fn a_type_that_nobody_knows_is_asked_upstream_as_well() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    let mut asked = question("any.example.", RecordType::Unknown(65_280));
    asked.queries[0].query_class = DNSClass::IN;
    assert_eq!(code(&place.put(&asked).await), ResponseCode::NoError);
    assert_eq!(fake.asked(), 1);
}
