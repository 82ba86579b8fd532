//! Values in Erlang's notation, as RabbitMQ's error texts quote them. Printable binaries are shown
//! as text; a term that does not fit into a line of 80 columns is broken and indented.

use std::fmt::Write;

use amqp::Value;

/// The last column a term may reach.
const TERM_END: usize = 78;
/// The last column that a number of a binary may reach, with its comma.
const NUMBER_END: usize = 79;

/// A text under construction. It tracks its column, which decides the line breaks.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Adds text unchanged.
    #[must_use]
    pub fn words(mut self, words: &str) -> Self {
        self.0.push_str(words);
        self
    }

    /// Adds a binary: as text if it is printable, else as numbers (`~tp`).
    #[must_use]
    pub fn binary(mut self, bytes: &[u8]) -> Self {
        match readable(bytes) {
            Some((text, suffix)) => self.quoted(&text, suffix),
            None => self.numbers(bytes),
        }
        self
    }

    /// Adds a tuple of an atom and numbers.
    #[must_use]
    pub fn tuple(mut self, atom: &str, numbers: &[u64]) -> Self {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let line = format!("{{{atom},{}}}", numbers.join(","));
        let column = self.column();
        if column + line.len() <= TERM_END {
            self.0.push_str(&line);
        } else {
            let indent = format!(",\n{}", " ".repeat(column + 1));
            self.0.push_str(&format!("{{{atom}{indent}{}}}", numbers.join(&indent)));
        }
        self
    }

    /// The text so far.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn column(&self) -> usize {
        self.0.rsplit('\n').next().unwrap_or_default().chars().count()
    }

    fn quoted(&mut self, text: &str, suffix: &str) {
        self.0.push_str("<<\"");
        text.chars().for_each(|c| escape(&mut self.0, c));
        self.0.push('"');
        self.0.push_str(suffix);
        self.0.push_str(">>");
    }

    fn numbers(&mut self, bytes: &[u8]) {
        self.0.push_str("<<");
        let indent = self.column();
        for (index, byte) in bytes.iter().enumerate() {
            let comma = if index + 1 < bytes.len() { "," } else { "" };
            let number = format!("{byte}{comma}");
            if self.column() + number.len() > NUMBER_END {
                self.0.push('\n');
                self.0.push_str(&" ".repeat(indent));
            }
            self.0.push_str(&number);
        }
        self.0.push_str(">>");
    }
}

/// A binary as numbers in one line (`~w`).
#[must_use]
pub fn numbers(bytes: &[u8]) -> String {
    let mut text = "<<".to_owned();
    for (index, byte) in bytes.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{byte}");
    }
    text + ">>"
}

/// A value of a table (`~p`); of tables and arrays three dots.
#[must_use]
pub fn term(value: Value<'_>) -> String {
    match value {
        Value::LongString(b"") | Value::Binary(b"") => "<<>>".to_owned(),
        Value::LongString(bytes) | Value::Binary(bytes) => {
            format!("<<\"{}\">>", bytes.escape_ascii())
        }
        Value::Bool(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Double(value) => format!("{value:?}"),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        other => other.as_integer().map_or_else(|| "...".to_owned(), |value| value.to_string()),
    }
}

/// The text of a printable binary, and what stands after its quotes.
fn readable(bytes: &[u8]) -> Option<(String, &'static str)> {
    if bytes.is_empty() {
        return None;
    }
    let utf8 = std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(printable));
    if let Some(text) = utf8 {
        return Some((text.to_owned(), if text.is_ascii() { "" } else { "/utf8" }));
    }
    let latin1: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    latin1.chars().all(printable).then_some((latin1, ""))
}

fn printable(c: char) -> bool {
    matches!(c, '\x08'..='\r' | '\x1B' | ' '..='~' | '\u{A0}'..='\u{FFFD}' | '\u{10000}'..)
}

