//! Creating: everything is checked and planned in memory, directories and the record are made side by side.

use std::collections::BTreeSet;
use std::sync::Arc;

use tare_model::container::{ContainerConfig, ImageSource, MountConfig, MountSource, NetworkMode, Relabel};
use tare_model::identity::{self, User};
use tare_model::sandbox::Identity;
use tare_model::{ContainerId, ContainerName, Error, ErrorKind, Result, VolumeId};
use tare_store::{HeldIds, RootSource};

use super::container::{Container, Life, Made, durability, image_name, paths};
use super::core::Core;
use super::driver;
use super::levels::Held;
use super::prepare;
use crate::api::event::Action;
use crate::api::options::Created;
use crate::api::view::{Fixed, Labels, MountKind, MountView, UserIds, UserNamespace};
use crate::assets::{self, Base};
use crate::networks;
use crate::spec::rootless::Rootless;
use crate::spec::selinux::{self, Choice, SeLinux};
use crate::spec::userns;
use crate::spec::{merge, mounts, plan, security, tmpfs};
use crate::work;
use crate::{clock, names};

/// What a container on the default network is told where there is none.
const NO_NETWORK: &str = "this engine has no default network (it was started with --bridge none, or is an ordinary user's and \
                          found no pasta, of package passt): the container has a loopback interface only, as with --network none (which avoids this warning); \
                          --network host shares the engine's";
/// How many random names are tried.
const NAME_ATTEMPTS: usize = 64;

// === impl Core ===

impl Core {
    /// Makes a container; durable when it returns.
    pub(crate) async fn create(
        self: &Arc<Self>,
        name: Option<ContainerName>,
        config: ContainerConfig,
    ) -> Result<Created> {
        // Until the container shows, for all to see that it uses the image.
        let look = || assets::base(&self.store, &config.image);
        let (base, _claim) = self.making.claim(look, |base| base.image_id).await?;
        self.create_of(name, config, base).await.map_err(not_the_image)
    }

    async fn create_of(
        self: &Arc<Self>,
        name: Option<ContainerName>,
        mut config: ContainerConfig,
        base: Base,
    ) -> Result<Created> {
        let mut warnings = plan::check(&mut config, &self.host)?;
        let thirty_two_bit = security::is_thirty_two_bit(&base.architecture);
        warnings.extend(security::check_image(&config.security, thirty_two_bit)?);
        warnings.extend(merge::unheeded(&config, &base.config));
        check_tmpfs(&config)?;
        prepare::bind_sources(&config, false).await?;
        self.networks.check(&config)?;
        self.check_links(&config)?;
        let mode = &config.namespaces.network;
        if matches!(mode, NetworkMode::Default | NetworkMode::Bridge) && !self.networks.has_default() {
            warnings.push(NO_NETWORK.to_owned());
        }
        if let Some(owner) = name.as_ref().and_then(|name| self.table.named(name)) {
            return Err(name_taken(name.as_ref().map_or("", |n| n.as_str()), &owner));
        }
        let id = ContainerId::from_bytes(work::random()?);
        let source = base.source.clone();
        // Held until the record has them.
        let (user_namespace, _held) = self.user_namespace(&config, &base)?;
        let (labels, _level) = self.labels(&config)?;
        warnings.extend(unlabelled_root(&config, labels.as_ref()));
        let (made, volumes) = self.made(&id, config, base, warnings, (user_namespace, labels))?;
        let (name, given) = match name {
            Some(name) => (name, true),
            None => (self.free_name(0)?, false),
        };
        let me = Container { id, name, made: Arc::new(made), life: Life::default() };
        let me = match self.keep(me, &source, &volumes, given).await {
            Ok(me) => me,
            Err((me, e)) => {
                self.undo(&me);
                return Err(e);
            }
        };
        let (id, warnings) = (me.id.clone(), me.made.fixed.warnings.clone());
        let driver = driver::enlist(self, me, None);
        self.tell(&driver.view(), Action::Create, &[]);
        tokio::spawn(driver.run());
        Ok(Created { id, warnings })
    }

    /// Links on the default network, which has no names to be asked for later, are to containers that are there.
    fn check_links(&self, config: &ContainerConfig) -> Result<()> {
        let endpoint = config.networking.endpoints.get(networks::plan::DEFAULT);
        for link in endpoint.iter().flat_map(|endpoint| &endpoint.links) {
            let container = link.split_once(':').map_or(link.as_str(), |(container, _)| container);
            self.table
                .get(container)
                .map_err(|e| e.context(format!("could not get container for {container}")))?;
        }
        Ok(())
    }

