//! `import`: one image from the archive of a root file system, with a configuration made of instructions.

use std::io::Read;

use tare_model::image::{History, RootFs};
use tare_model::{Error, Image, ImageConfig, ImageDocument, Reference, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::staging::Staging;
use crate::Store;
use crate::images::NewImage;
use crate::stream::digest_of;

/// What an import is asked for.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The image's name.
    pub reference: Option<Reference>,
    /// A remark for its history; `Imported from -` if empty.
    pub message: String,
    /// The configuration to begin with.
    pub config: ImageConfig,
    /// Dockerfile instructions, applied to it: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`.
    pub changes: Vec<String>,
}

// === impl Store ===

impl Store {
    /// Makes an image of one layer from the archive of a root file system (plain, gzip or zstd). **Blocks on reader and
    /// disk.**
    ///
    /// # Errors
    /// As [`Store::load`]; `InvalidInput` for an instruction that cannot be read.
    pub fn import(&self, reader: &mut dyn Read, options: &ImportOptions) -> Result<Image> {
        // Before gigabytes are read.
        let mut config = options.config.clone();
        for change in &options.changes {
            apply_change(&mut config, change).map_err(|e| e.context(format!("change {change:?}")))?;
        }
        let mut staging = Staging::new(&self.layout)?;
        let result = self.import_into(&mut staging, reader, config, options);
        drop(staging);
        self.trash.wake();
        result
    }

    fn import_into(
        &self,
        staging: &mut Staging,
        reader: &mut dyn Read,
        config: ImageConfig,
        options: &ImportOptions,
    ) -> Result<Image> {
        let layer = staging.read_layer(reader)?;
        let created = OffsetDateTime::now_utc().format(&Rfc3339).ok();
        let message = if options.message.is_empty() { "Imported from -" } else { &options.message };
        let history =
            History { created: created.clone(), comment: Some(message.into()), ..History::default() };
        let parsed = ImageDocument {
            created,
            architecture: oci_spec::image::Arch::default().to_string(),
            os: "linux".into(),
            config,
            rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
            history: vec![history],
            ..ImageDocument::default()
        };
        let document =
            serde_json::to_vec(&parsed).map_err(|e| Error::invalid(format!("write configuration: {e}")))?;
        let id = digest_of(&document);
        let tags = options.reference.clone().map(Reference::or_latest).into_iter().collect();
        self.images.add(
            &self.layout,
            staging.dir(),
            vec![NewImage { id, document, parsed, layers: vec![layer], tags }],
        )?;
        self.images.get(&id)
    }
}

/// Applies one Dockerfile instruction to a configuration.
fn apply_change(config: &mut ImageConfig, change: &str) -> Result<()> {
    let (name, rest) = change.trim().split_once(char::is_whitespace).unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(Error::invalid("an instruction needs an argument"));
    }
    match name.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" if rest.starts_with('/') => config.working_dir = rest.to_owned(),
        "WORKDIR" => return Err(Error::invalid("want an absolute path")),
        "STOPSIGNAL" => {
            config.stop_signal = Some(rest.parse::<tare_model::Signal>().map(|_| rest.to_owned())?)
        }
        "EXPOSE" => {
            config.exposed_ports.extend(rest.split_whitespace().map(port).collect::<Result<Vec<_>>>()?)
        }
        "VOLUME" => config.volumes.extend(json_list(rest).unwrap_or_else(|| words(rest))),
        "ENV" => {
            for (key, value) in assignments(rest)? {
                config.env.retain(|entry| entry.split('=').next() != Some(&key));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(assignments(rest)?),
        other => {
            return Err(Error::unsupported(format!(
                "instruction {other} is not supported: use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME \
                 or WORKDIR"
            )));
        }
    }
    Ok(())
}

/// A JSON list is the command itself; anything else is for a shell.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

fn port(text: &str) -> Result<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match number.parse::<u16>() {
        Ok(1..) if matches!(protocol, "tcp" | "udp" | "sctp") => Ok(format!("{number}/{protocol}")),
        _ => Err(Error::invalid(format!("{text:?} is no port: want NUMBER[/tcp|udp|sctp]"))),
    }
}

/// `key=value key2="a b"`, or the old form `key the rest`.
fn assignments(text: &str) -> Result<Vec<(String, String)>> {
    let first = text.split_whitespace().next().unwrap_or_default();
    let pairs = if first.contains('=') {
        words(text)
            .into_iter()
            .map(|word| word.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
            .collect()
    } else {
        text.split_once(char::is_whitespace).map(|(k, v)| vec![(k.to_owned(), v.trim().to_owned())])
    };
    let pairs: Option<Vec<_>> = pairs;
    pairs
        .filter(|pairs| pairs.iter().all(|(key, _)| !key.is_empty()))
        .ok_or_else(|| Error::invalid(format!("{text:?} sets no variable: want NAME=VALUE")))
}

/// Words as a shell splits them: quotes group, a backslash takes the next character as it is.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if std::mem::take(&mut any) {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None | Some('"'), '\\') => word.extend(chars.next()),
            _ => word.push(c),
        }
        any = true;
    }
    if any {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig> {
        let mut config = ImageConfig::default();
        changes.iter().try_for_each(|change| apply_change(&mut config, change)).map(|()| config)
    }

    #[test]
    fn instructions_set_what_they_set_in_a_dockerfile() {
        let config = changed(&[
            "CMD [\"nginx\", \"-g\", \"daemon off;\"]",
            "entrypoint exec /start",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV A again",
            "LABEL a.b=c",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/data\"]",
            "VOLUME /a /b",
            "USER www:www",
            "WORKDIR /srv",
            "STOPSIGNAL SIGQUIT",
        ])
        .expect("all good");
        assert_eq!(config.cmd, Some(vec!["nginx".into(), "-g".into(), "daemon off;".into()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".into(), "-c".into(), "exec /start".into()]));
        assert_eq!(config.env, ["B=two words", "C=x y", "A=again"]);
        assert_eq!(config.volumes.iter().map(String::as_str).collect::<Vec<_>>(), ["/a", "/b", "/data"]);
        assert_eq!(config.exposed_ports.iter().map(String::as_str).collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("www:www", "/srv"));
    }

    #[test]
    fn instructions_that_cannot_be_meant_are_refused() {
        for bad in [
            "RUN x",
            "ONBUILD RUN x",
            "HEALTHCHECK NONE",
            "CMD",
            "",
            "ENV =x",
            "ENV A",
            "EXPOSE 0",
            "EXPOSE x/tcp",
            "WORKDIR x",
            "STOPSIGNAL SIGNOPE",
            "LABEL a=b c",
        ] {
            assert!(changed(&[bad]).is_err(), "{bad}");
        }
    }
}
