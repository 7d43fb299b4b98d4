//! Nouns and contracts of tare: ids, digests, references, configurations, states, errors; the traits between rooms. No I/O.
