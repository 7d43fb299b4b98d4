//! Lifecycle of containers and images: the single front door behind every face.
