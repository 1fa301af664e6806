//! Words for people: strangers' text made harmless, sizes and times in the units that people read.

use std::fmt::Write as _;
use std::time::Duration;

/// Longest piece of a stranger's text that is shown, in characters.
const SHOWN_MAX: usize = 300;
/// The same of what a user wrote.
const QUOTED_MAX: usize = 120;

/// `text` on one line, without anything that a terminal or a CI log would act upon, at most 300 characters.
///
/// Control characters (C0, DEL, C1) and the Unicode controls that reorder or hide text are written as `\u{…}`.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for (shown, c) in text.trim().chars().enumerate() {
        if shown == SHOWN_MAX {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\t' | '\r' => out.push(' '),
            c if c.is_control() || reorders(c) => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    // CI systems read commands from what is printed: `::` at the start of a line, `##[` and `##vso[` anywhere in it.
    if out.starts_with("::") {
        out.insert(0, '\\');
    }
    out.replace("##", "#\\#")
}

/// Bidirectional and invisible format characters, line and paragraph separators.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}')
}

/// What a user wrote, such as `http://user:password@host`, without the password, shortened, in quotation marks.
pub fn quoted(text: &str) -> String {
    let whole = without_password(text);
    let start: String = whole.chars().take(QUOTED_MAX).collect();
    let rest = if start.len() < whole.len() { "…" } else { "" };
    format!("\"{}{rest}\"", printable(&start))
}

fn without_password(text: &str) -> String {
    let Some(at) = text.rfind('@') else { return text.to_owned() };
    let (head, tail) = text.split_at(at);
    let start = head.find("://").map_or_else(|| head.find('=').map_or(0, |at| at + 1), |at| at + 3);
    let is_digest = ["@sha256:", "@sha512:"].iter().any(|start| tail.starts_with(start));
    match head[start..].find(':') {
        Some(colon) if !is_digest => format!("{}:***{tail}", &head[..start + colon]),
        _ => text.to_owned(),
    }
}

/// `1.5 GB`: decimal units, as registries and networks count.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 9.995 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Longest time that a user may ask for.
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// `90`, `90s`, `15m` or `6h`, from a second to a week.
///
/// # Errors
/// What such a time looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let seconds = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    let time = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    time.filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| "a time is a number of seconds, or such as 90s, 15m or 6h, a week at most".to_owned())
}

/// `1 image`, `3 images`.
pub fn count(number: usize, singular: &str) -> String {
    match number {
        1 => format!("1 {singular}"),
        _ => format!("{number} {singular}s"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_is_made_harmless() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\u{9b}d"), "a\\u{1b}[2Jb\\u{202e}c\\u{9b}d");
        assert_eq!(printable("  one\r\ntwo  "), "one  two");
        assert_eq!(printable("::set-output name=x::y"), "\\::set-output name=x::y");
        assert_eq!(printable("a ##vso[task.x]y"), "a #\\#vso[task.x]y");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), 301);
    }

    #[test]
    fn passwords_are_not_quoted() {
        let table = [
            ("https://u:p/w@r.example.com", "https://u:***@r.example.com"),
            ("u:p@r.example.com/a", "u:***@r.example.com/a"),
            ("docker.io=http://u:p@cache/x", "docker.io=http://u:***@cache/x"),
            ("docker.io=u:p@cache/x", "docker.io=u:***@cache/x"),
            ("r.example.com/a:1@sha256:00", "r.example.com/a:1@sha256:00"),
            ("r.example.com:5000", "r.example.com:5000"),
            ("a@b", "a@b"),
        ];
        for (written, quoted) in table {
            assert_eq!(without_password(written), quoted);
        }
    }

    #[test]
    fn sizes_read_well() {
        let shown = [0, 999, 1000, 1_234_567, 45_600_000, 999_600_000, 2_960_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "1.23 MB", "45.6 MB", "1.00 GB", "2.96 GB"]);
    }

    #[test]
    fn times_read_well() {
        let shown = [0.44, 12.9, 200.0, 7500.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(shown, ["0.4 s", "12 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn times_of_users_are_read_and_bounded() {
        let read = |text| parse_duration(text).map(|time| time.as_secs()).ok();
        let good = [("90", 90), ("90s", 90), ("15m", 900), ("6h", 21_600), ("168h", 604_800)];
        good.iter().for_each(|(text, seconds)| assert_eq!(read(text), Some(*seconds), "{text}"));
        for wrong in
            ["", "s", "0", "0m", "-1", "1.5", "1d", "5ms", "169h", "99999999999999999999", "1h30m", "٣"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_and_counts_read_well() {
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!((count(1, "image"), count(2, "image")), ("1 image".into(), "2 images".into()));
    }
}
