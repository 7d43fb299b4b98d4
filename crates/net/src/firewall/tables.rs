//! Our tables in the kernel: loaded whole, changed by steps, held as fast as the kernel lets us.

use rustix::io::Errno;
use tare_model::error::{Error, ErrorKind, Result};
use tare_sys::netlink::Socket;
use tare_sys::nftables::{Change, Family, Part, TableFlags, apply_all, tables};

use super::element::{Place, Step};

/// How often a load is begun again because somebody deleted our table meanwhile.
const ATTEMPTS: u32 = 5;
/// Those of our tables.
const FAMILIES: [Family; 4] = [Family::Inet, Family::Bridge, Family::Ip, Family::Ip6];
/// `NFTNL_UDATA_TABLE_COMMENT`: shown by `nft list`.
const COMMENT: u8 = 0;

/// How the tables are kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// They are ours alone, and stay when we are gone (Linux 6.9 and later).
    Lasting,
    /// What isolates stands twice: once in tables that stay when we are gone, once in tables that are ours alone (5.12).
    Guarded,
    /// Anybody can take them away; they are loaded again at once.
    Watched,
}

/// The tables of one instance.
#[derive(Debug)]
pub(super) struct Tables {
    socket: Socket,
    name: String,
    guard: String,
    hold: Hold,
    /// There are tables of what comes to the host by IPv4, by IPv6.
    input: [bool; 2],
}

/// One table and what goes into it.
struct Table<'a> {
    family: Family,
    name: &'a str,
    flags: TableFlags,
    places: &'static [Place],
}

/// A refusal: the change, if one was refused, and the kernel's reason.
pub(super) struct Refused {
    table: String,
    change: String,
    makes_table: bool,
    error: tare_sys::netlink::Error,
}

// === impl Tables ===

impl Tables {
    pub(super) fn new(socket: Socket, name: &str) -> Self {
        Self {
            socket,
            name: name.into(),
            guard: format!("{name}-guard"),
            hold: Hold::Lasting,
            input: [false; 2],
        }
    }

    /// Whether there are tables of what comes to the host by IPv4 and by IPv6, from the next load on.
    pub(super) fn hear(&mut self, input: [bool; 2]) {
        self.input = input;
    }

    pub(super) fn hold(&self) -> Hold {
        self.hold
    }

