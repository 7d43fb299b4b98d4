//! Mount options as OCI documents write them, read once into what the mount calls take.
//!
//! An option is one of three things: an attribute of the mount (`ro`, `nodev`; with a leading `r` of it and all
//! mounts below), a propagation (`rslave`), or a word for the file system (`size=64m`), which its own driver checks.

use tare_sys::mount::{Attributes, Change, Propagation};

use crate::error::{Error, Result};

/// The options of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Attributes of this mount to switch on and off.
    pub attributes: Switch,
    /// Attributes of this and every mount below.
    pub recursive: Switch,
    /// Propagation, and whether it goes for every mount below.
    pub propagation: Option<(Propagation, bool)>,
    /// `bind` (false) or `rbind` (true), if given.
    pub bind: Option<bool>,
    /// `idmap` or `ridmap`, if given.
    pub idmap: Option<Idmap>,
    /// Words for the file system.
    pub data: Vec<Datum>,
    /// A tmpfs starts with what it covers.
    pub copy_up: bool,
}

/// Whose ids are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idmap {
    /// Those of the mount itself.
    Itself,
    /// Those of every mount below it, too.
    Recursive,
}

/// Attributes to switch on and off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// On.
    pub set: Attributes,
    /// Off.
    pub clear: Attributes,
}

/// One word for a file system: `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datum {
    /// Before the `=`.
    pub key: String,
    /// After it.
    pub value: Option<String>,
}

/// What a word does to the attributes.
#[derive(Clone, Copy)]
enum Effect {
    On(Attributes),
    Off(Attributes),
    AccessTime(Attributes),
}

/// `loud`, `norelatime` and `nostrictatime` name what the kernel does anyway; `silent` only hushes its log. The rest is so
/// anyway as well, and not every file system knows the word.
const IDLE: [&str; 11] = [
    "defaults",
    "loud",
    "silent",
    "norelatime",
    "nostrictatime",
    "rnorelatime",
    "rnostrictatime",
    "async",
    "nomand",
    "nolazytime",
    "noiversion",
];

/// What says how a mount comes to be.
const MANNERS: [&str; 5] = ["bind", "rbind", "idmap", "ridmap", "tmpcopyup"];

/// Words that the kernel takes for every file system.
const KERNELS: [&str; 4] = ["dirsync", "lazytime", "mand", "sync"];

const PROPAGATIONS: [(&str, Propagation, bool); 8] = [
    ("private", Propagation::Private, false),
    ("rprivate", Propagation::Private, true),
    ("slave", Propagation::Slave, false),
    ("rslave", Propagation::Slave, true),
    ("shared", Propagation::Shared, false),
    ("rshared", Propagation::Shared, true),
    ("unbindable", Propagation::Unbindable, false),
    ("runbindable", Propagation::Unbindable, true),
];

/// With an `r` before it each goes for every mount below, too.
const EFFECTS: [(&str, Effect); 16] = [
    ("ro", Effect::On(Attributes::RDONLY)),
    ("rw", Effect::Off(Attributes::RDONLY)),
    ("nosuid", Effect::On(Attributes::NOSUID)),
    ("suid", Effect::Off(Attributes::NOSUID)),
    ("nodev", Effect::On(Attributes::NODEV)),
    ("dev", Effect::Off(Attributes::NODEV)),
    ("noexec", Effect::On(Attributes::NOEXEC)),
    ("exec", Effect::Off(Attributes::NOEXEC)),
    ("nosymfollow", Effect::On(Attributes::NOSYMFOLLOW)),
    ("symfollow", Effect::Off(Attributes::NOSYMFOLLOW)),
    ("nodiratime", Effect::On(Attributes::NODIRATIME)),
    ("diratime", Effect::Off(Attributes::NODIRATIME)),
    ("noatime", Effect::AccessTime(Attributes::NOATIME)),
    ("strictatime", Effect::AccessTime(Attributes::STRICTATIME)),
    ("atime", Effect::AccessTime(Attributes::RELATIME)),
    ("relatime", Effect::AccessTime(Attributes::RELATIME)),
];

/// Every option that says something of the mount, in order; all other words are for one file system or another.
pub fn words() -> Vec<String> {
    let plain = IDLE.iter().chain(&MANNERS).chain(&KERNELS).map(|word| (*word).to_owned());
    let propagations = PROPAGATIONS.iter().map(|(word, ..)| (*word).to_owned());
    let effects = EFFECTS.iter().flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]);
    let mut all: Vec<String> = plain.chain(propagations).chain(effects).collect();
    all.sort();
    all
}

// === impl Options ===

