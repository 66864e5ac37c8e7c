//! [`Address`]: the database of a queue.

use crate::error::QueueError;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use url::Url;

/// The database of a queue: `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE`.
///
/// The text of an address has no password.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// A file of SQLite, for the programs of one machine. The file is made if there is none.
    Sqlite(PathBuf),
    /// A database of PostgreSQL, for many machines.
    Postgres(Url),
}

impl FromStr for Address {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains(['?', '\0']) {
                return Err(QueueError::Address("sqlite: has no file; expected sqlite:PATH".into()));
            }
            return Ok(Self::Sqlite(path.into()));
        }
        // The text is not repeated, because it may have a password.
        let expected = "expected sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE";
        let url = Url::parse(text).map_err(|error| QueueError::Address(format!("no address ({error}); {expected}")))?;
        match url.scheme() {
            "postgres" | "postgresql" => Ok(Self::Postgres(url)),
            other => Err(QueueError::Address(format!("a queue at {other}:; {expected}"))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let host = url.host_str().unwrap_or("localhost");
                let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
                write!(formatter, "postgres://{host}{port}{}", url.path())
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn address_text_has_no_password() {
        let address: Address = "postgres://painter:secret@db:5433/pictures?sslmode=require".parse().unwrap();
        assert_eq!(address.to_string(), "postgres://db:5433/pictures");
        assert_eq!(format!("{address:?}"), "postgres://db:5433/pictures");
    }

    #[test]
    fn wrong_address_is_named_without_its_text() {
        for (text, message) in [
            ("queue.db", "no address"),
            ("mysql://u:secret@h/d", "a queue at mysql:"),
            ("sqlite:", "sqlite: has no file"),
        ] {
            let told = text.parse::<Address>().unwrap_err().to_string();
            assert!(told.contains(message) && !told.contains("secret"), "{told}");
        }
        assert_eq!("sqlite://a/q.db".parse::<Address>().unwrap(), Address::Sqlite("a/q.db".into()));
    }
}
