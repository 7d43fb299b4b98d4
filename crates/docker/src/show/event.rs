//! Events as a stream of JSON, and which of them a client wants.

use serde_json::{Value, json};
use tare_docker_api::models::{
    EventActor, EventMessage, EventMessageScopeEnum, EventMessageTypeEnum as Type,
};
use tare_docker_api::{Filters, Version};
use tare_engine::Event;
use tare_model::Result;

use super::object;

/// Filters that `GET /events` knows.
const KNOWN: [&str; 12] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "type",
    "volume",
];

/// Refuses unknown filters.
///
/// # Errors
/// Names the filter.
pub(crate) fn check(filters: &Filters) -> Result<()> {
    filters.only(&KNOWN)
}

pub(crate) fn document(event: &Event, version: Version) -> Value {
    let kind = match event.action.actor_type() {
        "image" => Type::IMAGE,
        "network" => Type::NETWORK,
        _ => Type::CONTAINER,
    };
    let seconds = event.time / 1_000_000_000;
    let action = event.action.to_string();
    let message = EventMessage {
        typ: Some(kind),
        action: Some(action.clone()),
        actor: Some(EventActor {
            id: Some(event.actor.clone()),
            attributes: Some(event.attributes.clone().into_iter().collect()),
        }),
        scope: Some(EventMessageScopeEnum::LOCAL),
        time: i64::try_from(seconds).ok(),
        time_nano: i64::try_from(event.time).ok(),
    };
    let mut shown = object(&message);
    if version < Version::new(52) {
        shown.insert("status".to_owned(), json!(action));
        shown.insert("id".to_owned(), json!(event.actor));
        if let Some(image) = event.attributes.get("image") {
            shown.insert("from".to_owned(), json!(image));
        }
    }
    Value::Object(shown)
}

/// Whether the event passes all filters; values of one filter are alternatives.
pub(crate) fn wanted(event: &Event, filters: &Filters) -> bool {
    let kind = event.action.actor_type();
    let any =
        |name: &str, test: &dyn Fn(&str) -> bool| !filters.contains(name) || filters.values(name).any(test);
    let name = event.attributes.get("name").map_or("", String::as_str);
    let image = event.attributes.get("image").map_or("", String::as_str);
    let actor = |kind_wanted: &str, value: &str| {
        kind == kind_wanted && !value.is_empty() && (event.actor.starts_with(value) || name == value)
    };
    // There are no events of these kinds, so whoever asks for one of them gets none.
    let absent = ["config", "daemon", "node", "plugin", "volume"];
    any("type", &|v| v == kind)
        && any("event", &|v| v == event.action.word() || event.action.to_string() == v)
        && any("scope", &|v| v == "local")
        && any("container", &|v| actor("container", v))
        && any("image", &|v| {
            actor("image", v) || (kind == "container" && without_tag(image) == without_tag(v))
        })
        && any("network", &|v| actor("network", v))
        && filters.match_labels("label", &event.attributes)
        && !absent.iter().any(|name| filters.contains(name))
}

/// The image's name as the filter compares it: a tag counts only if it is given on neither side or on both.
fn without_tag(image: &str) -> &str {
    image.strip_suffix(":latest").unwrap_or(image)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tare_engine::Action;

    use super::*;

    fn event(action: Action) -> Event {
        let attributes = [("name", "web"), ("image", "nginx"), ("tier", "front")];
        Event {
            time: 1_700_000_000_000_000_005,
            action,
            actor: "ab12".repeat(16),
            attributes: attributes
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn the_document_is_dockers_and_its_old_fields_are_for_old_clients() {
        let shown = document(&event(Action::ExecCreate("true".into())), Version::MAX);
        let expected = json!({
            "Type": "container", "Action": "exec_create: true", "scope": "local",
            "Actor": { "ID": "ab12".repeat(16), "Attributes": { "name": "web", "image": "nginx", "tier": "front" } },
            "time": 1_700_000_000, "timeNano": 1_700_000_000_000_000_005u64,
        });
        assert_eq!(shown, expected);
        let old = document(&event(Action::Start), Version::new(51));
        assert_eq!((&old["status"], &old["from"]), (&json!("start"), &json!("nginx")));
    }

    #[test]
    fn filters_choose_events() {
        for (filter, passes) in [
            ("{}", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"event":["exec_start","exec_create"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["ab12ab"]}"#, true),
            (r#"{"container":["we"]}"#, false),
            (r#"{"image":["nginx:latest"]}"#, true),
            (r#"{"image":["redis"]}"#, false),
            (r#"{"label":["tier=front"]}"#, true),
            (r#"{"label":["tier=back"]}"#, false),
            (r#"{"volume":["x"]}"#, false),
            (r#"{"container":["web"],"event":["die"]}"#, false),
        ] {
            let filters = Filters::parse(filter).expect("parses");
            assert_eq!(wanted(&event(Action::ExecCreate("true".into())), &filters), passes, "{filter}");
        }
    }
}
