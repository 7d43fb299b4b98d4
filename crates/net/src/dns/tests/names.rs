//! Names that are ours.

use super::*;

#[tokio::test]
async fn a_container_is_found_by_each_of_its_names_however_they_are_spelled() {
    let place = Place::new(&on(&[1], &[]));
    for name in ["web.", "WEB.", "wEb", "w1.", "web.front.", "Web.FRONT."] {
        let answer = place.ask(name, RecordType::A).await;
        assert_eq!(
            (code(&answer), told(&answer)),
            (ResponseCode::NoError, vec!["10.1.0.2".into()]),
            "{name}"
        );
        // Spelled as it was asked for, with which some resolvers make sure that it is for them.
        assert_eq!(answer.answers[0].name.to_ascii().trim_end_matches('.'), name.trim_end_matches('.'));
        assert_eq!(told(&place.ask(name, RecordType::AAAA).await), ["fd01::2"], "{name}");
    }
    assert!(place.ask("web.", RecordType::A).await.answers[0].ttl <= 10);
}

#[tokio::test]
async fn a_name_of_ours_is_never_asked_upstream_whatever_is_wanted() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1, 2], &[fake.address]));
    for kind in [
        RecordType::AAAA,
        RecordType::MX,
        RecordType::TXT,
        RecordType::SRV,
        RecordType::ANY,
        RecordType::HTTPS,
    ] {
        let answer = place.ask("db.", kind).await;
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{kind}");
    }
    assert_eq!(fake.asked(), 0);
    assert_eq!(told(&place.ask("db.example.", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn only_networks_that_the_container_is_on_are_seen_and_the_first_one_wins() {
    let place = Place::new(&on(&[1], &[]));
    assert_eq!(code(&place.ask("db.", RecordType::A).await), ResponseCode::ServFail);
    place.dns.update(&container(1), &on(&[2, 1], &[])).unwrap();
    assert_eq!(told(&place.ask("db.", RecordType::A).await), ["10.2.0.3"]);
    assert_eq!(told(&place.ask("my.db.back.", RecordType::A).await), ["10.2.0.3"]);
    assert_eq!(told(&place.ask("web.", RecordType::A).await), ["10.2.0.2"]);
    // The first network knows the name, but has no address of this family.
    assert_eq!(told(&place.ask("web.", RecordType::AAAA).await), ["fd01::2"]);
}

#[tokio::test]
async fn links_are_for_the_one_container() {
    let mut settings = on(&[2], &[]);
    settings.networks[0].links.insert("Database".into(), "DB".into());
    let place = Place::new(&settings);
    assert_eq!(told(&place.ask("database.", RecordType::A).await), ["10.2.0.3"]);
    place.dns.update(&container(1), &on(&[2], &[])).unwrap();
    assert_eq!(code(&place.ask("database.", RecordType::A).await), ResponseCode::ServFail);
}

#[tokio::test]
async fn the_addresses_of_a_service_take_turns() {
    let place = Place::new(&on(&[1], &[]));
    place.directory.join(&network(1), &container(3), member(&["w2", "svc"], &["10.1.0.3"]));
    place.directory.join(&network(1), &container(4), member(&["w3", "svc"], &["10.1.0.4"]));
    let mut first = BTreeMap::new();
    for _ in 0..90 {
        // The same client asks for both families, as getaddrinfo does.
        place.ask("svc.", RecordType::AAAA).await;
        let answer = place.ask("svc.", RecordType::A).await;
        assert_eq!(told(&answer), ["10.1.0.2", "10.1.0.3", "10.1.0.4"]);
        *first.entry(answer.answers[0].data.to_string()).or_insert(0) += 1;
    }
    assert!(first.len() == 3 && first.values().all(|times| (20..=40).contains(times)), "{first:?}");
}

#[tokio::test]
async fn more_addresses_than_a_client_takes_are_cut_short_and_say_so() {
    let place = Place::new(&on(&[1], &[]));
    let many: Vec<_> = (1..=200).map(|last| format!("10.1.0.{last}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    place.directory.join(&network(1), &container(3), member(&["many"], &many));
    let plain = question("many.", RecordType::A);
    let short = place.put(&plain).await;
    assert!(short.metadata.truncation && short.answers.len() > 20);
    assert!(short.to_vec().unwrap().len() <= 512);
    let middle = place.put(&with_edns(plain.clone(), 1232)).await;
    assert!(middle.metadata.truncation && middle.answers.len() > 70, "{}", middle.answers.len());
    let long = place.put(&with_edns(plain, 4096)).await;
    assert!(!long.metadata.truncation && long.answers.len() == 200 && long.edns.is_some());
}

#[tokio::test]
async fn addresses_of_our_subnets_have_names_and_are_nobody_elses() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    let v6 = format!("2.{}1.0.d.f.ip6.arpa.", "0.".repeat(27));
    for name in ["2.0.1.10.in-addr.arpa.", "2.0.1.10.IN-ADDR.ARPA", &v6] {
        assert_eq!(told(&place.ask(name, RecordType::PTR).await), ["web.front."], "{name}");
    }
    let nobody = place.ask("77.0.1.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!((code(&nobody), fake.asked()), (ResponseCode::NXDomain, 0));
    place.ask("8.8.8.8.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn what_is_no_question_gets_its_error_or_silence() {
    let place = Place::new(&on(&[1], &[]));
    let good = question("web.", RecordType::A).to_vec().unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let code_of =
        |bytes: Option<Vec<u8>>| bytes.map(|bytes| Message::from_vec(&bytes).unwrap().metadata.response_code);
    assert_eq!(code_of(place.raw(&changed(5, 2)).await), Some(ResponseCode::FormErr));
    assert_eq!(code_of(place.raw(&changed(5, 0)).await), Some(ResponseCode::FormErr));
    assert_eq!(code_of(place.raw(&changed(11, 200)).await), Some(ResponseCode::FormErr));
    // A name that points to itself.
    assert_eq!(
        code_of(place.raw(&[&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()).await),
        Some(ResponseCode::FormErr)
    );
    assert_eq!(code_of(place.raw(&changed(2, 0x28)).await), Some(ResponseCode::NotImp));
    assert_eq!(code_of(place.raw(&changed(good.len() - 1, 3)).await), Some(ResponseCode::NotImp));
    let transfer = place.ask("web.", RecordType::AXFR).await;
    assert_eq!(code(&transfer), ResponseCode::Refused);
    let (response, short) = (changed(2, 0x80), good[..11].to_vec());
    let (response, short) = tokio::join!(place.raw(&response), place.raw(&short));
    assert_eq!((response, short), (None, None));
    assert_eq!(told(&place.ask("web.", RecordType::A).await), ["10.1.0.2"]);
}

#[tokio::test]
async fn what_cannot_be_served_is_named() {
    let place = Place::new(&on(&[1], &[]));
    let serve = |settings: &Settings| {
        let (udp, tcp) = (place.udp.try_clone().unwrap(), place.tcp.try_clone().unwrap());
        place.dns.serve(&container(9), udp.into(), tcp.into(), settings).unwrap_err().to_string()
    };
    assert!(serve(&on(&[7], &[])).contains("network 070707070707 has no names"));
    let options = vec!["ndots:many".into()];
    assert!(serve(&Settings { options, ..on(&[1], &[]) }).contains("ndots:many"));
    let error = place.dns.update(&container(9), &on(&[1], &[])).unwrap_err();
    assert!(error.to_string().contains("090909090909"), "{error}");
    assert!(!place.dns.stop(&container(9)) && place.dns.stop(&container(1)));
}
