//! What tests stand on: an engine of their own, images, the stock client, and a check that nothing is left behind.
