//! `top`.

use super::path_name;
use crate::context::{Context, print};
use crate::failure::Outcome;
use crate::flags::Given;
use crate::output::table;
use tare_docker_api::client::Request;
use tare_docker_api::models::ContainerTopResponse;

/// `tare top`.
pub(crate) fn top(context: &Context, given: &Given) -> Outcome {
    let mut request = Request::get(format!("/containers/{}/top", path_name(&given.args[0])));
    if given.args.len() > 1 {
        request = request.query("ps_args", given.args[1..].join(" "));
    }
    let answer: ContainerTopResponse = context.client()?.json(request)?;
    let mut text = answer.titles.unwrap_or_default().join("\t") + "\n";
    for process in answer.processes.unwrap_or_default() {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    print(&table::align(&text, 20, 3))?;
    Ok(0)
}
