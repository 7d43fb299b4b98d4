//! The firewall against traffic: a host, its neighbour on the LAN and containers, each a network namespace of a thread.

mod direct;
mod engines;
mod flows;
mod forwarding;
mod frames;
mod hosts;
mod input;
mod leaves;
mod listing;
mod loopback;
mod plan;
mod traffic;
mod upkeep;
mod world;
mod zones;
