//! Whatever comes: no panic, and what we say is whole.

use proptest::prelude::*;

use super::super::fuzzing::question_and_answer;
use super::super::wire::{Answer, Read, Transport};
use super::*;

/// A question and its answer as the fuzzer takes them, with bytes changed.
fn seed(name: &str, kind: RecordType) -> Vec<u8> {
    let mut asked = with_edns(question(name, kind), 1232);
    asked.metadata.id = 7;
    let asked = asked.to_vec().unwrap();
    let mut answer = question(name, kind);
    answer.metadata.id = 7;
    answer.metadata.message_type = MessageType::Response;
    for ttl in [1, 2, 3] {
        let data = RData::A(hickory_proto::rr::rdata::A::new(1, 2, 3, 4));
        answer.add_answer(hickory_proto::rr::Record::from_rdata(answer.queries[0].name.clone(), ttl, data));
    }
    let length = u8::try_from(asked.len() << 1).unwrap();
    [&[length][..], &asked, &answer.to_vec().unwrap()].concat()
}

proptest! {
    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        question_and_answer(&bytes);
    }

    #[test]
    fn nearly_right_messages_are_borne(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        name in "[a-z]{1,20}(\\.[a-z]{1,9}){0,2}",
        kind in prop::sample::select(vec![RecordType::A, RecordType::PTR, RecordType::TXT]),
    ) {
        let mut bytes = seed(&name, kind);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        question_and_answer(&bytes);
    }

    #[test]
    fn lifetimes_shrink_by_the_age_and_nothing_else_changes(age in 0..10_u32) {
        let bytes = seed("www.example", RecordType::A);
        let (asked, answer) = bytes[1..].split_at(usize::from(bytes[0] >> 1));
        let Read::Asked(asked) = Read::query(asked, Transport::Udp) else { panic!("a question") };
        prop_assert!(Answer::belongs(answer, 7, &asked.section) && !Answer::belongs(answer, 8, &asked.section));
        // Whatever follows the message is left behind.
        let answer = Answer::read(&[answer, b"more"].concat(), &asked.section).unwrap();
        let passed = Message::from_vec(&asked.pass_on(&answer, age)).unwrap();
        prop_assert_eq!(passed.to_vec().unwrap().len(), asked.pass_on(&answer, age).len());
        let left: Vec<_> = passed.answers.iter().map(|record| record.ttl).collect();
        prop_assert_eq!(left, [1, 2, 3].map(|ttl: u32| ttl.saturating_sub(age)).to_vec());
    }
}
