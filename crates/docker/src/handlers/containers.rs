//! The life of containers.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tare_docker_api::models::{ContainerCreateResponse, ContainerTopResponse, ContainerUpdateResponse};
use tare_engine::{DetachKeys, RemoveOptions, StartOptions, StopOptions, StopTimeout};
use tare_model::sandbox::WindowSize;
use tare_model::{ContainerName, Error, Signal};

use super::listing;
use crate::backend::{Containers, Images, Streams, System};
use crate::create;
use crate::error::Result;
use crate::http::{Call, Query, Reply};
use crate::show;

pub(crate) async fn create<B: Containers + System>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let body: Map<String, Value> = call.required_json().await?;
    let name = match call.query.text("name") {
        "" => None,
        text => Some(text.parse::<ContainerName>()?),
    };
    platform(call.query.text("platform"), backend.version().architecture)?;
    let asked = create::request(body, call.version)?;
    let made = backend.create(name, asked.config).await?;
    let warnings = asked.warnings.into_iter().chain(made.warnings).collect();
    let response = ContainerCreateResponse { id: made.id.to_string(), warnings };
    Ok(Reply::json(StatusCode::CREATED, &response))
}

/// `os[/arch[/variant]]`, or an arch alone. Programs of other machines are not run.
fn platform(text: &str, architecture: &str) -> Result<()> {
    let words: Vec<&str> = text.split('/').collect();
    let same = |arch: &str| match (arch, architecture) {
        ("x86_64", "amd64") | ("aarch64", "arm64") => true,
        (asked, ours) => asked == ours,
    };
    match words.as_slice() {
        [""] | ["linux"] => Ok(()),
        ["linux", arch] | ["linux", arch, _] | [arch] if same(arch) => Ok(()),
        _ => {
            Err(Error::unsupported(format!("platform {text:?}: this machine runs linux/{architecture}"))
                .into())
        }
    }
}

pub(crate) async fn inspect<B: Containers + Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let view = backend.inspect(call.param("id"))?;
    let mut shown = show::container::inspect(&view, call.version);
    if call.query.flag("size") {
        let sizes = listing::sizes(&*backend, &view).await?;
        if let Value::Object(shown) = &mut shown {
            shown.insert("SizeRw".to_owned(), json!(sizes.writable));
            shown.insert("SizeRootFs".to_owned(), json!(sizes.total));
        }
    }
    Ok(Reply::ok(&shown))
}

pub(crate) async fn top<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let top = backend.top(call.param("id"), call.query.text("ps_args")).await?;
    Ok(Reply::ok(&ContainerTopResponse { titles: Some(top.titles), processes: Some(top.rows) }))
}

pub(crate) async fn start<B: Containers>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    // Docker took settings here long ago; a client that still sends them expects them to have an effect.
    let body = call.bytes().await?;
    if !matches!(body.trim_ascii(), b"" | b"{}" | b"null") {
        let why = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
        return Err(Error::invalid(why).into());
    }
    DetachKeys::parse(call.query.text("detachKeys"))?;
    if !call.query.text("checkpoint").is_empty() {
        return Err(Error::unsupported("checkpoint: starting from a checkpoint is not supported yet").into());
    }
    backend.start(call.param("id"), StartOptions::default()).await?;
    Ok(Reply::done())
}

pub(crate) async fn stop<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.stop(call.param("id"), stop_options(&call.query)?).await?;
    Ok(Reply::done())
}

pub(crate) async fn restart<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.restart(call.param("id"), stop_options(&call.query)?).await?;
    Ok(Reply::done())
}

fn stop_options(query: &Query) -> tare_model::Result<StopOptions> {
    let signal = match query.text("signal") {
        "" => None,
        text => Some(text.parse()?),
    };
    let timeout = query.number::<i64>("t")?.map(|t| match u64::try_from(t) {
        Ok(seconds) => StopTimeout::After(Duration::from_secs(seconds)),
        Err(_) => StopTimeout::Never,
    });
    Ok(StopOptions { signal, timeout })
}

pub(crate) async fn kill<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let signal = match call.query.text("signal") {
        "" => Signal::KILL,
        text => text.parse()?,
    };
    backend.kill(call.param("id"), signal).await?;
    Ok(Reply::done())
}

pub(crate) async fn pause<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.pause(call.param("id")).await?;
    Ok(Reply::done())
}

pub(crate) async fn unpause<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.unpause(call.param("id")).await?;
    Ok(Reply::done())
}

pub(crate) async fn rename<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.rename(call.param("id"), call.query.text("name").parse()?).await?;
    Ok(Reply::done())
}

pub(crate) async fn update<B: Containers>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let asked = create::update::read(call.required_json().await?)?;
    let warnings = backend.update(call.param("id"), Box::new(move |config| asked.apply(config))).await?;
    Ok(Reply::ok(&ContainerUpdateResponse { warnings: Some(warnings) }))
}

pub(crate) async fn remove<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    if call.query.flag("link") {
        return Err(Error::unsupported("link: links between containers are not supported").into());
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    backend.remove(call.param("id"), options).await?;
    Ok(Reply::done())
}

pub(crate) async fn resize<B: Streams>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.resize(call.param("id"), window_size(&call.query)?).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// Rows `h` and columns `w`.
pub(super) fn window_size(query: &Query) -> tare_model::Result<WindowSize> {
    let missing = |name| Error::invalid(format!("the parameter {name:?} is missing"));
    Ok(WindowSize {
        rows: query.number("h")?.ok_or_else(|| missing("h"))?,
        columns: query.number("w")?.ok_or_else(|| missing("w"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_platform_is_run() {
        for ours in ["", "linux", "linux/amd64", "linux/x86_64", "amd64", "linux/amd64/v2"] {
            assert_eq!(platform(ours, "amd64"), Ok(()), "{ours}");
        }
        for other in ["windows", "linux/arm64", "arm64", "linux/", "linux/amd64/v2/x"] {
            assert!(platform(other, "amd64").is_err(), "{other}");
        }
    }

    #[test]
    fn a_negative_stop_timeout_waits_for_ever() {
        let options = |q| stop_options(&Query::parse(q)).map(|o| o.timeout);
        assert_eq!(options("t=-1"), Ok(Some(StopTimeout::Never)));
        assert_eq!(options("t=0"), Ok(Some(StopTimeout::After(Duration::ZERO))));
        assert_eq!(options(""), Ok(None));
        assert!(options("t=soon").is_err());
        assert!(stop_options(&Query::parse("signal=SIGNOPE")).is_err());
    }

    #[test]
    fn a_window_needs_both_sides() {
        assert_eq!(window_size(&Query::parse("h=24&w=80")), Ok(WindowSize { rows: 24, columns: 80 }));
        for bad in ["h=24", "w=80", "h=-1&w=80", "h=24&w=x"] {
            assert!(window_size(&Query::parse(bad)).is_err(), "{bad}");
        }
    }
}
