//! From method and path to a handler.
//!
//! A pattern is a path whose parts in braces are parameters: `/containers/{id}/json`. A parameter takes one part of the
//! path; `{name*}` takes as many as leave the rest of the pattern matched, for image names have slashes in them.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::{Method, Request, body::Incoming};
use tare_docker_api::Version;

use super::query::decode;
use super::{Call, Query, Reply};
use crate::error::{Fault, Result};

/// Methods that routes answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Head,
    Post,
    Put,
    Delete,
}

/// A handler: the backend, the request, and eventually the answer.
pub(crate) type Handler<B> = fn(Arc<B>, Call) -> BoxFuture<'static, Result<Reply>>;

/// One row of the table.
pub(crate) struct Route<B> {
    pub(crate) verb: Verb,
    pub(crate) pattern: &'static str,
    pub(crate) handler: Handler<B>,
}

/// The table.
pub(crate) struct Router<B> {
    routes: Vec<Route<B>>,
}

// === impl Router ===

impl<B: Send + Sync + 'static> Router<B> {
    pub(crate) fn new(routes: Vec<Route<B>>) -> Self {
        Self { routes }
    }

    /// Every pattern, for the test that the documentation has them.
    #[cfg(test)]
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &'static str> {
        self.routes.iter().map(|r| r.pattern)
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, backend: Arc<B>, request: Request<Incoming>) -> Reply {
        match self.dispatch(backend, request).await {
            Ok(reply) => reply,
            Err(fault) => fault.into(),
        }
    }

    async fn dispatch(&self, backend: Arc<B>, request: Request<Incoming>) -> Result<Reply> {
        let (head, body) = request.into_parts();
        refuse_browsers(&head.headers)?;
        let path = decode(head.uri.path(), false);
        let (version, path) = Version::of_path(&path)?;
        let verb = Verb::of(&head.method).ok_or_else(Fault::page_not_found)?;
        let (handler, params) = self.find(verb, path).ok_or_else(Fault::page_not_found)?;
        let query = Query::parse(head.uri.query().unwrap_or(""));
        let call = Call { version, query, headers: head.headers, params, body: Some(body) };
        let answer = handler(backend, call);
        match verb {
            Verb::Get | Verb::Head => answer.await,
            // What changes something runs to its end even if the client goes away in the middle; and what is half
            // done can only be seen as done or not done.
            Verb::Post | Verb::Put | Verb::Delete => match tokio::spawn(answer).await {
                Ok(reply) => reply,
                Err(e) => {
                    Err(tare_model::Error::system(format!("the request's handler ended early: {e}")).into())
                }
            },
        }
    }

    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn find(&self, verb: Verb, path: &str) -> Option<(Handler<B>, Vec<(&'static str, String)>)> {
        let routes = self.routes.iter().filter(|r| r.verb == verb);
        routes.filter_map(|r| Some((r.handler, capture(r.pattern, path)?))).next()
    }
}

// === impl Verb ===

impl Verb {
    fn of(method: &Method) -> Option<Self> {
        Some(match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            _ => return None,
        })
    }
}

/// A web page that reaches the socket (through some forwarder, by a rebound name) must not drive the engine. Browsers
/// mark what pages send; no API client sets these headers.
fn refuse_browsers(headers: &hyper::HeaderMap) -> Result<()> {
    match ["origin", "sec-fetch-site"].iter().find(|name| headers.contains_key(**name)) {
        Some(name) => Err(Fault::new(
            hyper::StatusCode::FORBIDDEN,
            format!("requests of web pages are refused (this one has the header {name:?})"),
        )),
        None => Ok(()),
    }
}

/// The parameters, if `path` matches `pattern`.
fn capture(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    let wanted: Vec<&'static str> = pattern.split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    // At most one part of a pattern is greedy: it takes what the others leave.
    let spare = (given.len() + 1).checked_sub(wanted.len())?;
    let mut at = 0;
    for part in wanted {
        let name = part.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
        let (name, take) = match name.map(|n| n.strip_suffix('*').map_or((n, 1), |n| (n, spare))) {
            Some((name, take)) => (Some(name), take),
            None => (None, 1),
        };
        let piece = given.get(at..at + take)?.join("/");
        match name {
            Some(name) if !piece.is_empty() => params.push((name, piece)),
            None if piece == part => {}
            _ => return None,
        }
        at += take;
    }
    (at == given.len()).then_some(params)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_takes_one_part() {
        let p = "/containers/{id}/json";
        assert_eq!(capture(p, "/containers/web/json"), Some(vec![("id", "web".into())]));
        for path in
            ["/containers//json", "/containers/a/b/json", "/containers/json", "/containers/web/json/", ""]
        {
            assert_eq!(capture(p, path), None, "{path}");
        }
    }

    #[test]
    fn a_greedy_parameter_takes_slashes() {
        let p = "/images/{name*}/json";
        for name in ["nginx", "library/nginx:1", "registry:5000/a/b/c@sha256:00", "json", "a/json"] {
            assert_eq!(capture(p, &format!("/images/{name}/json")), Some(vec![("name", name.to_owned())]));
        }
        for path in ["/images/json", "/images//json", "/images/x/history", "/images"] {
            assert_eq!(capture(p, path), None, "{path}");
        }
        assert_eq!(capture("/images/{name*}", "/images/a/b"), Some(vec![("name", "a/b".into())]));
    }

    #[test]
    fn a_pattern_without_parameters_is_itself() {
        assert_eq!(capture("/_ping", "/_ping"), Some(vec![]));
        assert_eq!(capture("/_ping", "/_ping/"), None);
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[/a-z{}*]{0,30}") {
            for p in ["/", "/a/{b}", "/a/{b*}/c", "/a/{b*}"] {
                let _ = capture(p, &path);
            }
        }
    }
}
