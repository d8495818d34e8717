//! What is known of a file, and what is to be changed of it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::wire::Input;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Attributes of a file, those there are (section 5 of the draft). Times are in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    /// With the kind of file in the upper bits.
    pub(super) mode: Option<u32>,
    /// Last read, last changed.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    /// Returns those of a file.
    pub(super) fn of(file: &Metadata) -> Self {
        let second = |second: i64| u32::try_from(second.max(0)).unwrap_or(u32::MAX);
        Self {
            size: Some(file.len()),
            owner: Some((file.uid(), file.gid())),
            mode: Some(file.mode()),
            times: Some((second(file.atime()), second(file.mtime()))),
        }
    }

    /// Reads them from a packet; extensions are skipped.
    pub(super) fn read(input: &mut Input<'_>) -> Option<Self> {
        let flags = input.number()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(input.long()?);
        }
        if flags & OWNER != 0 {
            attributes.owner = Some((input.number()?, input.number()?));
        }
        if flags & MODE != 0 {
            attributes.mode = Some(input.number()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((input.number()?, input.number()?));
        }
        if flags & EXTENDED != 0 {
            // They are last, and nobody knows any.
            input.0 = &[];
        }
        Some(attributes)
    }

    /// Writes them to a packet.
    pub(super) fn write(&self, output: &mut Vec<u8>) {
        let flag = |there: bool, flag: u32| if there { flag } else { 0 };
        let flags = flag(self.size.is_some(), SIZE)
            | flag(self.owner.is_some(), OWNER)
            | flag(self.mode.is_some(), MODE)
            | flag(self.times.is_some(), TIMES);
        output.extend(flags.to_be_bytes());
        output.extend(self.size.iter().flat_map(|size| size.to_be_bytes()));
        let pairs = [self.owner, self.mode.map(|mode| (mode, 0)), self.times];
        for (at, (first, second)) in pairs.into_iter().enumerate().filter_map(|(at, pair)| Some((at, pair?)))
        {
            output.extend(first.to_be_bytes());
            if at != 1 {
                output.extend(second.to_be_bytes());
            }
        }
    }
}

/// Returns a line as of `ls -l`, with owners as numbers and the time in UTC.
pub(super) fn line(name: &str, file: &Metadata) -> String {
    format!(
        "{} {:>4} {:<8} {:<8} {:>12} {} {name}",
        mode_text(file.mode()),
        file.nlink(),
        file.uid(),
        file.gid(),
        file.len(),
        time_text(file.mtime()),
    )
}

fn mode_text(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        libc::S_IFCHR => 'c',
        libc::S_IFBLK => 'b',
        _ => '-',
    };
    let bit = |at: u32, letter: char| if mode >> at & 1 == 1 { letter } else { '-' };
    let rights = (0..9).rev().zip("rwx".chars().cycle()).map(|(at, letter)| bit(at, letter));
    std::iter::once(kind).chain(rights).collect()
}

/// Writes a time as `2026-11-22 02:30`.
fn time_text(second: i64) -> String {
    let (days, rest) = (second.div_euclid(86400), second.rem_euclid(86400));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", rest / 3600, rest / 60 % 60)
}

/// Returns year, month and day of a number of days since 1970, by H. Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_written_in_utc() {
        assert_eq!(time_text(0), "1970-01-01 00:00");
        assert_eq!(time_text(951_782_399), "2000-02-28 23:59");
        assert_eq!(time_text(951_782_400), "2000-02-29 00:00");
        assert_eq!(time_text(1_795_314_600), "2026-11-22 02:30");
    }

    #[test]
    fn rights_are_written_as_letters() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o040_755), "drwxr-xr-x");
        assert_eq!(mode_text(0o120_777), "lrwxrwxrwx");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            size: Option<u64>, owner: Option<(u32, u32)>, mode: Option<u32>, times: Option<(u32, u32)>,
        ) {
            let attributes = Attributes { size, owner, mode, times };
            let mut bytes = Vec::new();
            attributes.write(&mut bytes);
            let mut input = Input(&bytes);
            prop_assert_eq!(Attributes::read(&mut input), Some(attributes));
            prop_assert!(input.0.is_empty());
        }
    }
}
