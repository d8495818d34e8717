//! The sftp subsystem: version 3 of the protocol (draft-ietf-secsh-filexfer-02), with OpenSSH's extensions.
//!
//! It is a process of its own, started as the user with pipes for input and output, so that the kernel decides what it
//! may touch. It needs nothing of the image.

mod attributes;
mod files;
mod wire;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::ExitCode;

use self::files::Files;
use self::wire::{LONGEST, Reply, Request, reply};

/// `sftp`: answers requests on standard input until its end.
pub(crate) fn run() -> ExitCode {
    let input = BufReader::with_capacity(LONGEST, io::stdin().lock());
    let output = BufWriter::with_capacity(LONGEST, std::fs::File::from(rustix_stdout()));
    match serve(input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Standard output without the line buffer that Rust's has.
fn rustix_stdout() -> std::os::fd::OwnedFd {
    rustix::io::dup(rustix::stdio::stdout()).expect("a subsystem has a standard output")
}

/// Answers each request in turn.
///
/// # Errors
/// When a packet is no packet, or nobody takes the answers.
fn serve(mut input: BufReader<impl Read>, mut output: BufWriter<impl Write>) -> io::Result<()> {
    let mut files = Files::default();
    let mut packet = Vec::new();
    let mut answer = Vec::new();
    loop {
        if input.buffer().is_empty() {
            // Whoever has no more to ask waits for what he has asked.
            output.flush()?;
        }
        if !read_packet(&mut input, &mut packet)? {
            return Ok(());
        }
        answer.clear();
        match Request::parse(&packet) {
            Some(Request::Init) => reply::version(&mut answer),
            Some(Request::Do { id, what }) => {
                let result = files.perform(what);
                reply::write(&mut answer, id, result.unwrap_or_else(|error| Reply::of_error(&error)));
            }
            Some(Request::Unknown { id }) => reply::write(&mut answer, id, Reply::UNSUPPORTED),
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
        output.write_all(&answer)?;
    }
}

/// Reads one packet; `false` at the end of input.
fn read_packet(input: &mut impl Read, packet: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length == 0 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    packet.resize(length, 0);
    input.read_exact(packet)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answers(input: &[u8]) -> Vec<u8> {
        let mut output = BufWriter::new(Vec::new());
        let _ = serve(BufReader::new(input), BufWriter::new(&mut output));
        output.into_inner().unwrap()
    }

    #[test]
    fn the_version_is_3() {
        let answer = answers(&[0, 0, 0, 5, 1, 0, 0, 0, 3]);
        assert_eq!(&answer[4..9], [2, 0, 0, 0, 3]);
    }

    #[test]
    fn an_unknown_request_is_not_supported() {
        assert_eq!(answers(&[0, 0, 0, 5, 77, 0, 0, 0, 9])[4..13], [101, 0, 0, 0, 9, 0, 0, 0, 8]);
    }

    proptest! {
        // What touches files is left out: the requests for handles, reading and closing are all there is to try.
        #[test]
        fn any_bytes_are_read_without_a_panic(
            kind in prop::sample::select(vec![1u8, 4, 5, 6, 8, 12, 77, 200]),
            rest in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let length = u32::try_from(rest.len() + 1).unwrap();
            let mut input = length.to_be_bytes().to_vec();
            input.push(kind);
            input.extend(&rest);
            answers(&input);
        }
    }
}
