//! Crash tests: the daemon and the nursery die at random moments under load, and nothing is lost.