    /// What `create` decides, and the volumes it has to make. The container's directories are made here, as the last thing
    /// that can fail before there is something to undo: a few calls on a warm directory, quicker than another thread.
    fn made(
        &self,
        id: &ContainerId,
        mut config: ContainerConfig,
        base: Base,
        warnings: Vec<String>,
        (user_namespace, labels): (UserNamespace, Option<Labels>),
    ) -> Result<(Made, Vec<NewVolume>)> {
        let mut process = merge::merge(&config, &base.config)?;
        process.thirty_two_bit = security::is_thirty_two_bit(&base.architecture);
        let hostname = match &config.namespaces.network {
            // It says the name that is in the files of the network.
            NetworkMode::Container { container } => self.table.get(container)?.view().fixed.hostname.clone(),
            _ => merge::hostname(&config, id, &self.host)?,
        };
        let volumes = new_volumes(&mut config, &process.volumes)?;
        let rootfs = self.store.prepare(id, &base.source, durability(&config))?;
        let fixed = Fixed {
            image_name: image_name(&config.image),
            image_id: base.image_id,
            mounts: self.mount_views(&config, &volumes),
            paths: paths(id, &self.root, &self.run_dir, &rootfs, &config),
            process,
            hostname,
            config,
            warnings,
            user_namespace,
            labels,
        };
        let made = Made {
            created: clock::now(),
            fixed: Arc::new(fixed),
            rootfs,
            volumes: volumes.iter().map(|v| v.id.clone()).collect(),
        };
        Ok((made, volumes))
    }

    /// Whose ids the container has. Ids of its own, or shared ones, are held by what comes with them.
    fn user_namespace(
        &self,
        config: &ContainerConfig,
        base: &Base,
    ) -> Result<(UserNamespace, Option<HeldIds>)> {
        if let Some(rootless) = &self.host.rootless {
            return Ok((self.engines_namespace(rootless, config, base)?, None));
        }
        let mut lent = Vec::new();
        for (words, container) in userns::lenders(config) {
            let namespace = self.table.get(container)?.view().fixed.user_namespace.clone();
            lent.push((words, namespace));
        }
        match userns::choose(config, &lent)? {
            userns::Choice::Host(reason) => Ok((UserNamespace::Host { reason }, None)),
            userns::Choice::Shared(ids, shared) => {
                let held = self.store.containers().share_ids(ids.range)?;
                Ok((UserNamespace::Own { ids, shared }, Some(held)))
            }
            userns::Choice::Own => {
                let user = user_of(config, base).to_owned();
                let identity = Identity { user, groups: config.group_add.clone() };
                let (uids, gids) = userns::large_ids(&identity, self.found(&identity, base).as_ref())?;
                let held = self.store.containers().hold_ids(userns::blocks(&uids, &gids))?;
                let ids = UserIds { range: held.range(), uids, gids };
                Ok((UserNamespace::Own { ids, shared: String::new() }, Some(held)))
            }
        }
    }

    /// Its SELinux labels; a level that was drawn is held until the container shows.
    fn labels(&self, config: &ContainerConfig) -> Result<(Option<Labels>, Option<Held<'_>>)> {
        let mut lent = Vec::new();
        for (words, container) in selinux::lenders(config) {
            lent.push((words, self.table.get(container)?.view().fixed.labels.clone()));
        }
        let (labels, held) = match selinux::choose(config, self.host.selinux.as_ref(), &lent)? {
            Choice::Labels(labels) => (labels, None),
            Choice::Own(SeLinux { mut process, mut files, .. }) => {
                let held = self.table.levels.draw(&process)?;
                if let Some(held) = &held {
                    (process, files) =
                        (process.with_categories(held.categories), files.with_categories(held.categories));
                }
                (Some(Labels { process: process.to_string(), files: files.to_string() }), held)
            }
        };
        labels.as_ref().map_or(Ok(()), crate::selinux::check_both)?;
        Ok((labels, held))
    }

    /// Who this is by the image's files: a hint which ids the user namespace needs. The runtime looks again when the
    /// container is there, and says what is wrong.
    fn found(&self, identity: &Identity, base: &Base) -> Option<User> {
        if !userns::asks_files(identity) {
            return None;
        }
        let text = |path| self.store.text_of(&base.source, path).ok().flatten().unwrap_or_default();
        identity::resolve(identity, &text("etc/passwd"), &text("etc/group")).ok()
    }

