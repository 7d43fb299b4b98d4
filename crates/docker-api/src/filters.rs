//! The `filters` query parameter: a JSON object from filter name to values.
//!
//! Two spellings are in use: `{"status":["exited"]}` and, from older clients, `{"status":{"exited":true}}`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tare_model::{Error, Result};

/// Filters by name; several values of one name are alternatives, unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

// === impl Filters ===

impl Filters {
    /// Parses the parameter; empty text is no filter.
    ///
    /// # Errors
    /// Not JSON of one of the two spellings.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parsed: BTreeMap<String, Values> = serde_json::from_str(text).map_err(|e| {
            Error::invalid(format!("invalid filter: {e} (want a JSON object of lists of strings)"))
        })?;
        let values = |v| match v {
            Values::List(list) => list.into_iter().collect(),
            Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
        };
        Ok(Self(parsed.into_iter().map(|(name, v)| (name, values(v))).collect()))
    }

    /// Adds one value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into());
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Values of one filter; none if it was not given.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether a filter was given.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Refuses names that are not in `known`.
    ///
    /// # Errors
    /// In Docker's words: `invalid filter 'x'`.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                Err(Error::invalid(format!("invalid filter '{name}' (known: {})", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// The one boolean value of a filter: `true`/`1` or `false`/`0`.
    ///
    /// # Errors
    /// Another word, or both.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        let mut values = self.values(name);
        let bad = |v: &str| Error::invalid(format!("invalid filter '{name}={v}': want one of true, false"));
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some("true" | "1"), None) => Ok(Some(true)),
            (Some("false" | "0"), None) => Ok(Some(false)),
            (Some(v), _) => Err(bad(v)),
        }
    }

    /// Whether `labels` have every `key` and `key=value` that filter `name` lists.
    pub fn match_labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).all(|wanted| has_label(labels, wanted))
    }

    /// Whether `labels` have any `key` or `key=value` that filter `name` lists.
    pub fn match_any_label(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).any(|wanted| has_label(labels, wanted))
    }
}

/// Whether `labels` have this `key` or `key=value`.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_spellings_mean_the_same() {
        let list = Filters::parse(r#"{"status":["exited","created"],"label":["a=b"]}"#).expect("parses");
        let set =
            Filters::parse(r#"{"status":{"created":true,"exited":true,"dead":false},"label":{"a=b":true}}"#);
        assert_eq!(set, Ok(list.clone()));
        assert_eq!(list.values("status").collect::<Vec<_>>(), ["created", "exited"]);
        assert_eq!(list.values("name").count(), 0);
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let e =
            Filters::parse(r#"{"colour":["red"]}"#).expect("parses").only(&["status"]).expect_err("unknown");
        assert!(e.message().contains("invalid filter 'colour'"), "{e}");
    }

    #[test]
    fn labels_match_by_key_and_by_value() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (filter, matches) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=1","c"]}"#, false),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["b="]}"#, true),
            ("{}", true),
        ] {
            assert_eq!(
                Filters::parse(filter).expect("parses").match_labels("label", &labels),
                matches,
                "{filter}"
            );
        }
    }

    #[test]
    fn a_flag_has_one_boolean_value() {
        let flag = |text| Filters::parse(text).and_then(|f| f.flag("dangling"));
        assert_eq!(flag(r#"{"dangling":["1"]}"#), Ok(Some(true)));
        assert_eq!(flag(r#"{"dangling":["false"]}"#), Ok(Some(false)));
        assert_eq!(flag("{}"), Ok(None));
        assert!(flag(r#"{"dangling":["true","false"]}"#).is_err());
        assert!(flag(r#"{"dangling":["maybe"]}"#).is_err());
    }

    #[test]
    fn what_is_not_a_filter_object_is_refused() {
        for bad in ["[]", "{", r#"{"a":"b"}"#, r#"{"a":[1]}"#, "null"] {
            assert!(Filters::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn written_filters_parse_back(pairs in proptest::collection::vec(("[a-z]{1,8}", ".{0,12}"), 0..6)) {
            let mut filters = Filters::default();
            for (name, value) in &pairs {
                filters.add(name, value);
            }
            let text = serde_json::to_string(&filters).expect("serializes");
            prop_assert_eq!(Filters::parse(&text), Ok(filters));
        }
    }
}
