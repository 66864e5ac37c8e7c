//! Ctrl-C: the first press ends the run after its current step, the second press ends the program.

use crate::failure::Failure;
use impasto::sampler::CancelToken;

/// Returns a token that Ctrl-C cancels. Files are written whole or not at all, so the second Ctrl-C can end the program
/// at any time.
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