    /// As [`Core::user_namespace`], for an ordinary user's engine: all containers have its ids, each in a user namespace of
    /// its own.
    fn engines_namespace(
        &self,
        rootless: &Rootless,
        config: &ContainerConfig,
        base: &Base,
    ) -> Result<UserNamespace> {
        rootless.check_ids(user_of(config, base), &config.group_add)?;
        let mut first: Option<(String, ContainerId)> = None;
        for (words, container) in userns::lenders(config) {
            let id = self.table.get(container)?.view().id.clone();
            match &first {
                None => first = Some((words, id)),
                Some((other, one)) if *one != id => {
                    return Err(Error::invalid(format!(
                        "conflicting options: {other} and {words}: the two containers have different user namespaces"
                    )));
                }
                Some(_) => {}
            }
        }
        let shared = first.map_or_else(String::new, |(words, _)| words);
        Ok(UserNamespace::Engine { users: rootless.users.clone(), groups: rootless.groups.clone(), shared })
    }

    /// Makes volumes while the record is written. A random name that was taken meanwhile is drawn anew.
    async fn keep(
        self: &Arc<Self>,
        mut me: Container,
        source: &RootSource,
        volumes: &[NewVolume],
        given: bool,
    ) -> std::result::Result<Container, (Container, Error)> {
        let mut filling = Some(self.fill(&me, source, volumes));
        for attempt in 0..NAME_ATTEMPTS {
            let made = async {
                match filling.take() {
                    Some(filling) => filling.await,
                    None => Ok(()),
                }
            };
            let (made, saved) = tokio::join!(made, self.save(&me));
            match (made, saved) {
                (Ok(()), Ok(())) => return Ok(me),
                (Ok(()), Err(e)) if e.kind() == ErrorKind::Conflict && !given => {
                    match self.free_name(attempt + 1) {
                        Ok(name) => me.name = name,
                        Err(e) => return Err((me, e)),
                    }
                }
                (Err(e), _) | (_, Err(e)) => return Err((me, e)),
            }
        }
        Err((me, Error::conflict("no free name was found; give one with --name")))
    }

    fn save(self: &Arc<Self>, me: &Container) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let record = me.record();
        let core = Arc::clone(self);
        async move {
            let record = record?;
            if record.durability == tare_store::Durability::Process {
                return core.store.containers().put(&record);
            }
            work::blocking(move || core.store.containers().put(&record)).await
        }
    }

    fn fill(
        self: &Arc<Self>,
        me: &Container,
        source: &RootSource,
        volumes: &[NewVolume],
    ) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let (core, source, volumes) = (Arc::clone(self), source.clone(), volumes.to_vec());
        let labels = me.made.fixed.labels.clone();
        let (id, durability) = (me.id.clone(), me.durability());
        async move {
            if volumes.is_empty() {
                return Ok(());
            }
            // The image's content is copied into new volumes: as much work as there is content.
            work::blocking(move || {
                for volume in &volumes {
                    core.store.create_volume(&tare_store::NewVolume {
                        id: volume.id.clone(),
                        container: &id,
                        path: &volume.target,
                        copy_from: volume.copies.then_some(&source),
                        durability,
                    })?;
                    if let Some(labels) = &labels {
                        crate::selinux::label_tree(&core.store.volume_path(&volume.id), &labels.files)?;
                    }
                }
                Ok(())
            })
            .await
        }
    }

    /// Takes away what a creation that failed has made.
    fn undo(&self, me: &Container) {
        let removed = self.store.containers().remove(&me.id);
        let discarded = assets::discard(&self.store, &me.id, &me.made.volumes, &me.made.fixed.paths.run_dir);
        for e in [removed, discarded].into_iter().filter_map(Result::err) {
            tracing::error!(container = me.id.as_str(), "undo a failed create: {e}");
        }
    }

    fn free_name(&self, attempt: usize) -> Result<ContainerName> {
        for n in attempt..attempt + NAME_ATTEMPTS {
            let bytes: [u8; 32] = work::random()?;
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[..8]);
            let name = names::draw(eight, n)?;
            if self.table.named(&name).is_none() {
                return Ok(name);
            }
        }
        Err(Error::conflict("no free name was found; give one with --name"))
    }

    fn mount_views(&self, config: &ContainerConfig, volumes: &[NewVolume]) -> Vec<MountView> {
        let asked = config.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { path, propagation, relabel, .. } => Some(MountView {
                kind: MountKind::Bind,
                volume: None,
                source: path.into(),
                destination: mount.target.clone(),
                mode: mode(mount.readonly, *relabel).into(),
                writable: !mount.readonly,
                propagation: if propagation.is_empty() { "rprivate".into() } else { propagation.clone() },
            }),
            MountSource::Tmpfs { .. } => Some(MountView {
                kind: MountKind::Tmpfs,
                volume: None,
                source: Default::default(),
                destination: mount.target.clone(),
                mode: String::new(),
                writable: !mount.readonly,
                propagation: String::new(),
            }),
            MountSource::Volume { .. } => None,
        });
        let made = volumes.iter().map(|volume| MountView {
            kind: MountKind::Volume,
            volume: Some(volume.id.clone()),
            source: self.store.volume_path(&volume.id),
            destination: volume.target.clone(),
            mode: String::new(),
            writable: !volume.readonly,
            propagation: String::new(),
        });
        asked.chain(made).collect()
    }
}

