//! Ctrl-C: the first one ends the run after its step, the second one ends the program.

use crate::failure::Failure;
use impasto::sampler::CancelToken;

/// Returns a token that Ctrl-C cancels. Files are written whole or not at all, so that the second Ctrl-C may end the
/// program anywhere.
pub fn token() -> Result<CancelToken, Failure> {
    let token = CancelToken::new();
    let interrupted = token.clone();
    ctrlc::set_handler(move || {
        if interrupted.is_cancelled() {
            std::process::exit(130);
        }
        interrupted.cancel();
    })
    .map_err(|error| Failure::Message(format!("Ctrl-C cannot be handled: {error}")))?;
    Ok(token)
}
