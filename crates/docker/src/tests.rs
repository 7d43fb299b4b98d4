//! The server as clients meet it: raw bytes on a real socket, with an engine behind it that has no containers.

mod client;
mod fake;
mod hijack;
mod limits;
mod networks;
mod requests;
mod stock;
mod streams;