/// The words of a bind mount, for inspection.
fn mode(readonly: bool, relabel: Relabel) -> &'static str {
    match (readonly, relabel) {
        (false, Relabel::No) => "",
        (true, Relabel::No) => "ro",
        (false, Relabel::Shared) => "z",
        (true, Relabel::Shared) => "ro,z",
        (false, Relabel::Private) => "Z",
        (true, Relabel::Private) => "ro,Z",
    }
}

/// A directory that is the root itself is the user's to label: no option of a mount does it there.
fn unlabelled_root(config: &ContainerConfig, labels: Option<&Labels>) -> Option<String> {
    let (ImageSource::Directory { path, writable: true }, Some(labels)) = (&config.image, labels) else {
        return None;
    };
    Some(format!(
        "{path}: the files of this directory keep their SELinux labels, which may lock the container out; give them one that \
         it may use (chcon -R {} {path}), or use --security-opt label=disable",
        labels.shared_files()
    ))
}

/// A volume that a new container gets.
#[derive(Clone, Debug)]
struct NewVolume {
    id: VolumeId,
    target: String,
    readonly: bool,
    /// It begins with what the image has there.
    copies: bool,
}

/// The volumes to make: for mounts of kind volume, and for every declared path that nothing else is mounted on.
fn new_volumes(config: &mut ContainerConfig, declared: &[String]) -> Result<Vec<NewVolume>> {
    let mut volumes = Vec::new();
    for MountConfig { target, source, readonly, .. } in &mut config.mounts {
        if let MountSource::Volume { id, no_copy } = source {
            let fresh = VolumeId::from_bytes(work::random()?);
            *id = Some(fresh.clone());
            let target = mounts::clean(target);
            volumes.push(NewVolume { id: fresh, target, readonly: *readonly, copies: !*no_copy });
        }
    }
    let taken: BTreeSet<String> = config.mounts.iter().map(|m| mounts::clean(&m.target)).collect();
    for target in declared.iter().filter(|path| !taken.contains(*path)) {
        volumes.push(NewVolume {
            id: VolumeId::from_bytes(work::random()?),
            target: target.clone(),
            readonly: false,
            copies: true,
        });
    }
    Ok(volumes)
}

/// What can be seen to be wrong before there is a container.
fn check_tmpfs(config: &ContainerConfig) -> Result<()> {
    for mount in &config.mounts {
        if let MountSource::Tmpfs { size, mode, options } = &mount.source {
            tmpfs::options(*size, *mode, options, mount.readonly)?;
        }
    }
    Ok(())
}

/// As asked for, or the image's.
fn user_of<'a>(config: &'a ContainerConfig, base: &'a Base) -> &'a str {
    let both = [config.process.user.as_str(), base.config.user.as_str()];
    both.into_iter().find(|user| !user.is_empty()).unwrap_or_default()
}

fn name_taken(name: &str, owner: &ContainerId) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    ))
}

/// Clients take a creation that does not find something for one without its image, and go to fetch that.
fn not_the_image(e: Error) -> Error {
    if e.kind() == ErrorKind::NotFound { Error::invalid(e.message()) } else { e }
}
