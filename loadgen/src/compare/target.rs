//! A broker to compare: `name=amqp://user:password@host:port/vhost`, with `,pid=N` if it runs here.

use std::str::FromStr;

use super::result::TargetInfo;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::uri::Uri;

/// One of the brokers.
#[derive(Debug, Clone)]
pub struct Target {
    /// What it is called in the results.
    pub name: String,
    /// Where it is.
    pub uri: Uri,
    /// Its process, if CPU and memory are to be read.
    pub pid: Option<u32>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("a target is name=amqp://user:password@host:port/vhost[,pid=N]")?;
        let (uri, pid) = match rest.rsplit_once(",pid=") {
            Some((uri, pid)) => {
                let pid = pid.parse().map_err(|_| format!("pid={pid} is not a number"))?;
                (uri, Some(pid))
            }
            None => (rest, None),
        };
        Ok(Self { name: name.to_owned(), uri: uri.parse()?, pid })
    }
}

impl Target {
    /// Says who the broker is.
    ///
    /// # Errors
    /// It cannot be reached or refuses the login.
    pub fn ask(&self) -> Result<TargetInfo, Failure> {
        let connection = Connection::open(&self.uri)?;
        let product = connection.product.clone();
        connection.close()?;
        let address = format!("{}:{}", self.uri.host, self.uri.port);
        Ok(TargetInfo { name: self.name.clone(), address, product })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_an_address_and_perhaps_a_process() {
        let target: Target = "mine=amqp://a:b@h:1/v,pid=7".parse().unwrap();
        assert_eq!((target.name.as_str(), target.uri.port, target.pid), ("mine", 1, Some(7)));
        let plain: Target = "x=amqp://h".parse().unwrap();
        assert_eq!(plain.pid, None);
        for wrong in ["amqp://h", "=amqp://h", "x=http://h", "x=amqp://h,pid=z"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
