//! Domain errors become HTTP statuses here and nowhere else.

use hyper::StatusCode;
use tare_model::{Error, ErrorKind};

/// An answer that is an error: a status, and the sentence that goes into `{"message": …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

// === impl Fault ===

impl Fault {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// No such path; Docker's words.
    pub(crate) fn page_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// A body that is larger than what is read into memory.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request body is larger than {limit} bytes"))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { status: status(error.kind()), message: wording(&error) }
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        // Docker answers 400 to a command that cannot be executed: the request named it.
        ErrorKind::InvalidInput | ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable => {
            StatusCode::BAD_REQUEST
        }
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // Corrupt, System, and kinds that a later model adds.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Docker's clients choose exit code 127 or 126 by these phrases in the message, so they must be in it.
fn wording(error: &Error) -> String {
    let has = |phrases: &[&str]| phrases.iter().any(|p| error.message().contains(p));
    match error.kind() {
        ErrorKind::CommandNotFound if !has(&["executable file not found", "no such file or directory"]) => {
            format!("{}: executable file not found in $PATH", error.message())
        }
        ErrorKind::CommandNotExecutable if !has(&["permission denied", "is a directory"]) => {
            format!("{}: permission denied", error.message())
        }
        _ => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        for (kind, status) in [
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::NotModified, 304),
            (ErrorKind::InvalidInput, 400),
            (ErrorKind::Unsupported, 501),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::CommandNotFound, 400),
            (ErrorKind::CommandNotExecutable, 400),
            (ErrorKind::Corrupt, 500),
            (ErrorKind::System, 500),
        ] {
            assert_eq!(Fault::from(Error::new(kind, "x")).status.as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn clients_can_tell_126_from_127() {
        let message = |kind, text: &str| Fault::from(Error::new(kind, text)).message;
        assert_eq!(
            message(ErrorKind::CommandNotFound, "exec \"nope\": ENOENT"),
            "exec \"nope\": ENOENT: executable file not found in $PATH"
        );
        assert_eq!(
            message(ErrorKind::CommandNotExecutable, "exec \"/etc\": EACCES"),
            "exec \"/etc\": EACCES: permission denied"
        );
        let said = "exec: \"nope\": executable file not found in $PATH";
        assert_eq!(message(ErrorKind::CommandNotFound, said), said);
    }
}
