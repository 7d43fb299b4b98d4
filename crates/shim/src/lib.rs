//! The per-container monitor: protocol, client, supervisor loop; owns stdio, logs and exit status.