fn escape(out: &mut String, c: char) {
    let letter = match c {
        '"' | '\\' => c,
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0B' => 'v',
        '\x0C' => 'f',
        '\r' => 'r',
        '\x1B' => 'e',
        _ => return out.push(c),
    };
    out.push('\\');
    out.push(letter);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(bytes: &[u8]) -> String {
        Text::default().binary(bytes).finish()
    }

    /// As RabbitMQ words a wrong end of frame.
    fn wrong_end(kind: u8, bytes: &[u8], found: u64) -> String {
        let all = bytes.len() <= 16;
        let quantity = if all { "all" } else { "first 16" };
        let text = Text::default().words(&format!("type {kind}, {quantity} octets = "));
        let bytes = &bytes[..bytes.len().min(16)];
        text.binary(bytes).words(": ").tuple("invalid_frame_end_marker", &[found]).finish()
    }

    // What is expected was printed by Erlang/OTP 25 for the same bytes.

    #[test]
    fn what_reads_as_text_is_text() {
        assert_eq!(binary(b""), "<<>>");
        assert_eq!(binary(b"text"), "<<\"text\">>");
        assert_eq!(binary(b"\"\\\n\t\x1b\r\x08\x0b\x0c"), r#"<<"\"\\\n\t\e\r\b\v\f">>"#);
        assert_eq!(binary("héllo".as_bytes()), "<<\"héllo\"/utf8>>");
        assert_eq!(binary(b"\xe9abc"), "<<\"éabc\">>");
        for numbers in [&b"\0\x01\x02"[..], b"abc\0", b"\x7f", b"\x80abc", b"\xc2\x80"] {
            let list: Vec<_> = numbers.iter().map(u8::to_string).collect();
            assert_eq!(binary(numbers), format!("<<{}>>", list.join(",")));
        }
    }

    #[test]
    fn a_tuple_that_does_not_fit_is_broken() {
        let fits = "type 3, all octets = <<1,1,1,1,1,1,1,1,1,1,1>>: {invalid_frame_end_marker,205}";
        assert_eq!(wrong_end(3, &[1; 11], 205), fits);
        let head = "type 3, all octets = <<1,1,1,1,1,1,1,1,1,1,1,1>>: {invalid_frame_end_marker,";
        assert_eq!(wrong_end(3, &[1; 12], 5), format!("{head}5}}"));
        assert_eq!(wrong_end(3, &[1; 12], 205), format!("{head}\n{}205}}", " ".repeat(51)));
        let bytes = b"\n\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01";
        let text = wrong_end(3, bytes, 205);
        assert!(text.ends_with(&format!("\n{}205}}", " ".repeat(50))), "{text}");
        let text = wrong_end(3, &[b'a'; 17], 205);
        let head = "type 3, first 16 octets = <<\"aaaaaaaaaaaaaaaa\">>: {invalid_frame_end_marker,";
        assert_eq!(text, format!("{head}\n{}205}}", " ".repeat(51)));
    }

    #[test]
    fn a_binary_that_does_not_fit_is_broken() {
        let end = "{invalid_frame_end_marker,5}";
        let line = |count: usize| vec!["128"; count].join(",");
        let text = format!("type 3, all octets = <<{},\n{}128>>: {end}", line(14), " ".repeat(23));
        assert_eq!(wrong_end(3, &[128; 15], 5), text);
        let (first, rest, indent) = (line(12), line(4), " ".repeat(30));
        let text = format!("type 255, first 16 octets = <<{first},\n{indent}{rest}>>: {end}");
        assert_eq!(wrong_end(255, &[128; 17], 5), text);
        let mixed = [&[1; 5][..], &[128; 11]].concat();
        assert!(!wrong_end(255, &mixed, 5).contains("<<1,1,1,1,1,128,\n"));
        let one_line = format!("type 255, all octets = <<1,1,1,1,1,{}>>: ", line(11));
        assert!(wrong_end(255, &mixed, 5).starts_with(&one_line));
        let mixed = [&[1; 4][..], &[128; 12]].concat();
        let (ones, indent) = (line(11), " ".repeat(25));
        let two = format!("type 255, all octets = <<1,1,1,1,{ones},\n{indent}128>>");
        assert!(wrong_end(255, &mixed, 5).starts_with(&two));
    }

    #[test]
    fn plain_numbers() {
        assert_eq!(numbers(b"ab\0"), "<<97,98,0>>");
        assert_eq!(numbers(b""), "<<>>");
    }
}
