//! End-to-end tests: the built programs on the real kernel, and the stock docker client.
