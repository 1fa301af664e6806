//! Days, as a catalog writes them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};

/// A day that there is, as YYYY-MM-DD (RFC 3339, `full-date`), from 1970 on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(String);

impl Day {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Days from 1970 to it.
    pub fn number(&self) -> u64 {
        number(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match number(&text) {
            Some(_) => Ok(Self(text)),
            None => Err(D::Error::custom(format!("{text:?} is not a day such as 2026-08-13"))),
        }
    }
}

/// Days since 1970 of a YYYY-MM-DD, by the proleptic Gregorian calendar; `None` for what is no such day.
fn number(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let is_dashed = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
    if !is_dashed || year < 1970 || !(1..=months[month - 1]).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    Some(years + months[..month - 1].iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_calendars_do() {
        for (day, days) in
            [("1970-01-01", 0), ("1972-03-01", 790), ("2000-02-29", 11_016), ("2026-08-13", 20_678)]
        {
            assert_eq!(number(day), Some(days), "{day}");
        }
        for wrong in [
            "",
            "2026",
            "2026-8-13",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026/08/13",
            "1969-12-31",
            "2026-08-1x",
            "2026-08-13 ",
            "٢٠٢٦-08-13",
            "+026-08-13",
        ] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
