//! The cause behind a message: what stays when everything that differs from chunk to chunk is gone.
//!
//! Pure. Numbers, identifiers and hexadecimal strings are replaced, words stay.

/// The first line of a message with numbers as `N`, UUIDs as `U` and hexadecimal strings as `H`.
#[must_use]
pub fn fingerprint(message: &str) -> String {
    let line = message
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("no message");
    let mut pattern = String::with_capacity(line.len());
    let mut token = String::new();
    for c in line.chars() {
        // A hyphen inside is part of a UUID or a date; `_` and letters are part of a name.
        if c.is_alphanumeric() || c == '-' || c == '_' {
            token.push(c);
            continue;
        }
        flush(&mut token, &mut pattern);
        if !(c.is_whitespace() && pattern.ends_with(' ')) {
            pattern.push(if c.is_whitespace() { ' ' } else { c });
        }
    }
    flush(&mut token, &mut pattern);
    pattern.chars().take(200).collect()
}

fn flush(token: &mut String, pattern: &mut String) {
    if is_uuid(token) {
        pattern.push('U');
    } else if is_hex(token) {
        pattern.push('H');
    } else {
        let mut in_number = false;
        for c in token.chars() {
            let digit = c.is_ascii_digit();
            if digit && !in_number {
                pattern.push('N');
            }
            if !digit {
                pattern.push(c);
            }
            in_number = digit;
        }
    }
    token.clear();
}

fn is_uuid(token: &str) -> bool {
    let parts: Vec<&str> = token.split('-').collect();
    let lengths = [8, 4, 4, 4, 12];
    parts.len() == 5
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit())
        })
}

/// At least eight hexadecimal digits, some of them decimal, some of them not: an address or a hash.
fn is_hex(token: &str) -> bool {
    let digits = token.strip_prefix("0x").unwrap_or(token);
    let prefixed = digits.len() != token.len();
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (prefixed
            || digits.len() >= 8
                && digits.bytes().any(|b| b.is_ascii_digit())
                && digits.bytes().any(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn one_cause_has_one_fingerprint() {
        let messages = [
            "connection to db7.example.org:5432 refused after 12 ms (attempt 3)",
            "connection to db12.example.org:5433 refused after 7 ms (attempt 4)\nat line 9",
        ];
        assert_eq!(fingerprint(messages[0]), fingerprint(messages[1]));
        assert_eq!(
            fingerprint(messages[0]),
            "connection to dbN.example.org:N refused after N ms (attempt N)"
        );
    }

    #[test]
    fn identifiers_and_hashes_are_replaced_and_words_stay() {
        assert_eq!(
            fingerprint("file 9b2f0c61-7d3e-4f0a-9c1d-2b3a4c5d6e7f: sha256:ab12cd34ef56 != 0x7f"),
            "file U: shaN:H != H"
        );
        assert_eq!(
            fingerprint("permission denied for table decade"),
            "permission denied for table decade"
        );
        assert_ne!(fingerprint("disk full"), fingerprint("disk failed"));
    }

    #[test]
    fn the_first_line_that_says_something_counts() {
        assert_eq!(fingerprint("\n   \n  a   b \n c"), "a b");
        assert_eq!(fingerprint(""), "no message");
        assert_eq!(fingerprint(&"x".repeat(5000)).len(), 200);
    }
}
