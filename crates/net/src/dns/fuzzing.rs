//! What reads bytes of containers and of upstream servers, as a target for `fuzz/`. It must neither panic, hang nor grow
//! without bound, and what it passes on must be whole.

use std::sync::Arc;

use super::host::HostView;
use super::local::{Decision, Names, View};
use super::wire::{Answer, Asked, Read, Transport};
use super::{Attachment, Directory, Member, Settings};

/// A question, and an upstream's answer to it. The first byte says where the one ends and the other begins, and how it came.
///
/// # Panics
/// If what we say cannot be read, is too long, or has another number than the question.
pub fn question_and_answer(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (question, answer) = bytes.split_at(usize::from(first >> 1).min(bytes.len()));
    let transport = if first & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let asked = match Read::query(question, transport) {
        Read::Asked(asked) => asked,
        Read::Wrong(said) => return whole(question, &said),
        Read::Ignored => return,
    };
    for names in askers() {
        let said = match names.decide(&asked) {
            Decision::Say(code, data) => asked.say(code, &data),
            Decision::Forward => asked.say(hickory_proto::op::ResponseCode::ServFail, &[]),
        };
        whole(question, &said);
    }
    upstream(question, answer, &asked);
}

/// Whatever an upstream says, and then what it would be if it had our number and question.
fn upstream(question: &[u8], answer: &[u8], asked: &Asked) {
    let put = asked.put(7).unwrap_or_default();
    let mut honest = answer.to_vec();
    if let (Some(place), Some(put)) = (honest.get_mut(..2), put.get(..2)) {
        place.copy_from_slice(put);
    }
    if let Some(place) = honest.get_mut(12..12 + asked.section.len()) {
        place.copy_from_slice(&asked.section);
    }
    for answer in [answer, &honest] {
        if !Answer::belongs(answer, 7, &asked.section) {
            continue;
        }
        if let Some(answer) = Answer::read(answer, &asked.section) {
            whole(question, &asked.pass_on(&answer, 1));
        }
    }
}

fn whole(question: &[u8], said: &[u8]) {
    assert!(said.is_empty() || said.starts_with(&question[..2]), "another number");
    assert!(said.len() <= usize::from(u16::MAX), "too long");
    assert!(
        said.is_empty() || hickory_proto::op::Message::from_vec(said).is_ok(),
        "cannot be read: {said:?}"
    );
}

/// A container, and the host.
fn askers() -> [Box<dyn Names>; 2] {
    let directory = Directory::default();
    let (network, container) = (id(), tare_model::id::ContainerId::from_bytes([1; 32]));
    directory.add_network(&network, "net", true, vec![]);
    let addresses = (0..=255).map(|last| [10, 0, 0, last].into()).collect();
    directory.join(&network, &container, Member { names: vec!["db".into(), "a.b".into()], addresses });
    let networks = vec![Attachment { network, links: std::collections::BTreeMap::new() }];
    let view = View::of(&directory, &Settings { networks, ..Settings::default() }).unwrap_or_default();
    [Box::new(view), Box::new(HostView::of(Arc::new(directory)))]
}

fn id() -> tare_model::id::NetworkId {
    tare_model::id::NetworkId::from_bytes([1; 32])
}
