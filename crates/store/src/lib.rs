//! Durable state: content by digest, layers and snapshots, volumes, and the one metadata database.
