//! The format of rabbitmq.conf: lines of `key = value`, with comments behind `#`.

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The line it stands on, from 1.
    pub line: usize,
    /// For example `listeners.tcp.default`.
    pub key: &'a str,
    /// Without quotes and white space around it.
    pub value: &'a str,
}

/// All settings in order.
///
/// # Errors
///
/// The number of the first line that is not a setting.
pub fn parse(text: &str) -> Result<Vec<Setting<'_>>, usize> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| setting(number, line).ok_or(number))
        .collect()
}

fn setting(number: usize, line: &str) -> Option<Setting<'_>> {
    let (key, rest) = line.split_once('=')?;
    let key = key.trim();
    let value = value(rest.trim())?;
    let good = |c: char| c.is_ascii_graphic() && c != '#';
    (!key.is_empty() && key.chars().all(good)).then_some(Setting { line: number, key, value })
}

/// A value in single quotes may hold a `#`; any other ends there.
fn value(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, behind) = quoted.split_once('\'')?;
        let behind = behind.trim();
        return (behind.is_empty() || behind.starts_with('#')).then_some(value);
    }
    let value = text.split('#').next().unwrap_or_default().trim();
    (!value.is_empty()).then_some(value)
}

/// The value with each `$(NAME)` replaced by the environment variable of that name.
///
/// # Errors
///
/// The first variable that is not set.
pub fn interpolate(value: &str, env: super::Env<'_>) -> Result<String, String> {
    let (mut text, mut rest) = (String::new(), value);
    while let Some((before, behind)) = rest.split_once("$(")
        && let Some((name, after)) = behind.split_once(')')
    {
        text.push_str(before);
        text.push_str(&env(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(&str, &str)>, usize> {
        Ok(parse(text)?.into_iter().map(|setting| (setting.key, setting.value)).collect())
    }

    #[test]
    fn settings_comments_and_quotes() {
        let text = "# a comment\n\n heartbeat=10 # seconds\r\ndefault_pass = 'a#b = c' # x\n";
        assert_eq!(pairs(text), Ok(vec![("heartbeat", "10"), ("default_pass", "a#b = c")]));
        assert_eq!(pairs(""), Ok(vec![]));
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        assert_eq!(pairs("a = 1\nnonsense\n= 3"), Err(2));
        for wrong in ["= 1", "a =", "a = # b", "a = 'b", "a = 'b' c", "a b = 1"] {
            assert_eq!(pairs(wrong), Err(1), "{wrong}");
        }
    }

    #[test]
    fn variables_in_values() {
        let env = |name: &str| (name == "USER").then(|| "anna".to_owned());
        assert_eq!(interpolate("$(USER)", &env).as_deref(), Ok("anna"));
        assert_eq!(interpolate("<$(USER)>$(USER)$(", &env).as_deref(), Ok("<anna>anna$("));
        assert_eq!(interpolate("plain $1", &env).as_deref(), Ok("plain $1"));
        assert_eq!(interpolate("$(USER) $(NOBODY)", &env), Err("NOBODY".to_owned()));
    }
}
