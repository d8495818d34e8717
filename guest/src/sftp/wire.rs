//! Packets: requests from bytes, and answers to bytes.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::attributes::Attributes;

/// No packet is longer: what OpenSSH's own server takes.
pub(super) const LONGEST: usize = 256 << 10;
/// The most bytes read or written by one request.
pub(super) const PIECE: usize = LONGEST - 1024;

/// What a client asks.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Init,
    Do { id: u32, what: What<'a> },
    Unknown { id: u32 },
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum What<'a> {
    Open {
        path: &'a Path,
        flags: u32,
        attributes: Attributes,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    Stat {
        path: &'a Path,
    },
    LinkStat {
        path: &'a Path,
    },
    HandleStat {
        handle: &'a [u8],
    },
    SetStat {
        path: &'a Path,
        attributes: Attributes,
    },
    SetLinkStat {
        path: &'a Path,
        attributes: Attributes,
    },
    SetHandleStat {
        handle: &'a [u8],
        attributes: Attributes,
    },
    OpenFolder {
        path: &'a Path,
    },
    ReadFolder {
        handle: &'a [u8],
    },
    Remove {
        path: &'a Path,
    },
    MakeFolder {
        path: &'a Path,
        attributes: Attributes,
    },
    RemoveFolder {
        path: &'a Path,
    },
    RealPath {
        path: &'a Path,
    },
    /// Not over what is there.
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    /// Over what is there.
    Replace {
        from: &'a Path,
        to: &'a Path,
    },
    ReadLink {
        path: &'a Path,
    },
    Symlink {
        target: &'a Path,
        path: &'a Path,
    },
    Hardlink {
        from: &'a Path,
        to: &'a Path,
    },
    Sync {
        handle: &'a [u8],
    },
    Space {
        path: &'a Path,
    },
    Limits,
}

impl<'a> Request<'a> {
    /// Reads a packet without its length; `None` when it is none.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let mut input = Input(packet);
        let kind = input.byte()?;
        let id = input.number()?;
        if kind == 1 {
            return Some(Self::Init);
        }
        let what = match kind {
            3 => What::Open { path: input.path()?, flags: input.number()?, attributes: input.attributes()? },
            4 => What::Close { handle: input.bytes()? },
            5 => What::Read { handle: input.bytes()?, offset: input.long()?, length: input.number()? },
            6 => What::Write { handle: input.bytes()?, offset: input.long()?, data: input.bytes()? },
            7 => What::LinkStat { path: input.path()? },
            8 => What::HandleStat { handle: input.bytes()? },
            9 => What::SetStat { path: input.path()?, attributes: input.attributes()? },
            10 => What::SetHandleStat { handle: input.bytes()?, attributes: input.attributes()? },
            11 => What::OpenFolder { path: input.path()? },
            12 => What::ReadFolder { handle: input.bytes()? },
            13 => What::Remove { path: input.path()? },
            14 => What::MakeFolder { path: input.path()?, attributes: input.attributes()? },
            15 => What::RemoveFolder { path: input.path()? },
            16 => What::RealPath { path: input.path()? },
            17 => What::Stat { path: input.path()? },
            18 => What::Rename { from: input.path()?, to: input.path()? },
            19 => What::ReadLink { path: input.path()? },
            // The order is OpenSSH's, which is not the draft's, and which all clients have taken on.
            20 => What::Symlink { target: input.path()?, path: input.path()? },
            200 => match input.bytes()? {
                b"posix-rename@openssh.com" => What::Replace { from: input.path()?, to: input.path()? },
                b"hardlink@openssh.com" => What::Hardlink { from: input.path()?, to: input.path()? },
                b"fsync@openssh.com" => What::Sync { handle: input.bytes()? },
                b"statvfs@openssh.com" => What::Space { path: input.path()? },
                b"lsetstat@openssh.com" => {
                    What::SetLinkStat { path: input.path()?, attributes: input.attributes()? }
                }
                b"limits@openssh.com" => What::Limits,
                _ => return Some(Self::Unknown { id }),
            },
            _ => return Some(Self::Unknown { id }),
        };
        Some(Self::Do { id, what })
    }
}