    /// Tries less than the best hold, as on an older kernel.
    #[cfg(test)]
    pub(super) fn hold_by(&mut self, hold: Hold) {
        self.hold = hold;
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Names of the tables that there may be.
    pub(super) fn names(&self) -> [String; 2] {
        [self.name.clone(), self.guard.clone()]
    }

    /// Names and comments of all tables of packets that there are.
    pub(super) fn comments(&mut self) -> Result<Vec<(String, String)>> {
        self.comments_of(Family::Inet)
    }

    /// The same of a family.
    pub(super) fn comments_of(&mut self, family: Family) -> Result<Vec<(String, String)>> {
        let all = tables(&mut self.socket, family).map_err(|e| refused_list(&e))?;
        let text = |note: Vec<u8>| {
            let text = note.get(2..note.len().saturating_sub(1)).unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        };
        Ok(all.into_iter().map(|(name, note)| (name, text(note))).collect())
    }

    /// Whether the table of packets is there.
    pub(super) fn is_there(&mut self) -> Result<bool> {
        Ok(self.comments()?.iter().any(|(name, _)| *name == self.name))
    }

    /// Makes the tables anew with these steps in them, in one transaction.
    pub(super) fn load(&mut self, steps: &[Step], comment: &str) -> Result<()> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            match self.load_once(steps, comment)? {
                Ok(()) => return Ok(()),
                Err(refused) if refused.is_about_the_hold() && self.hold != Hold::Watched => {
                    self.hold = match self.hold {
                        Hold::Lasting => Hold::Guarded,
                        Hold::Guarded | Hold::Watched => Hold::Watched,
                    };
                }
                Err(refused) if refused.is_out_of_step() && attempts.next().is_some() => {}
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    fn load_once(&mut self, steps: &[Step], comment: &str) -> Result<std::result::Result<(), Refused>> {
        let note = note(comment);
        let mut all = Vec::new();
        for family in FAMILIES {
            let found = tables(&mut self.socket, family).map_err(|e| refused_list(&e))?;
            let there = |name: &str| found.iter().any(|(found, _)| found == name);
            for table in list(self.hold, self.input, &self.name, &self.guard)
                .into_iter()
                .filter(|t| t.family == family)
            {
                let mut changes = Vec::new();
                if there(table.name) {
                    changes.push(Change::DeleteTable);
                }
                changes.push(Change::AddTable { flags: table.flags, note: note.clone() });
                changes.extend(table.changes(steps));
                all.push((table.family, table.name, changes));
            }
        }
        Ok(commit(&mut self.socket, &all))
    }

    /// Makes changes, in one transaction.
    pub(super) fn apply(&mut self, steps: &[Step]) -> std::result::Result<(), Refused> {
        let tables = list(self.hold, self.input, &self.name, &self.guard);
        let all: Vec<_> = tables.iter().map(|t| (t.family, t.name, t.changes(steps).collect())).collect();
        commit(&mut self.socket, &all)
    }

    /// Deletes the tables.
    pub(super) fn delete(&mut self) -> Result<()> {
        for family in FAMILIES {
            let found = tables(&mut self.socket, family).map_err(|e| refused_list(&e))?;
            let ours = found.iter().filter(|(name, _)| [&self.name, &self.guard].contains(&name));
            let all: Vec<_> =
                ours.map(|(name, _)| (family, name.as_str(), vec![Change::DeleteTable])).collect();
            commit(&mut self.socket, &all)?;
        }
        Ok(())
    }
}

fn list<'a>(hold: Hold, input: [bool; 2], name: &'a str, guard: &'a str) -> Vec<Table<'a>> {
    const PACKETS: &[Place] = &[Place::Filter, Place::Nat];
    const ISOLATION: &[Place] = &[Place::Filter];
    const FRAMES: &[Place] = &[Place::Frames];
    let flags = if hold == Hold::Lasting { TableFlags::OWNED_AND_LASTING } else { TableFlags::NONE };
    let mut tables = vec![
        Table { family: Family::Inet, name, flags, places: PACKETS },
        Table { family: Family::Bridge, name, flags, places: FRAMES },
    ];
    let comes: [(Family, &[Place]); 2] = [(Family::Ip, &[Place::Input4]), (Family::Ip6, &[Place::Input6])];
    for ((family, places), _) in comes.into_iter().zip(input).filter(|(_, there)| *there) {
        tables.push(Table { family, name, flags, places });
    }
    if hold == Hold::Guarded {
        let flags = TableFlags::OWNED;
        tables.push(Table { family: Family::Inet, name: guard, flags, places: ISOLATION });
        tables.push(Table { family: Family::Bridge, name: guard, flags, places: FRAMES });
    }
    tables
}

fn commit(socket: &mut Socket, all: &[(Family, &str, Vec<Change>)]) -> std::result::Result<(), Refused> {
    let parts: Vec<_> =
        all.iter().map(|(family, table, changes)| Part { family: *family, table, changes }).collect();
    apply_all(socket, &parts).map_err(|(part, place, error)| {
        let (family, table, change) = match all.get(part) {
            Some((family, table, changes)) => (Some(family), *table, changes.get(place)),
            None => (None, "", None),
        };
        Refused {
            table: family.map_or_else(String::new, |family| format!("{} {table}", word(*family))),
            change: change.map_or_else(|| "transaction".into(), describe),
            makes_table: matches!(change, Some(Change::AddTable { .. })),
            error,
        }
    })
}

pub(super) fn word(family: Family) -> &'static str {
    match family {
        Family::Bridge => "bridge",
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Inet | Family::Netdev => "inet",
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::AddTable { .. } => "add table".into(),
        Change::DeleteTable => "delete table".into(),
        Change::AddChain(chain) => format!("add chain {}", chain.name),
        Change::DeleteChain(name) => format!("delete chain {name}"),
        Change::FlushChain(name) => format!("flush chain {name}"),
        Change::AddRule { chain, .. } => format!("add rule to chain {chain}"),
        Change::InsertRule { chain, .. } => format!("insert rule into chain {chain}"),
        Change::DeleteRule { chain, handle } => format!("delete rule {handle} of chain {chain}"),
        Change::AddSet(set) => format!("add set {}", set.name),
        Change::DeleteSet(name) => format!("delete set {name}"),
        Change::AddElements { set, elements } => format!("add {} elements to set {set}", elements.len()),
        Change::DeleteElements { set, elements } => {
            format!("delete {} elements of set {set}", elements.len())
        }
        Change::FlushSet(name) => format!("flush set {name}"),
    }
}

/// A comment as nft keeps it: kind, length, text, end.
pub(super) fn note(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut note = vec![COMMENT, length];
    note.extend(comment.bytes().take(usize::from(length) - 1));
    note.push(0);
    note
}

fn refused_list(error: &tare_sys::netlink::Error) -> Error {
    let hint = if error.errno() == Errno::PROTONOSUPPORT {
        "; this kernel has no nftables, without which bridge networks cannot be isolated"
    } else {
        ""
    };
    Error::system(format!("nftables: list tables: {error}{hint}"))
}

// === impl Table ===

impl Table<'_> {
    fn changes<'s>(&self, steps: &'s [Step]) -> impl Iterator<Item = Change> + use<'s> {
        let places = self.places;
        steps.iter().filter(move |step| places.contains(&step.place)).map(|step| step.change.clone())
    }
}

// === impl Refused ===

impl Refused {
    /// The kernel knows no tables with an owner, or none that outlive it.
    fn is_about_the_hold(&self) -> bool {
        self.makes_table && [Errno::OPNOTSUPP, Errno::INVAL].contains(&self.error.errno())
    }

    /// What is in the kernel is not what we think.
    pub(super) fn is_out_of_step(&self) -> bool {
        [Errno::NOENT, Errno::EXIST, Errno::BUSY].contains(&self.error.errno())
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let Refused { table, change, error, .. } = refused;
        let (kind, hint) = match error.errno() {
            Errno::PERM => (
                ErrorKind::Conflict,
                "; it belongs to another process: is there another daemon of this name (--instance)?",
            ),
            Errno::OPNOTSUPP | Errno::NOENT => {
                (ErrorKind::System, "; does this kernel have nf_tables with nat, fib and masquerade?")
            }
            _ => (ErrorKind::System, ""),
        };
        Error::new(kind, format!("nftables table {table}: {change}: {error}{hint}"))
    }
}
