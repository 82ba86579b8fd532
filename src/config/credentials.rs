//! Keys about users: what passwords have to be, and users that exist from the start.

use model::access::credentials::{CredentialValidator, LENGTH_MIN};
use model::access::defaults::DefaultUser;
use model::access::pattern::NamePattern;
use model::{Name, Secret};

use super::keys::{Key, key_of};
use super::{Config, ConfigError};

const PATTERN: &str = "a regular expression";
const BACKENDS: &str = "rabbit_credential_validator_accept_everything, \
                        rabbit_credential_validator_min_password_length or \
                        rabbit_credential_validator_password_regexp";

/// How passwords are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialBackend {
    /// Not at all.
    #[default]
    AcceptEverything,
    /// By their length.
    MinLength,
    /// By a pattern.
    Regexp,
}

/// The keys `credential_validator`. The other two count only for the backend they belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialKeys {
    backend: CredentialBackend,
    min_length: Option<u64>,
    regexp: Option<Name>,
}

impl CredentialKeys {
    /// What passwords have to be. A file without the pattern that is needed is refused.
    #[must_use]
    pub fn validator(&self) -> CredentialValidator {
        match self.backend {
            CredentialBackend::AcceptEverything => CredentialValidator::Any,
            CredentialBackend::MinLength => {
                CredentialValidator::Length(self.min_length.unwrap_or(LENGTH_MIN))
            }
            CredentialBackend::Regexp => {
                CredentialValidator::Pattern(self.regexp.clone().unwrap_or_default())
            }
        }
    }
}

/// The keys.
pub const KEYS: &[Key] = &[
    key_of("credential_validator.validation_backend", BACKENDS, |config, _, value| {
        config.credentials.backend = match value {
            "rabbit_credential_validator_accept_everything" => CredentialBackend::AcceptEverything,
            "rabbit_credential_validator_min_password_length" => CredentialBackend::MinLength,
            "rabbit_credential_validator_password_regexp" => CredentialBackend::Regexp,
            _ => return None,
        };
        Some(())
    }),
    key_of("credential_validator.min_length", "a whole number from 0 on", |config, _, value| {
        config.credentials.min_length = Some(value.parse().ok()?);
        Some(())
    }),
    key_of("credential_validator.regexp", PATTERN, |config, _, value| {
        config.credentials.regexp = Some(pattern(value).filter(|text| !text.is_empty())?);
        Some(())
    }),
    key_of("default_users.*.vhost_pattern", PATTERN, |config, name, value| {
        user(config, name).vhosts = Some(pattern(value)?);
        Some(())
    }),
    key_of("default_users.*.password", "a password", |config, name, value| {
        user(config, name).password = Secret::from(value);
        Some(())
    }),
    key_of("default_users.*.tags", "tags, with commas between them", |config, name, value| {
        let tags = value.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        user(config, name).tags = tags.map(Name::from).collect();
        Some(())
    }),
    key_of("default_users.*.configure", PATTERN, |config, name, value| {
        user(config, name).patterns.configure = pattern(value)?;
        Some(())
    }),
    key_of("default_users.*.write", PATTERN, |config, name, value| {
        user(config, name).patterns.write = pattern(value)?;
        Some(())
    }),
    key_of("default_users.*.read", PATTERN, |config, name, value| {
        user(config, name).patterns.read = pattern(value)?;
        Some(())
    }),
];

/// Refuses a validator without what it needs, and users whose passwords it refuses.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let keys = &config.credentials;
    if keys.backend == CredentialBackend::Regexp && keys.regexp.is_none() {
        return Err(ConfigError::NoRegexp);
    }
    let validator = keys.validator();
    config.vhost_defaults.users.iter().try_for_each(|(name, user)| {
        let checked = validator.check(user.password.expose());
        checked.map_err(|why| ConfigError::Password(name.as_ref().into(), why))
    })
}

fn user<'c>(config: &'c mut Config, name: &str) -> &'c mut DefaultUser {
    config.vhost_defaults.users.entry(name.into()).or_default()
}

fn pattern(value: &str) -> Option<Name> {
    NamePattern::new(value).ok().map(|pattern| pattern.text().clone())
}

#[cfg(test)]
mod tests {
    use model::access::credentials::PasswordRefused;

    use super::*;

    fn config(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for (name, value) in settings {
            let (key, rest) = crate::config::keys::key(name).unwrap();
            (key.set)(&mut config, rest, value).unwrap();
        }
        check(&config).map(|()| config)
    }

    #[test]
    fn the_backend_says_which_key_counts() {
        let length = ("credential_validator.min_length", "8");
        let backend = |name| ("credential_validator.validation_backend", name);
        let least = backend("rabbit_credential_validator_min_password_length");
        let by_pattern = backend("rabbit_credential_validator_password_regexp");
        let validator =
            |settings: &[(&str, &str)]| config(settings).unwrap().credentials.validator();
        assert_eq!(validator(&[length]), CredentialValidator::Any);
        assert_eq!(validator(&[length, least]), CredentialValidator::Length(8));
        assert_eq!(validator(&[least]), CredentialValidator::Length(5));
        let regexp = ("credential_validator.regexp", "^[0-9]+$");
        let pattern = CredentialValidator::Pattern("^[0-9]+$".into());
        assert_eq!(validator(&[by_pattern, regexp, length]), pattern);
        let refused = config(&[by_pattern]).unwrap_err().to_string();
        assert!(refused.contains("credential_validator.regexp"), "{refused}");
    }

    #[test]
    fn default_users_have_everything_that_a_user_has() {
        let settings = [
            ("default_users.qa.vhost_pattern", "^qa"),
            ("default_users.qa.password", "secret"),
            ("default_users.qa.tags", "policymaker, management"),
            ("default_users.qa.read", "^q"),
        ];
        let users = config(&settings).unwrap().vhost_defaults.users;
        let user = &users["qa"];
        assert_eq!(user.tags, ["policymaker", "management"].map(Name::from));
        assert_eq!((user.vhosts.as_deref(), &*user.patterns.read), (Some("^qa"), "^q"));
        assert_eq!(&*user.patterns.write, ".*");
        let least = "rabbit_credential_validator_min_password_length";
        let strict = [
            ("credential_validator.validation_backend", least),
            ("credential_validator.min_length", "9"),
        ];
        let refused = config(&[&settings[..], &strict].concat());
        let why = PasswordRefused::Short(9);
        assert!(matches!(refused, Err(ConfigError::Password(name, found)) if name == "qa"
            && found == why));
    }
}
