//! JSON as RabbitMQ 3.10 reads it: comments, a comma behind the last item, a byte order mark, and
//! an empty file, which says nothing.

use serde_json::{Map, Value as Json};

/// Reads a text.
pub(super) fn parse(text: &str) -> serde_json::Result<Json> {
    let text = text.trim_start_matches('\u{FEFF}');
    match serde_json::from_str(text) {
        Ok(json) => Ok(json),
        Err(_) if text.trim().is_empty() => Ok(Json::Object(Map::new())),
        // What cannot be read either way is explained as it was written.
        Err(why) => serde_json::from_str(&strict(text)).map_err(|_| why),
    }
}

/// The text with blanks for comments and for commas behind the last item.
fn strict(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    // The last byte that means something, and the comma if that is one behind an item.
    let (mut last, mut comma, mut at) = (b'{', None, 0);
    while let Some(byte) = bytes.get(at).copied() {
        let end = match byte {
            b'"' => behind_string(&bytes, at),
            b'/' => match behind_comment(&bytes, at) {
                Some(end) => end,
                // The text is wrong from here on.
                None => break,
            },
            _ => at + 1,
        };
        match (byte, comma) {
            (b'/', _) => bytes[at..end].fill(b' '),
            (b']' | b'}', Some(comma)) => bytes[comma] = b' ',
            _ => {}
        }
        if !byte.is_ascii_whitespace() && byte != b'/' {
            comma = (byte == b',' && !matches!(last, b'[' | b'{' | b',')).then_some(at);
            last = byte;
        }
        at = end;
    }
    // Only whole comments were replaced, and single ASCII characters.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Where the string that begins here ends.
fn behind_string(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// Where the comment that begins here ends; `None` if it is none, or does not end.
fn behind_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let behind = |end: &[u8]| {
        let mut windows = rest.windows(end.len()).enumerate().skip(2);
        windows.find(|(_, window)| *window == end).map(|(found, _)| at + found + end.len())
    };
    match rest {
        [b'/', b'/', ..] => Some(behind(b"\n").unwrap_or(bytes.len())),
        [b'/', b'*', ..] => behind(b"*/"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_rabbitmq_reads_is_read() {
        for (text, value) in [
            ("", json!({})),
            ("\u{FEFF}{}", json!({})),
            (r#"{"a": [1, 2,], }"#, json!({"a": [1, 2]})),
            ("{\"a\": 1, // b\n /* ä, */ }", json!({"a": 1})),
            (
                r#"{"a": "/* \" */, ]", /**/ "b": ["//",],}"#,
                json!({"a": "/* \" */, ]", "b": ["//"]}),
            ),
            ("{} // at the end", json!({})),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_explained_as_it_was_written() {
        for text in
            ["{", "[1,,]", "[,]", "{\"a\" 1}", "{} /*", "{} /", "\"", "\"\\", "{\"a\":1,} x"]
        {
            let why = serde_json::from_str::<Json>(text).unwrap_err().to_string();
            assert_eq!(parse(text).unwrap_err().to_string(), why, "{text}");
        }
    }
    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([\\[\\]{},/*\"\\\\ a1:\nä]|//|/\\*|\\*/){0,40}") {
            prop_assert_eq!(strict(&text).len(), text.len());
            parse(&text).ok();
        }

        #[test]
        fn what_is_json_stays_as_it_is(text: String, number: i64) {
            let json = json!({"a": [text, number], "b": {text.as_str(): [[], {}]}}).to_string();
            prop_assert_eq!(strict(&json), json);
        }
    }
}
