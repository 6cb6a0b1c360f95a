//! The address of an image server as people write it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use simulcast_protocol::api::PORT;
use ureq::http::Uri;

/// `http://HOST:PORT` of an image server, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

/// A text that is no address of an image server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlError {
    /// Encryption is asked for, which there is not yet.
    #[error("{0:?} asks for TLS, which si-server does not speak yet: use http://")]
    Tls(String),
    /// Something else.
    #[error("{0:?} is not the address of an image server: write http://HOST or http://HOST:PORT")]
    Form(String),
}

impl ServerUrl {
    /// The addresses that its name stands for.
    ///
    /// # Errors
    /// When it stands for none.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let authority = self.0.strip_prefix("http://").unwrap_or(&self.0);
        Ok(authority.to_socket_addrs()?.collect())
    }
}

impl FromStr for ServerUrl {
    type Err = ParseUrlError;

    /// Takes `http://HOST[:PORT][/]` and `HOST[:PORT]`.
    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        let shown = || text.chars().take(120).collect::<String>();
        if text.starts_with("https://") {
            return Err(ParseUrlError::Tls(shown()));
        }
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let form = || ParseUrlError::Form(shown());
        let uri: Uri = full.parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        let plain = uri.scheme_str() == Some("http")
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !authority.as_str().contains('@')
            && !authority.host().is_empty();
        // `host:` and `host:99999` have a colon behind the name but no port that is a number.
        let port = authority.as_str()[authority.host().len()..].is_empty() || authority.port_u16().is_some();
        if !plain || !port {
            return Err(form());
        }
        let port = authority.port_u16().unwrap_or(PORT);
        Ok(Self(format!("http://{}:{port}", authority.host())))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (text, full) in [
            ("http://server", "http://server:9440"),
            ("http://10.0.0.1:80/", "http://10.0.0.1:80"),
            ("server:1234", "http://server:1234"),
            ("10.0.0.1", "http://10.0.0.1:9440"),
            ("http://[fe80::1]:7", "http://[fe80::1]:7"),
            ("http://[fe80::1]", "http://[fe80::1]:9440"),
        ] {
            assert_eq!(
                text.parse::<ServerUrl>().map(|url| url.to_string()),
                Ok(full.to_owned())
            );
        }
    }

    #[test]
    fn names_stand_for_addresses() {
        let addresses = |text: &str| text.parse::<ServerUrl>().unwrap().addresses();
        assert_eq!(addresses("10.0.0.1").unwrap(), ["10.0.0.1:9440".parse().unwrap()]);
        assert_eq!(
            addresses("http://[fd00::1]:7").unwrap(),
            ["[fd00::1]:7".parse().unwrap()]
        );
        assert!(addresses("no-such-name.invalid").is_err());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "http://",
            "ftp://x",
            "http://x/y",
            "http://x?y",
            "http://u:p@x",
            "x:99999",
            "x:",
            "a b",
        ] {
            assert_eq!(
                text.parse::<ServerUrl>(),
                Err(ParseUrlError::Form(text.to_owned())),
                "{text}"
            );
        }
        let error = "https://x".parse::<ServerUrl>().unwrap_err();
        assert_eq!(error, ParseUrlError::Tls("https://x".to_owned()));
    }
}
