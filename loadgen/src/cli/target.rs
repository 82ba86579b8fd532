//! A broker to compare: `name=amqp://user:password@host:port/vhost`, with `,pid=N` if it runs on
//! this machine.

use std::str::FromStr;

use crate::client::uri::AmqpUri;

/// A broker to compare.
#[derive(Debug, Clone)]
pub struct TargetBroker {
    /// Its name in the results.
    pub name: String,
    /// Its address.
    pub uri: AmqpUri,
    /// Its process, if CPU time and memory are to be measured.
    pub pid: Option<u32>,
}

impl FromStr for TargetBroker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("a target must be name=amqp://user:password@host:port/vhost[,pid=N]")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_name_an_address_and_optionally_a_pid() {
        let target: TargetBroker = "mine=amqp://a:b@h:1/v,pid=7".parse().unwrap();
        assert_eq!((target.name.as_str(), target.uri.port, target.pid), ("mine", 1, Some(7)));
        let plain: TargetBroker = "x=amqp://h".parse().unwrap();
        assert_eq!(plain.pid, None);
        for wrong in ["amqp://h", "=amqp://h", "x=http://h", "x=amqp://h,pid=z"] {
            assert!(wrong.parse::<TargetBroker>().is_err(), "{wrong}");
        }
    }
}
