//! Which passwords users may be given: `credential_validator` of the configuration.

use crate::access::pattern::NamePattern;
use crate::topology::spec::Name;

/// The least length where none is given: guest's password has it.
pub const LENGTH_MIN: u64 = 5;

/// What a new password has to be. Hashes are taken as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum CredentialValidator {
    /// Anything.
    #[default]
    Any,
    /// At least so many bytes long.
    Length(u64),
    /// Something that the pattern matches.
    Pattern(Name),
}

/// Why a password is not taken; RabbitMQ's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PasswordRefused {
    /// It is too short, or there is none.
    #[error("minimum required password length is {0}")]
    Short(u64),
    /// The pattern does not match it.
    #[error("provided password does not match the validator regular expression")]
    Unlike,
}

impl CredentialValidator {
    /// Checks a password in clear. No password at all is checked like an empty one.
    ///
    /// # Errors
    /// See [`PasswordRefused`].
    pub fn check(&self, password: &[u8]) -> Result<(), PasswordRefused> {
        match self {
            Self::Any => Ok(()),
            Self::Length(least) if password.len() as u64 >= *least => Ok(()),
            Self::Length(least) => Err(PasswordRefused::Short(*least)),
            Self::Pattern(pattern) if matches(pattern, password) => Ok(()),
            Self::Pattern(_) => Err(PasswordRefused::Unlike),
        }
    }
}

/// A pattern that is none, or that takes too long, matches nothing.
fn matches(pattern: &str, password: &[u8]) -> bool {
    let Ok(password) = std::str::from_utf8(password) else { return false };
    NamePattern::new(pattern).is_ok_and(|pattern| pattern.matches(password) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_as_long_as_it_has_to_be() {
        let validator = CredentialValidator::Length(5);
        assert_eq!(validator.check(b"guest"), Ok(()));
        let refused = ["", "gues"].map(|password| validator.check(password.as_bytes()));
        assert_eq!(refused, [Err(PasswordRefused::Short(5)); 2]);
        assert_eq!(PasswordRefused::Short(5).to_string(), "minimum required password length is 5");
        // Bytes count, as in RabbitMQ.
        assert_eq!(validator.check("äöü".as_bytes()), Ok(()));
    }

    #[test]
    fn a_password_matches_the_pattern() {
        let validator = CredentialValidator::Pattern("^(?=.*[0-9]).{4,}$".into());
        assert_eq!(validator.check(b"abc1"), Ok(()));
        for password in [&b"abcd"[..], b"1", b"", &[0xFF, b'1', 1, 1, 1]] {
            assert_eq!(validator.check(password), Err(PasswordRefused::Unlike));
        }
        assert_eq!(CredentialValidator::Any.check(b""), Ok(()));
    }
}
