//! Execs: prepared here, started by the container's monitor, remembered for inspection.

use std::sync::Arc;

use tare_model::container::AttachedStreams;
use tare_model::sandbox::{ExecSpec, Identity, WindowSize};
use tare_model::{Error, ErrorKind, ExecId, Result};
use tare_shim::protocol::ExecRequest;

use super::Engine;
use super::attach::{into_fd, pair};
use crate::api::event::Action;
use crate::api::exec::{ExecConfig, ExecStartOptions, ExecView};
use crate::api::stream::AttachStream;
use crate::api::view::ContainerView;
use crate::execs::{Exec, Phase};
use crate::lifecycle::rules::Op;
use crate::monitors::Monitor;
use crate::spec::merge;
use crate::work;

// === impl Engine ===

impl Engine {
    /// Prepares a further process.
    ///
    /// # Errors
    /// `Conflict` when the container does not run or is frozen.
    pub async fn exec_create(&self, key: &str, config: ExecConfig) -> Result<ExecId> {
        let handle = self.core.table.get(key)?;
        let (state, _) = super::live(&handle, key, Op::Exec)?;
        check(&config)?;
        let id = ExecId::from_bytes(work::random()?);
        let command = config.cmd.join(" ");
        let exec = self.core.execs.add(id, handle.id.clone(), config);
        self.core.tell(&state.view, Action::ExecCreate(command), &[("execID", exec.id.to_string())]);
        Ok(exec.id.clone())
    }

    /// Starts a prepared process. Without `detach`, its streams come back.
    ///
    /// # Errors
    /// `NotFound` ("No such exec instance: x"), `Conflict` when it was started before, `CommandNotFound`,
    /// `CommandNotExecutable`.
    pub async fn exec_start(&self, exec: &str, options: ExecStartOptions) -> Result<Option<AttachStream>> {
        let exec = self.core.execs.get(exec)?;
        let key = exec.container.clone();
        let (state, monitor) = self.live(key.as_str(), Op::Exec)?;
        exec.claim()?;
        let command = exec.config.cmd.join(" ");
        self.core.tell(&state.view, Action::ExecStart(command), &[("execID", exec.id.to_string())]);
        let before = state.clone();
        let answer = work::whole(async move {
            let launched = launch(&exec, &state.view, &*monitor, &options).await;
            if let Err(e) = &launched {
                exec.ended(match e.kind() {
                    ErrorKind::CommandNotFound => 127,
                    _ => 126,
                });
            }
            launched
        })
        .await;
        self.settled(key.as_str(), &before, answer).await
    }

    /// Everything about one exec. Known until its container stops, or five minutes after its end.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn exec_inspect(&self, exec: &str) -> Result<ExecView> {
        Ok(self.core.execs.get(exec)?.view())
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn exec_resize(&self, exec: &str, size: WindowSize) -> Result<()> {
        let exec = self.core.execs.get(exec)?;
        if !matches!(exec.phase(), Phase::Running { .. }) {
            return Err(Error::conflict(format!("exec {} is not running", exec.id)));
        }
        let key = exec.container.as_str();
        let (state, monitor) = self.live(key, Op::Resize)?;
        self.settled(key, &state, monitor.resize(size, Some(exec.id.clone())).await).await
    }
}

fn check(config: &ExecConfig) -> Result<()> {
    if config.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    if config.cmd.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::invalid("invalid exec command: an argument has a NUL byte"));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    merge::check_env(&config.env)
}

async fn launch(
    exec: &Arc<Exec>,
    view: &ContainerView,
    monitor: &dyn Monitor,
    options: &ExecStartOptions,
) -> Result<Option<AttachStream>> {
    let config = &exec.config;
    let attached = !options.detach;
    let (ours, theirs) = match attached {
        true => pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
        false => (None, None),
    };
    let (rows, columns) = options.console_size.or(config.console_size).unwrap_or_default();
    let request = ExecRequest {
        exec: exec.id.clone(),
        spec: spec(config, view),
        terminal: config.tty.then_some(WindowSize { rows, columns }),
        streams: if attached { config.attach } else { AttachedStreams::default() },
    };
    let pid = monitor.exec(request, theirs.map(into_fd).transpose()?).await?;
    exec.running(pid);
    Ok(ours.map(|socket| AttachStream { socket, tty: config.tty, done: Some(exec.done()) }))
}

fn spec(config: &ExecConfig, view: &ContainerView) -> ExecSpec {
    let fixed = &view.fixed;
    let container = merge::environment(&fixed.process, &fixed.hostname, fixed.config.process.tty);
    let some = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    ExecSpec {
        args: config.cmd.clone(),
        env: merge::exec_environment(container, &config.env, config.tty),
        cwd: some(&config.working_dir),
        identity: some(&config.user).map(|user| Identity { user, groups: fixed.config.group_add.clone() }),
        privileged: config.privileged,
    }
}
