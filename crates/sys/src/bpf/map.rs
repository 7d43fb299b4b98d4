//! Maps: what programs look up and remember.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

use super::{bpf, raw};

const MAP_CREATE: libc::c_int = 0;
const MAP_SET: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const MAP_NEXT: libc::c_int = 4;
const OBJECT_INFO: libc::c_int = 15;
const NO_PREALLOC: u32 = 1;

/// How a map keeps what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// A trie: keys are a length in bits (4 bytes, as the machine writes them) and so many of them. Takes memory for what is in
    /// it, and none for what could be.
    Trie,
    /// A table that forgets what was not used for longest. Takes all of its memory at once.
    Recent,
}

/// A map whose keys have `K` bytes and whose values have `V`.
#[derive(Debug)]
pub struct Map<const K: usize, const V: usize>(OwnedFd);

/// As `BPF_MAP_CREATE` reads it.
#[repr(C)]
struct Create {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

/// As `BPF_OBJ_GET_INFO_BY_FD` reads it.
#[repr(C)]
struct Ask {
    object: u32,
    length: u32,
    info: u64,
}

/// As the commands about one entry read it.
#[repr(C)]
struct Entry {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// === impl Map ===

impl<const K: usize, const V: usize> Map<K, V> {
    /// A new one, with room for so many entries.
    ///
    /// # Errors
    /// `EPERM` without `CAP_BPF`; `EINVAL` where the kernel has none of that kind.
    pub fn new(kind: MapKind, name: [u8; 16], entries: u32) -> Result<Self> {
        let (kind, flags) = match kind {
            MapKind::Trie => (11, NO_PREALLOC),
            MapKind::Recent => (9, 0),
        };
        let size = |bytes: usize| u32::try_from(bytes).map_err(|_| Errno::TOOBIG);
        let (key, value) = (size(K)?, size(V)?);
        let mut attributes = Create { kind, key, value, entries, flags, inner: 0, node: 0, name };
        // SAFETY: the attributes hold numbers and a name only.
        let fd = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
        // SAFETY: the answer is a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// One that was made elsewhere.
    ///
    /// # Errors
    /// `EINVAL` if it is none, or its keys and values have other sizes.
    pub fn adopt(fd: OwnedFd) -> Result<Self> {
        let mut sizes = [0_u32; 4]; // kind, number, bytes of a key, bytes of a value
        let length = size_of_val(&sizes) as u32;
        let mut attributes = Ask { object: raw(fd.as_fd()), length, info: sizes.as_mut_ptr() as u64 };
        // SAFETY: `sizes` has room for `length` bytes and lives over the call.
        unsafe { bpf(OBJECT_INFO, &mut attributes) }?;
        let [_, _, key, value] = sizes.map(|size| size as usize);
        if (key, value) == (K, V) { Ok(Self(fd)) } else { Err(Errno::INVAL) }
    }

    /// As programs name it.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Adds an entry, or changes it.
    ///
    /// # Errors
    /// `ENOSPC` when there is no room.
    pub fn set(&self, key: &[u8; K], value: &[u8; V]) -> Result<()> {
        self.one(MAP_SET, key.as_ptr() as u64, value.as_ptr() as u64)
    }

    /// Takes an entry away.
    ///
    /// # Errors
    /// `ENOENT` if it is not there.
    pub fn remove(&self, key: &[u8; K]) -> Result<()> {
        self.one(MAP_DELETE, key.as_ptr() as u64, 0)
    }

    /// All keys.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn keys(&self) -> Result<Vec<[u8; K]>> {
        let mut keys: Vec<[u8; K]> = Vec::new();
        loop {
            let mut next = [0; K];
            let last = keys.last().map_or(0, |key| key.as_ptr() as u64);
            match self.one(MAP_NEXT, last, next.as_mut_ptr() as u64) {
                Ok(()) => keys.push(next),
                Err(Errno::NOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
    }

    /// `key` and `value` are addresses of so many bytes as the map has, or 0; `value` of `K` bytes for the next key.
    fn one(&self, command: libc::c_int, key: u64, value: u64) -> Result<()> {
        let mut attributes = Entry { map: raw(self.0.as_fd()), padding: 0, key, value, flags: 0 };
        // SAFETY: the callers above pass addresses of arrays of the map's sizes, which live over the call; `new` and `adopt`
        // know them.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }
}

impl<const K: usize, const V: usize> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
