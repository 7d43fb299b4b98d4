//! The tables of the database, all from text to bytes.

use redb::TableDefinition;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Format version, instance id and the like.
    Settings,
    /// Image records by digest of their configuration.
    Images,
    /// Digest of an image by canonical reference.
    Tags,
    /// Layer records by key.
    Layers,
    /// Image configurations and manifests, byte for byte, by digest.
    Documents,
    /// Container records by id.
    Containers,
    /// Volume records by id.
    Volumes,
    /// Network records by id.
    Networks,
}

// === impl Table ===

impl Table {
    pub(crate) const ALL: [Self; 8] = [
        Self::Settings,
        Self::Images,
        Self::Tags,
        Self::Layers,
        Self::Documents,
        Self::Containers,
        Self::Volumes,
        Self::Networks,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Images => "images",
            Self::Tags => "tags",
            Self::Layers => "layers",
            Self::Documents => "documents",
            Self::Containers => "containers",
            Self::Volumes => "volumes",
            Self::Networks => "networks",
        }
    }

    pub(super) fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}
