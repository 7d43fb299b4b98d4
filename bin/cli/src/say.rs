//! Lines for whoever watches.

use std::io::Write;

/// Writes one line to stderr; where even that fails there is nobody to tell.
pub(crate) fn complain(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
}
