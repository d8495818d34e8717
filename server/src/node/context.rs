//! What a member may send to be built: a plain tar archive of a bounded number of files that are no larger than what is
//! sent (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar's manual, "The Internals").
//!
//! An engine unpacks what it is given before it looks at it: a compressed archive, and the holes of a sparse file, would
//! be a thousand times as large there. So both are refused while the archive is passed on, and so is whatever
//! two readers might read in two ways.

/// The most files, folders and links in one context.
const MAX_ENTRIES: u64 = 250_000;
/// The longest extended header or long name, as in Go's reader, which the engine uses.
const MAX_RECORDS: u64 = 1 << 20;
const BLOCK: usize = 512;
/// How compressed archives begin: gzip, bzip2, xz, zstd.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];

/// Looks at an archive as it passes.
#[derive(Debug, Default)]
pub(super) struct Context {
    block: Vec<u8>,
    /// Bytes of content and padding until the next header.
    skip: u64,
    /// The extended header that is on its way.
    records: Option<Records>,
    /// The size that an extended header gives the next file.
    size: Option<u64>,
    entries: u64,
    zeros: u8,
    begun: bool,
}

/// An extended header.
#[derive(Debug)]
struct Records {
    kind: u8,
    length: u64,
    /// Its body, as far as it has come.
    body: Vec<u8>,
}

impl Context {
    /// Takes what comes next.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() && self.zeros < 2 {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(part);
            bytes = rest;
            if self.block.len() == BLOCK {
                let block = std::mem::take(&mut self.block);
                self.take(&block)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, block: &[u8]) -> Result<(), String> {
        if let Some(mut records) = self.records.take() {
            records.body.extend_from_slice(block);
            if (records.body.len() as u64) < records.length {
                self.records = Some(records);
                return Ok(());
            }
            records.body.truncate(records.length as usize);
            return self.read_records(&records);
        }
        if !std::mem::replace(&mut self.begun, true) && is_compressed(block) {
            return Err("it is compressed: send a plain tar archive".to_owned());
        }
        if block.iter().all(|byte| *byte == 0) {
            self.zeros += 1;
            return Ok(());
        }
        if self.zeros > 0 || !has_checksum(block) {
            return Err("it is no plain tar archive".to_owned());
        }
        self.header(block)
    }

    fn header(&mut self, block: &[u8]) -> Result<(), String> {
        let size = number(&block[124..136]).ok_or("a file in it has no size")?;
        match block[156] {
            b'x' | b'g' => {
                if size > MAX_RECORDS {
                    return Err("a header in it is too long".to_owned());
                }
                self.records =
                    (size > 0).then(|| Records { kind: block[156], length: size, body: Vec::new() });
                return Ok(());
            }
            b'L' | b'K' if size <= MAX_RECORDS => {
                self.skip = size.next_multiple_of(BLOCK as u64);
                return Ok(());
            }
            b'L' | b'K' => return Err("a name in it is too long".to_owned()),
            b'S' => return Err("a file in it has holes".to_owned()),
            // Links, devices, folders and pipes have no content, whatever their size says.
            b'1'..=b'6' => self.size = None,
            0 | b'0' | b'7' => {
                let size = self.size.take().unwrap_or(size);
                self.skip = size.checked_next_multiple_of(BLOCK as u64).ok_or("a file in it is too large")?;
            }
            _ => return Err("it has an entry of a kind that is not known".to_owned()),
        }
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} files"));
        }
        Ok(())
    }

    /// Reads records of the form `LENGTH KEY=VALUE\n`.
    fn read_records(&mut self, header: &Records) -> Result<(), String> {
        const ODD: &str = "an extended header in it cannot be read";
        let mut records = header.body.as_slice();
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or(ODD)?;
            let length = digits(&records[..space], 10).and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| (space + 2..=records.len()).contains(length)).ok_or(ODD)?;
            let (record, rest) = records.split_at(length);
            records = rest;
            let record = record[space + 1..].strip_suffix(b"\n").ok_or(ODD)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(ODD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key.starts_with(b"GNU.sparse.") {
                return Err("a file in it has holes".to_owned());
            }
            if key == b"size" {
                // One for all files is read by some and passed over by others.
                self.size = Some(digits(value, 10).filter(|_| header.kind == b'x').ok_or(ODD)?);
            }
        }
        Ok(())
    }
}

fn is_compressed(block: &[u8]) -> bool {
    // What zstd passes over may come before what it is to unpack.
    let passed_over = (0x50..=0x5f).contains(&block[0]) && block[1..4] == [0x2a, 0x4d, 0x18];
    passed_over || COMPRESSED.iter().any(|mark| block.starts_with(mark))
}

