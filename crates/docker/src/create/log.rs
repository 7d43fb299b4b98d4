//! Log driver and its options.

use std::collections::BTreeMap;

use tare_docker_api::models::HostConfigLogConfig;
use tare_model::container::{LogConfig, LogDriver};
use tare_model::{Error, Result};

use super::text::bytes;

pub(super) fn log(wire: Option<HostConfigLogConfig>) -> Result<LogConfig> {
    let wire = wire.unwrap_or_default();
    let driver = match wire.typ.as_deref().unwrap_or("") {
        "" | "local" => LogDriver::Local,
        "json-file" => LogDriver::JsonFile,
        "none" => LogDriver::None,
        other => {
            return Err(Error::unsupported(format!(
                "HostConfig.LogConfig.Type = {other:?}: the log drivers are local, json-file and none"
            )));
        }
    };
    let raw_options: BTreeMap<String, String> = wire.config.unwrap_or_default().into_iter().collect();
    let mut log = LogConfig { driver, raw_options: raw_options.clone(), ..Default::default() };
    for (name, value) in &raw_options {
        match (name.as_str(), driver) {
            ("max-size", LogDriver::Local | LogDriver::JsonFile) => log.max_size = Some(max_size(value)?),
            ("max-file", LogDriver::Local | LogDriver::JsonFile) => log.max_files = Some(max_files(value)?),
            _ => return Err(unknown(name, driver)),
        }
    }
    Ok(log)
}

/// -1 is "never rotate", the model's zero.
fn max_size(value: &str) -> Result<u64> {
    match value {
        "-1" => Ok(0),
        _ => match bytes("log opt max-size", value)? {
            0 => Err(Error::invalid("invalid log opt max-size: \"0\" (use -1 for no limit)")),
            n => Ok(n),
        },
    }
}

fn max_files(value: &str) -> Result<u32> {
    match value.parse::<u32>() {
        Ok(n @ 1..) => Ok(n),
        _ => Err(Error::invalid(format!("invalid log opt max-file: {value:?} (want a number from 1)"))),
    }
}

fn unknown(name: &str, driver: LogDriver) -> Error {
    let (driver, known) = match driver {
        LogDriver::Local => ("local", "max-size, max-file"),
        LogDriver::JsonFile => ("json-file", "max-size, max-file"),
        LogDriver::None => ("none", "no options"),
    };
    Error::invalid(format!("unknown log opt '{name}' for {driver} log driver (it has {known})"))
}
