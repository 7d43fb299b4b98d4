//! The Docker Engine HTTP API, served.
