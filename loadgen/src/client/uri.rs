//! `amqp://user:password@host:port/vhost`, every part optional and percent-decoded.

use std::str::FromStr;

/// The broker's address, the login and the vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpUri {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
    /// A host name or an address, IPv6 without brackets.
    pub host: String,
    /// The port; the default is 5672.
    pub port: u16,
    /// The virtual host; the default is `/`.
    pub vhost: String,
}

impl FromStr for AmqpUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("amqp://").ok_or_else(|| {
            "a URI begins with amqp:// (TLS, amqps://, is not supported)".to_owned()
        })?;
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, vhost)) => (authority, decode(vhost)?),
            None => (rest, "/".to_owned()),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login {
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (decode(user)?, decode(password)?)
            }
            None => ("guest".to_owned(), "guest".to_owned()),
        };
        let (host, port) = host_and_port(place)?;
        Ok(Self { user, password, host, port, vhost })
    }
}

fn host_and_port(place: &str) -> Result<(String, u16), String> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| format!("[ without ] in {place:?}"))?;
        (host, rest.strip_prefix(':'))
    } else {
        match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("{port:?} is not a port"))?,
        None => 5672,
    };
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { decode(host)? };
    Ok((host, port))
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} has a % that is not followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Result<AmqpUri, String> {
        text.parse()
    }

    #[test]
    fn every_part_is_optional_and_decoded() {
        let full = uri("amqp://us%40er:p%3Aw@broker:25000/%2fprod").unwrap();
        assert_eq!((full.user.as_str(), full.password.as_str()), ("us@er", "p:w"));
        assert_eq!(
            (full.host.as_str(), full.port, full.vhost.as_str()),
            ("broker", 25000, "/prod")
        );
        let bare = uri("amqp://").unwrap();
        assert_eq!((bare.host.as_str(), bare.port, bare.vhost.as_str()), ("127.0.0.1", 5672, "/"));
        assert_eq!(bare.user, "guest");
        let six = uri("amqp://[::1]:5673/").unwrap();
        assert_eq!((six.host.as_str(), six.port, six.vhost.as_str()), ("::1", 5673, ""));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert!(uri("http://x").unwrap_err().contains("amqp://"));
        assert!(uri("amqp://h:99999").unwrap_err().contains("not a port"));
        assert!(uri("amqp://h/%2").unwrap_err().contains('%'));
        assert!(uri("amqp://[::1").unwrap_err().contains(']'));
    }
}
