//! Docker reads field names whatever their case, the generated models do not: a `readonly` that they pass over is a mount
//! that can be written. So names get their canonical spelling before anything reads a request.

use serde_json::{Map, Value};

/// Renames the fields that are one of `names` but for their case. Of two spellings of one name the odd one counts, for
/// who sends both means the one that was added by hand.
pub(crate) fn spell<'a>(object: &mut Map<String, Value>, names: impl Iterator<Item = &'a str> + Clone) {
    let odd: Vec<String> = object.keys().filter(|k| !names.clone().any(|n| n == *k)).cloned().collect();
    for key in odd {
        if let Some(name) = names.clone().find(|n| n.eq_ignore_ascii_case(&key))
            && let Some(value) = object.remove(&key)
        {
            object.insert(name.to_owned(), value);
        }
    }
}

/// Spells the objects at each of these places. `[]` stands for the items of a list, `{}` for the values of a map; a place
/// stands after those that it lies in.
pub(crate) fn spell_within(body: &mut Map<String, Value>, places: &[(&str, &[&str])]) {
    for (place, names) in places {
        let (field, rest) = split(place);
        if let Some(value) = body.get_mut(field) {
            visit(value, rest, names);
        }
    }
}

fn visit(value: &mut Value, place: &str, names: &[&str]) {
    match (split(place), value) {
        (("", _), Value::Object(object)) => spell(object, names.iter().copied()),
        (("[]", rest), Value::Array(items)) => items.iter_mut().for_each(|item| visit(item, rest, names)),
        (("{}", rest), Value::Object(map)) => map.values_mut().for_each(|item| visit(item, rest, names)),
        ((field, rest), Value::Object(object)) => {
            if let Some(value) = object.get_mut(field) {
                visit(value, rest, names);
            }
        }
        // Of another form than it should be, which reading it will tell.
        _ => {}
    }
}

/// The first step of a place, and the others.
fn split(place: &str) -> (&str, &str) {
    place.split_once('.').unwrap_or((place, ""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spelled(mut body: Value, places: &[(&str, &[&str])]) -> Value {
        spell_within(body.as_object_mut().expect("an object"), places);
        body
    }

    #[test]
    fn fields_are_found_in_objects_lists_and_maps() {
        let places: &[(&str, &[&str])] =
            &[("A", &["One"]), ("B.[]", &["Two"]), ("B.[].Two", &["Three"]), ("C.{}", &["Four"])];
        let body = json!({ "A": {"one": 1}, "B": [{"TWO": {"three": 3}}, 7], "C": {"x": {"fOUR": 4}}, "a": {"one": 0} });
        let wanted = json!({ "A": {"One": 1}, "B": [{"Two": {"Three": 3}}, 7], "C": {"x": {"Four": 4}}, "a": {"one": 0} });
        assert_eq!(spelled(body, places), wanted);
    }

    #[test]
    fn other_names_and_other_forms_stay_as_they_are() {
        let places: &[(&str, &[&str])] = &[("A.B", &["One"])];
        for body in
            [json!({"A": {"two": 2}}), json!({"A": [{"B": {"one": 1}}]}), json!({"A": "B"}), json!({})]
        {
            assert_eq!(spelled(body.clone(), places), body);
        }
    }
}