impl Options {
    /// Reads a list of options; a later one wins over an earlier.
    ///
    /// # Errors
    /// Options that are not offered, by name.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for word in words {
            options.add(word)?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str) -> Result<()> {
        match word {
            "" => {}
            _ if IDLE.contains(&word) => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(Idmap::Itself)),
            "ridmap" => self.idmap = Some(Idmap::Recursive),
            "tmpcopyup" => self.copy_up = true,
            "remount" => {
                return Err(Error::unsupported(format!("mount option {word:?} is not supported yet")));
            }
            _ => return self.add_other(word),
        }
        Ok(())
    }

    fn add_other(&mut self, word: &str) -> Result<()> {
        if let Some(propagation) = propagation(word) {
            self.propagation = Some(propagation);
        } else if let Some(effect) = effect(word) {
            self.attributes.apply(&effect);
        } else if let Some(effect) = word.strip_prefix('r').and_then(effect) {
            self.recursive.apply(&effect);
        } else {
            self.data.push(Datum::parse(word)?);
        }
        Ok(())
    }

    /// The changes for a mount that exists already (a bind), in order; none for an ordinary bind.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some((propagation, recursive)) = self.propagation {
            changes.push(Change { propagation: Some(propagation), recursive, ..Change::default() });
        }
        for (switch, recursive) in [(self.recursive, true), (self.attributes, false)] {
            if switch != Switch::default() {
                let Switch { set, clear } = switch;
                changes.push(Change { set, clear, propagation: None, recursive });
            }
        }
        changes
    }
}

// === impl Switch ===

impl Switch {
    fn apply(&mut self, effect: &Effect) {
        match *effect {
            Effect::On(bits) => {
                self.set = self.set.with(bits);
                self.clear = self.clear.without(bits);
            }
            Effect::Off(bits) => {
                self.set = self.set.without(bits);
                self.clear = self.clear.with(bits);
            }
            // The modes share one field, which the kernel wants cleared as a whole before one is set.
            Effect::AccessTime(mode) => {
                self.set = self.set.without(Attributes::ATIME_FIELD).with(mode);
                self.clear = self.clear.with(Attributes::ATIME_FIELD);
            }
        }
    }
}

// === impl Datum ===

impl Datum {
    fn parse(word: &str) -> Result<Self> {
        if word.contains('\0') {
            return Err(Error::invalid(format!("mount option {word:?} contains NUL")));
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        Ok(Self { key: key.to_owned(), value })
    }
}

fn propagation(word: &str) -> Option<(Propagation, bool)> {
    let found = PROPAGATIONS.iter().find(|(known, ..)| *known == word);
    found.map(|(_, propagation, recursive)| (*propagation, *recursive))
}

fn effect(word: &str) -> Option<Effect> {
    EFFECTS.iter().find(|(known, _)| *known == word).map(|(_, effect)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Options::parse(&words).unwrap()
    }

    #[test]
    fn attributes_propagation_and_data_are_told_apart() {
        let options = parse(&["nosuid", "nodev", "mode=755", "size=65536k", "rslave", "newinstance"]);
        assert_eq!(options.attributes.set, Attributes::NOSUID.with(Attributes::NODEV));
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        let keys: Vec<&str> = options.data.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["mode", "size", "newinstance"]);
    }

    #[test]
    fn a_later_word_wins_over_an_earlier() {
        assert_eq!(
            parse(&["ro", "rw"]).attributes,
            Switch { set: Attributes::NONE, clear: Attributes::RDONLY }
        );
        assert_eq!(
            parse(&["rw", "ro"]).attributes,
            Switch { set: Attributes::RDONLY, clear: Attributes::NONE }
        );
    }

    #[test]
    fn a_leading_r_means_everything_below_too() {
        let options = parse(&["rbind", "rro"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.attributes, Switch::default());
        assert_eq!(options.recursive.set, Attributes::RDONLY);
        assert_eq!(options.changes().len(), 1);
        assert!(options.changes()[0].recursive);
    }

    #[test]
    fn an_access_time_mode_clears_the_whole_field_first() {
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!(options.attributes.set, Attributes::STRICTATIME);
        assert_eq!(options.attributes.clear, Attributes::ATIME_FIELD);
    }

    #[test]
    fn an_ordinary_bind_changes_nothing() {
        assert!(parse(&["bind", "defaults"]).changes().is_empty());
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(true), "the wider one stays");
    }

    #[test]
    fn a_mapping_is_of_the_mount_or_of_all_below() {
        assert_eq!(parse(&["bind"]).idmap, None);
        assert_eq!(parse(&["bind", "idmap"]).idmap, Some(Idmap::Itself));
        assert_eq!(parse(&["ridmap", "idmap"]).idmap, Some(Idmap::Recursive), "the wider one stays");
        assert!(parse(&["ridmap"]).data.is_empty(), "no file system sees the word");
    }

    #[test]
    fn every_word_that_is_listed_is_understood_once_and_no_file_system_sees_it() {
        let all = words();
        for word in &all {
            let options = Options::parse(std::slice::from_ref(word)).unwrap();
            let for_all = KERNELS.contains(&word.as_str());
            assert_eq!(options.data.is_empty(), !for_all, "{word}");
            let says_something = options != Options::default();
            assert_eq!(says_something, !IDLE.contains(&word.as_str()), "{word}");
        }
        assert!(all.windows(2).all(|two| two[0] < two[1]), "{all:?}");
    }

    #[test]
    fn options_that_are_not_offered_are_refused_by_name() {
        let error = Options::parse(&["remount".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("remount"), "{error}");
        assert!(Options::parse(&["a\0b".to_owned()]).is_err());
    }
}