/// Bytes still to be read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    /// The empty path is where the server is: the user's home.
    fn path(&mut self) -> Option<&'a Path> {
        let bytes = self.bytes()?;
        Some(Path::new(OsStr::from_bytes(if bytes.is_empty() { b"." } else { bytes })))
    }

    fn attributes(&mut self) -> Option<Attributes> {
        Attributes::read(self)
    }
}

/// What a client is told.
#[derive(Debug)]
pub(super) enum Reply {
    Status(u32, &'static str),
    Handle(u32),
    Data(Vec<u8>),
    /// Names, each with a line for people to read.
    Names(Vec<(Vec<u8>, String, Attributes)>),
    Attributes(Attributes),
    /// The fields of an extension's answer.
    Numbers(Vec<u64>),
}

impl Reply {
    pub(super) const DONE: Self = Self::Status(0, "");
    pub(super) const END: Self = Self::Status(1, "end of file");
    pub(super) const UNSUPPORTED: Self = Self::Status(8, "not supported");

    /// Returns what an error is called here.
    pub(super) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Status(2, "no such file"),
            io::ErrorKind::PermissionDenied => Self::Status(3, "permission denied"),
            io::ErrorKind::AlreadyExists => Self::Status(4, "there is such a file already"),
            io::ErrorKind::StorageFull => Self::Status(4, "no space left"),
            io::ErrorKind::ReadOnlyFilesystem => Self::Status(4, "the file system is read-only"),
            io::ErrorKind::DirectoryNotEmpty => Self::Status(4, "the folder is not empty"),
            io::ErrorKind::Unsupported => Self::UNSUPPORTED,
            _ => Self::Status(4, "failure"),
        }
    }
}

/// Writing answers, their length first.
pub(super) mod reply {
    use super::{Attributes, Reply};

    const EXTENSIONS: &[(&str, &str)] = &[
        ("posix-rename@openssh.com", "1"),
        ("hardlink@openssh.com", "1"),
        ("fsync@openssh.com", "1"),
        ("statvfs@openssh.com", "2"),
        ("lsetstat@openssh.com", "1"),
        ("limits@openssh.com", "1"),
    ];

    /// The answer to the first packet.
    pub(in super::super) fn version(output: &mut Vec<u8>) {
        framed(output, |output| {
            output.push(2);
            number(output, 3);
            for (name, version) in EXTENSIONS {
                bytes(output, name.as_bytes());
                bytes(output, version.as_bytes());
            }
        });
    }

    /// The answer to a request.
    pub(in super::super) fn write(output: &mut Vec<u8>, id: u32, reply: Reply) {
        framed(output, |output| {
            let head = |output: &mut Vec<u8>, kind| {
                output.push(kind);
                number(output, id);
            };
            match reply {
                Reply::Status(code, text) => {
                    head(output, 101);
                    number(output, code);
                    bytes(output, text.as_bytes());
                    bytes(output, b"en");
                }
                Reply::Handle(handle) => {
                    head(output, 102);
                    bytes(output, &handle.to_be_bytes());
                }
                Reply::Data(data) => {
                    head(output, 103);
                    bytes(output, &data);
                }
                Reply::Names(names) => {
                    head(output, 104);
                    number(output, length(names.len()));
                    for (name, line, of_name) in names {
                        bytes(output, &name);
                        bytes(output, line.as_bytes());
                        attributes(output, &of_name);
                    }
                }
                Reply::Attributes(of_file) => {
                    head(output, 105);
                    attributes(output, &of_file);
                }
                Reply::Numbers(numbers) => {
                    head(output, 201);
                    for long in numbers {
                        output.extend(long.to_be_bytes());
                    }
                }
            }
        });
    }

    fn framed(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = output.len();
        number(output, 0);
        write(output);
        let written = length(output.len() - start - 4);
        output[start..start + 4].copy_from_slice(&written.to_be_bytes());
    }

    fn attributes(output: &mut Vec<u8>, attributes: &Attributes) {
        attributes.write(output);
    }

    fn number(output: &mut Vec<u8>, number: u32) {
        output.extend(number.to_be_bytes());
    }

    fn bytes(output: &mut Vec<u8>, bytes: &[u8]) {
        number(output, length(bytes.len()));
        output.extend(bytes);
    }

    fn length(length: usize) -> u32 {
        u32::try_from(length).expect("no answer is that long")
    }
}
