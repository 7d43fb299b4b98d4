//! Faults of containers' networks, on purpose: `/faults` and `/containers/{id}/faults`. Docker has no such paths.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};
use tare_docker_api::extension::{FaultRequest as Body, Suffered};
use tare_engine::FaultRequest;
use tare_model::Error;
use tare_model::fault::{Impairment, WHOLE};

use crate::backend::Networks;
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show;

pub(crate) async fn list<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let container = Some(call.query.text("container")).filter(|key| !key.is_empty());
    let rows: Vec<Value> =
        backend.faults(container)?.iter().map(|one| json!(show::fault::fault(one))).collect();
    Ok(Reply::ok(&rows))
}

pub(crate) async fn add<B: Networks>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let body: Body = call.required_json().await?;
    let made = backend.fault_add(call.param("id"), request(body)?).await?;
    Ok(Reply::json(StatusCode::CREATED, &show::fault::fault(&made)))
}

pub(crate) async fn remove<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.fault_remove(call.param("id")).await?;
    Ok(Reply::done())
}

pub(crate) async fn clear<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let ended = backend.faults_clear(call.param("id")).await?;
    let ended: Vec<String> = ended.iter().map(ToString::to_string).collect();
    Ok(Reply::ok(&json!({ "Ended": ended })))
}

/// What a body asks for.
///
/// # Errors
/// `InvalidInput`, naming the field.
fn request(body: Body) -> tare_model::Result<FaultRequest> {
    let Body { network, direction, suffered, partition, duration } = body;
    if duration == Some(0) {
        return Err(Error::invalid("invalid Duration 0: want nanoseconds, or leave it out"));
    }
    let Suffered { latency, jitter, loss, corrupt, duplicate, reorder, rate } = suffered;
    let impairment = Impairment {
        latency: latency.unwrap_or(0),
        jitter: jitter.unwrap_or(0),
        loss: odds("Loss", loss)?,
        corrupt: odds("Corrupt", corrupt)?,
        duplicate: odds("Duplicate", duplicate)?,
        reorder: odds("Reorder", reorder)?,
        rate: rate.filter(|rate| *rate > 0),
    };
    Ok(FaultRequest {
        network: network.filter(|network| !network.is_empty()),
        direction: direction.unwrap_or_default().parse()?,
        impairment,
        partition,
        lasts: duration,
    })
}

/// Parts of a million from per cent.
fn odds(field: &str, percent: Option<f64>) -> tare_model::Result<u32> {
    let Some(percent) = percent.filter(|percent| *percent != 0.0) else { return Ok(0) };
    let millionths = (percent * f64::from(WHOLE) / 100.0).round();
    if !(1.0..=f64::from(WHOLE)).contains(&millionths) {
        return Err(Error::invalid(format!("invalid {field} {percent}: want 0.0001 to 100 per cent")));
    }
    // In range, as was just seen.
    Ok(millionths as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> tare_model::Result<FaultRequest> {
        let body = serde_json::from_value(body).map_err(|e| Error::invalid(e.to_string()))?;
        request(body)
    }

    #[test]
    fn every_field_has_its_effect() {
        let asked = read(json!({"Network": "front", "Direction": "in", "Latency": 5, "Jitter": 1, "Loss": 0.5,
            "Corrupt": 1, "Duplicate": 2.5, "Reorder": 100, "Rate": 5000, "Partition": ["db"], "Duration": 7}))
        .expect("valid");
        let impairment = Impairment {
            latency: 5,
            jitter: 1,
            loss: 5000,
            corrupt: 10_000,
            duplicate: 25_000,
            reorder: WHOLE,
            rate: Some(5000),
        };
        let wanted = FaultRequest {
            network: Some("front".into()),
            direction: tare_model::fault::Direction::In,
            impairment,
            partition: vec!["db".into()],
            lasts: Some(7),
        };
        assert_eq!(asked, wanted);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (body, word) in [
            (json!({"Loss": 101}), "Loss"),
            (json!({"Reorder": -1}), "Reorder"),
            (json!({"Corrupt": 0.000_01}), "Corrupt"),
            (json!({"Duration": 0}), "Duration"),
            (json!({"Direction": "up"}), "direction"),
            (json!({"Weather": 1}), "Weather"),
        ] {
            let e = read(body).expect_err(word);
            assert!(e.message().contains(word), "{e}");
        }
    }
}
