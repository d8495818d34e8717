//! The child's side: a process that loads one plugin and speaks with the host over a socket.
//!
//! One thread reads and calls into the plugin, which may answer at once; what the plugin says is written by the thread that says it. When the
//! host is slow, writing blocks, and with it the plugin.

use std::ffi::{OsString, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gx_core::plugin::abi::{ABI_MAJOR, ABI_MINOR, HostApi, MAX_BODY_BYTES, RawBytes, feature, status};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::SocketType;

use crate::frame::{Decoder, Frame, Head, Verb};
use crate::library::{LoadFault, Plugin};
use crate::outgoing::send_frame;

/// The exit status where the arguments are not what the host gives.
const USAGE: i32 = 2;

/// How long the plugin may take to end when the host is gone, in milliseconds.
const GRACE_MS: u32 = 1_000;

/// How long a line of the log may be, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// Runs `gx plugin-host SOCKET LIBRARY`: serves the plugin until the host says to end or is gone, and returns the
/// exit status. Only a host starts it: SOCKET is the number of an inherited descriptor.
pub fn child_main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let mut args = args.into_iter();
    let socket = args.next().and_then(|number| number.to_str()?.parse().ok()).and_then(inherited_socket);
    let (Some(socket), Some(library)) = (socket, args.next().map(PathBuf::from)) else { return USAGE };
    close_on_exec(&library);
    let host: &'static Speaker = Box::leak(Box::new(Speaker { socket, order: Mutex::new(()) }));
    serve(host, &library)
}

fn serve(host: &'static Speaker, library: &Path) -> i32 {
    let mut decoder = Decoder::default();
    let mut plugin = None;
    loop {
        match decoder.next() {
            Ok(Some(Frame { head: Head { verb: Verb::Shutdown, a: grace_ms, .. }, .. })) => {
                return end(plugin.as_ref(), grace_ms);
            }
            Ok(Some(frame)) => match (&plugin, frame.head.verb) {
                (None, Verb::Hello) => plugin = load(host, library, &frame.body),
                (Some(plugin), _) => obey(host, plugin, &frame),
                (None, _) => return USAGE,
            },
            Ok(None) => match decoder.fill(&host.socket) {
                Ok(1..) | Err(rustix::io::Errno::INTR) => {}
                _ => return end(plugin.as_ref(), GRACE_MS),
            },
            Err(_) => return USAGE,
        }
    }
}

fn load(host: &'static Speaker, library: &Path, hello: &[u8]) -> Option<Plugin> {
    let api = Box::leak(Box::new(host.api()));
    let loaded = Plugin::load(library, api, hello);
    let fault = match &loaded {
        Ok(_) => Vec::new(),
        Err(fault) => serde_json::to_vec::<LoadFault>(fault).expect("our own types always become JSON"),
    };
    host.say(Head::new(Verb::Ready, 0), &fault);
    loaded.ok()
}

fn obey(host: &Speaker, plugin: &Plugin, Frame { head, body }: &Frame) {
    match head.verb {
        Verb::Call => match plugin.call(head.call, head.a, head.b, body) {
            status::OK => {}
            refused => host.complete(head.call, refused, &[]),
        },
        Verb::Cancel => plugin.cancel(head.call),
        Verb::Credit => plugin.credit(head.call, head.a),
        Verb::Input => match plugin.input(head.call, head.a, body) {
            // A call that has just ended takes no input; the host will hear of its end.
            status::OK | status::GONE => {}
            refused => host.complete(head.call, refused, &[]),
        },
        Verb::Hello | Verb::Shutdown | Verb::Ready | Verb::Complete | Verb::Emit | Verb::Log => {}
    }
}

fn end(plugin: Option<&Plugin>, grace_ms: u32) -> i32 {
    if let Some(plugin) = plugin {
        plugin.shutdown(grace_ms);
    }
    0
}

/// Takes over the socket, if it is one.
#[expect(unsafe_code, reason = "the number comes from the host")]
fn inherited_socket(number: i32) -> Option<OwnedFd> {
    // SAFETY: only looked at until it is known to be an open socket.
    let borrowed = (number > 2).then(|| unsafe { std::os::fd::BorrowedFd::borrow_raw(number) })?;
    if rustix::net::sockopt::socket_type(borrowed) != Ok(SocketType::STREAM) {
        return None;
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, and the host gave it to this process and no other part of it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Keeps the library's descriptor from what the plugin starts. It stays open: the loader knows it by this name.
#[expect(unsafe_code, reason = "the number comes from the host")]
fn close_on_exec(library: &Path) {
    let number = library.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok());
    if let (Some(number @ 3..), true) = (number, library.starts_with("/proc/self/fd")) {
        // SAFETY: a number that is not open is refused by the system.
        let _ = fcntl_setfd(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC);
    }
}

/// What the plugin says to the host, one frame at a time.
struct Speaker {
    socket: OwnedFd,
    order: Mutex<()>,
}

impl Speaker {
    fn say(&self, head: Head, body: &[u8]) -> i32 {
        let _turn = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match send_frame(&self.socket, head, body) {
            Ok(()) => status::OK,
            Err(_) => status::GONE,
        }
    }

    fn complete(&self, call: u64, status: i32, body: &[u8]) {
        let (status, body) =
            if body.len() > MAX_BODY_BYTES { (status::NO_CREDIT, &[][..]) } else { (status, body) };
        self.say(Head::new(Verb::Complete, call).with(status.cast_unsigned(), 0), body);
    }

    fn emit(&self, call: u64, kind: u32, item: &[u8]) -> i32 {
        if item.len() > MAX_BODY_BYTES {
            return status::ERR;
        }
        self.say(Head::new(Verb::Emit, call).with(kind, 0), item)
    }

    fn log(&self, level: u32, target: &[u8], message: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_BYTES)]).into_owned();
        let body = serde_json::to_vec(&(text(target), text(message))).expect("texts become JSON");
        self.say(Head::new(Verb::Log, 0).with(level, 0), &body);
    }

    fn api(&'static self) -> HostApi {
        HostApi {
            size: size_of::<HostApi>() as u32,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            features: feature::PATIENT_CALLER,
            ctx: std::ptr::from_ref(self).cast_mut().cast(),
            complete,
            emit,
            log,
        }
    }
}

#[expect(unsafe_code, reason = "the plugin calls it")]
unsafe extern "C" fn complete(ctx: *mut c_void, call: u64, status: i32, body: RawBytes) {
    // SAFETY: `ctx` is the leaked `Speaker`; the plugin lends `body` for the call.
    let (host, body) = unsafe { (&*ctx.cast::<Speaker>(), body.get()) };
    host.complete(call, status, body);
}

#[expect(unsafe_code, reason = "the plugin calls it")]
unsafe extern "C" fn emit(ctx: *mut c_void, call: u64, kind: u32, item: RawBytes) -> i32 {
    // SAFETY: as in `complete`.
    let (host, item) = unsafe { (&*ctx.cast::<Speaker>(), item.get()) };
    host.emit(call, kind, item)
}

#[expect(unsafe_code, reason = "the plugin calls it")]
unsafe extern "C" fn log(ctx: *mut c_void, level: u32, target: RawBytes, message: RawBytes) {
    // SAFETY: as in `complete`.
    let (host, target, message) = unsafe { (&*ctx.cast::<Speaker>(), target.get(), message.get()) };
    host.log(level, target, message);
}
