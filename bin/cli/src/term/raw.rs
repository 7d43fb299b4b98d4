//! Raw mode that is always given back: on return, on error, and on panic (release builds abort on panic, so a hook and
//! not a destructor has to do it). Signals that end the program are caught by the session and leave by returning.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, stdin};
use std::sync::{Mutex, Once};

/// The mode that stdin's terminal had, while it is raw.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Stdin's terminal is raw as long as this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

// === impl RawMode ===

impl RawMode {
    /// Makes stdin's terminal raw.
    pub(crate) fn enter() -> io::Result<Self> {
        let original = tcgetattr(stdin())?;
        let mut raw = original.clone();
        raw.make_raw();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        if let Ok(mut slot) = ORIGINAL.lock() {
            *slot = Some(original);
        }
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // `try_lock`: a panic while the lock is held must not wait for itself.
    if let Some(original) = ORIGINAL.try_lock().ok().and_then(|mut slot| slot.take()) {
        // The terminal may be gone (a closed window); then there is nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &original);
    }
}