fn has_checksum(block: &[u8]) -> bool {
    let field = 148..156;
    let bytes = block.iter().enumerate().map(|(at, byte)| if field.contains(&at) { b' ' } else { *byte });
    number(&block[field.clone()]) == Some(bytes.map(u64::from).sum())
}

/// Octal digits between blanks or zeros, or with the first bit set a binary number (a GNU extension for large files).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let is_small = high.iter().enumerate().all(|(at, byte)| *byte == if at == 0 { 0x80 } else { 0 });
        return is_small.then(|| low.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
    }
    let blank = |byte: &u8| matches!(byte, 0 | b' ');
    let begin = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !blank(byte)).map_or(begin, |last| last + 1);
    if begin == end { Some(0) } else { digits(&field[begin..end], 8) }
}

fn digits(text: &[u8], radix: u32) -> Option<u64> {
    let digit = text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|text| digit && !text.is_empty())?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path("file").unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn read(bytes: &[u8]) -> Result<u64, String> {
        let mut context = Context::default();
        for piece in bytes.chunks(700) {
            context.push(piece)?;
        }
        Ok(context.entries)
    }

    fn one(kind: EntryType, content: &[u8]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        archive.append(&header(kind, content.len() as u64), content).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn what_is_usual_passes() {
        let mut archive = Builder::new(Vec::new());
        let long = "a/".repeat(120) + "file";
        archive.append_pax_extensions([("mtime", &b"1.5"[..]), ("size", b"700")]).unwrap();
        archive.append(&header(EntryType::Regular, 0), &[b'x'; 700][..]).unwrap();
        archive.append_data(&mut header(EntryType::Regular, 3), &long, &b"abc"[..]).unwrap();
        archive.append_link(&mut header(EntryType::Symlink, 0), "link", &long).unwrap();
        archive.append(&header(EntryType::Directory, 0), &[][..]).unwrap();
        assert_eq!(read(&archive.into_inner().unwrap()), Ok(4));
        assert_eq!(read(b""), Ok(0));
    }

    #[test]
    fn what_grows_when_it_is_unpacked_is_refused() {
        let pax = |key: &str, value: &str| {
            let mut archive = Builder::new(Vec::new());
            archive.append_pax_extensions([(key, value.as_bytes())]).unwrap();
            archive.append(&header(EntryType::Regular, 0), &[][..]).unwrap();
            archive.into_inner().unwrap()
        };
        for bad in [
            one(EntryType::GNUSparse, b""),
            pax("GNU.sparse.major", "1"),
            pax("GNU.sparse.realsize", "1099511627776"),
            pax("size", "-1"),
            [&[0x1f, 0x8b, 8][..], &[0; 600]].concat(),
            [&b"BZh9"[..], &[0; 600]].concat(),
            [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0; 600]].concat(),
            [&[0x52, 0x2a, 0x4d, 0x18][..], &[0; 600]].concat(),
            vec![b'x'; 5_000],
        ] {
            assert!(read(&bad).is_err(), "{:?}", &bad[..20]);
        }
        // A header that is both: its name makes it a compressed file for whoever looks at the first bytes.
        let mut both = header(EntryType::Regular, 0);
        both.as_old_mut().name[..3].copy_from_slice(&[0x1f, 0x8b, 8]);
        both.set_cksum();
        assert!(read(&[both.as_bytes().as_slice(), &[0; 1024]].concat()).unwrap_err().contains("compressed"));
    }

    #[test]
    fn a_million_files_are_too_many() {
        let header = header(EntryType::Regular, 0);
        let mut context = Context::default();
        let mut taken = 0;
        let refused = loop {
            match context.push(header.as_bytes()) {
                Ok(()) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!((taken, refused.as_str()), (MAX_ENTRIES, "it has more than 250000 files"));
    }

    #[test]
    fn what_hides_behind_an_end_or_a_wrong_size_is_seen() {
        let sparse = one(EntryType::GNUSparse, b"");
        assert!(read(&[&[0; 512][..], &sparse].concat()).is_err(), "one block of zeros is no end");
        assert!(read(&[&[0; 1024][..], &sparse].concat()).is_ok(), "two are, for every reader");
        let folder = header(EntryType::Directory, 512);
        assert!(read(&[folder.as_bytes(), &sparse[..]].concat()).is_err(), "a folder has no content");
        let mut odd = header(EntryType::Regular, 0);
        odd.as_old_mut().size.copy_from_slice(b"00000000x00\0");
        odd.set_cksum();
        assert!(read(odd.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4_000), piece in 1_usize..700) {
            let mut context = Context::default();
            for piece in bytes.chunks(piece) {
                if context.push(piece).is_err() {
                    break;
                }
            }
        }
    }
}
