//! Networks: what there are, making and removing them, and putting containers on them.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Map, Value};
use tare_docker_api::Filters;
use tare_docker_api::extension::NetworkUpdate;
use tare_docker_api::models::{NetworkConnectRequest, NetworkCreateResponse, NetworkDisconnectRequest};
use tare_engine::NetworkView;
use tare_model::Error;
use tare_model::shaping::Reshaping;

use crate::backend::Networks;
use crate::create::endpoint::{self, Place};
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::network::{self, Asked};
use crate::show;
use crate::spelling::{spell, spell_within};

const KNOWN: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

pub(crate) async fn list<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(&KNOWN)?;
    let dangling = filters.flag("dangling")?;
    if let Some(odd) = filters.values("type").find(|t| !matches!(*t, "builtin" | "custom")) {
        return Err(Error::invalid(format!("invalid filter: 'type'='{odd}' (want builtin or custom)")).into());
    }
    let mut found = backend.networks();
    found.retain(|view| matches(view, &filters, dangling));
    let rows: Vec<Value> = found.iter().map(|view| show::network::summary(view, call.version)).collect();
    Ok(Reply::ok(&rows))
}

/// Values of one filter are alternatives; labels must all be there.
fn matches(view: &NetworkView, filters: &Filters, dangling: Option<bool>) -> bool {
    let (id, config) = (view.network.id.as_str(), &view.network.config);
    let predefined = show::network::is_predefined(view);
    let any =
        |name: &str, test: &dyn Fn(&str) -> bool| !filters.contains(name) || filters.values(name).any(test);
    any("name", &|v| config.name.contains(v))
        && any("id", &|v| id.contains(v))
        && any("driver", &|v| config.driver.name() == v)
        && any("scope", &|v| v == "local")
        && any("type", &|v| (v == "builtin") == predefined)
        && filters.match_labels("label", &config.labels)
        && dangling.is_none_or(|wanted| (view.containers.is_empty() && !predefined) == wanted)
}

pub(crate) async fn inspect<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let key = call.param("id");
    // `verbose` adds the services of clusters, of which there are none.
    if !matches!(call.query.text("scope"), "" | "local") {
        return Err(Error::not_found(format!("network {key} not found")).into());
    }
    Ok(Reply::ok(&show::network::inspect(&backend.network(key)?, call.version)))
}

pub(crate) async fn create<B: Networks>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let body: Map<String, Value> = call.required_json().await?;
    let Asked { config, mut warnings } = network::config(body, call.version)?;
    let made = backend.network_create(config).await?;
    warnings.extend(made.warnings);
    let response = NetworkCreateResponse { id: made.id.to_string(), warning: warnings.join("\n") };
    Ok(Reply::json(StatusCode::CREATED, &response))
}

/// Of ours: the rate that all containers of a network divide.
pub(crate) async fn update<B: Networks>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let NetworkUpdate { in_rate, out_rate, burst } = call.required_json().await?;
    let change = Reshaping { inward: in_rate, outward: out_rate, burst, share: None };
    if change == Reshaping::default() {
        return Err(Error::invalid("nothing to do: name InRate, OutRate or Burst").into());
    }
    backend.network_update(call.param("id"), change).await?;
    Ok(Reply::empty(StatusCode::OK))
}

pub(crate) async fn remove<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.network_remove(call.param("id")).await?;
    Ok(Reply::done())
}

pub(crate) async fn connect<B: Networks>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let mut body: Map<String, Value> = call.required_json().await?;
    spell(&mut body, ["Container", "EndpointConfig"].into_iter());
    spell_within(
        &mut body,
        &[("EndpointConfig", endpoint::FIELDS), ("EndpointConfig.IPAMConfig", endpoint::IPAM_FIELDS)],
    );
    let asked: NetworkConnectRequest = typed(body)?;
    let network = backend.network(call.param("id"))?.network;
    let place = Place::of(&network.config.name);
    let config = endpoint::endpoint(asked.endpoint_config.unwrap_or_default(), place, call.version)?;
    backend.network_connect(network.id.as_str(), &asked.container, config).await?;
    Ok(Reply::empty(StatusCode::OK))
}

pub(crate) async fn disconnect<B: Networks>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let mut body: Map<String, Value> = call.required_json().await?;
    spell(&mut body, ["Container", "Force"].into_iter());
    let asked: NetworkDisconnectRequest = typed(body)?;
    let force = asked.force.unwrap_or_default();
    backend.network_disconnect(call.param("id"), &asked.container, force).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// A body of one of the two, which must name a container.
fn typed<T: serde::de::DeserializeOwned>(body: Map<String, Value>) -> tare_model::Result<T> {
    if body.get("Container").and_then(Value::as_str).unwrap_or("").is_empty() {
        return Err(Error::invalid("invalid request: Container is empty: name a container"));
    }
    serde_json::from_value(Value::Object(body)).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))
}
