//! Sizes of files as a command line names them.

/// Bytes of the largest file that FAT32 takes.
const FAT32: u64 = (4 << 30) - 1;
/// Bytes that a DVD of one layer holds, with its file system.
const DVD: u64 = 4480 << 20;
/// No part is smaller, in bytes.
const PART_MIN: u64 = 1 << 20;

/// The size of a part in bytes: `fat32`, `dvd`, or a number with a unit, of 1 MiB at least. `4GiB` is what FAT32 takes, as
/// whoever writes that has such a stick.
///
/// # Errors
/// What such a size looks like.
pub fn parse_part(text: &str) -> Result<u64, String> {
    let size = match text.trim().to_ascii_lowercase().as_str() {
        "fat32" | "4gib" => Some(FAT32),
        "dvd" => Some(DVD),
        other => parse(other).filter(|size| *size >= PART_MIN),
    };
    size.ok_or_else(|| {
        "a part's size is fat32 (or 4GiB, which is the same), dvd, or such as 700MiB or 2GB, 1 MiB at least"
            .to_owned()
    })
}

/// A number of bytes, with a unit that says which bytes: decimal ones as disks have them, or binary ones.
fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match text[digits.len()..].trim() {
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).and_then(|number: u64| number.checked_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_names() {
        for (text, size) in [
            ("fat32", 4_294_967_295),
            ("4GiB", 4_294_967_295),
            ("FAT32", 4_294_967_295),
            ("dvd", 4_697_620_480),
            ("700MiB", 700 << 20),
            ("1mib", 1 << 20),
            ("2GB", 2_000_000_000),
            (" 25 GB ", 25_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse_part(text), Ok(size), "{text}");
        }
        for text in
            ["", "700", "MiB", "0GiB", "1023KiB", "1B", "-1GiB", "1.5GiB", "+4GB", "99999999999TiB", "cd"]
        {
            assert!(parse_part(text).unwrap_err().contains("700MiB"), "{text}");
        }
    }
}
