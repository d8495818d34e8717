//! What an editor does that works over SSH, on both engines. VS Code's own client is not run: this goes the steps of its
//! Remote - SSH with OpenSSH's client. A shell is given a script on standard input, the script starts a server on a port
//! of the container and says which, and the editor talks to it through a SOCKS proxy (`ssh -D`), more than once, and finds
//! it again from a second connection after the first has ended. The same once more as its other settings have it: one
//! connection that all programs share, the server sent by sftp, and its socket led here instead of a port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::clients::CLIENTS;
use crate::ssh::made;
use crate::support::{IMAGE, Surroundings, eventually, free_port, run, unique};

#[test]
fn docker_is_edited_in() {
    edited_in("docker");
}

#[test]
fn podman_is_edited_in() {
    edited_in("podman");
}

#[test]
fn docker_is_edited_in_by_one_connection() {
    edited_in_by_one_connection("docker");
}

#[test]
fn podman_is_edited_in_by_one_connection() {
    edited_in_by_one_connection("podman");
}

/// Starts the server unless it runs, and says where it is; the session then stays, as the editor's does.
const SCRIPT: &str = "\
echo begins
uname -sm
mkdir -p $HOME/.editor && cd $HOME/.editor
if ! kill -0 $(cat pid 2>/dev/null) 2>/dev/null; then
  echo 'from the editor server' > page
  setsid httpd -f -p 127.0.0.1:8765 -h $HOME/.editor > log 2>&1 < /dev/null &
  echo $! > pid
  echo started
fi
echo listening on 8765
exec cat
";

fn edited_in(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("editor");
    let (_, _removed) = made(runtime, &here, &name, &[IMAGE]);
    let config = here.path("ssh_config");
    std::fs::write(&config, here.ok(&["ssh", "--ssh-config", &name])).expect("a file can be written");
    for started in [true, false] {
        let mut editor = Editor::connect(&config, &name);
        assert_eq!(editor.said.iter().any(|line| line == "started"), started, "{:?}", editor.said);
        for host in ["127.0.0.1", "localhost"] {
            let page = eventually("the server answers through the proxy", || editor.fetch(host));
            assert!(page.ends_with("\r\n\r\nfrom the editor server\n"), "{page}");
        }
        assert_eq!(editor.echo("a line\n"), "a line\n", "the shell's own input and output stay");
        editor.end();
    }
}

/// The server that is sent as an archive: it answers on a socket of its own, until it is ended.
const SERVER: &str = "\
import http.server, os, socket, socketserver, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'from the socket\\n')
    def log_message(self, *_): pass
    def address_string(self): return 'here'
class Server(socketserver.ThreadingUnixStreamServer):
    pass
Server(sys.argv[1], Page).serve_forever()
";

/// Unpacks what was sent, starts it for good and says where it listens.
const BOOTSTRAP: &str = "\
set -e
mkdir -p ~/.editor-server && cd ~/.editor-server
tar xzf /tmp/server.tar.gz
setsid nohup python3 server.py ~/.editor-server/socket > log 2>&1 < /dev/null &
echo $! > pid
i=0
while [ ! -S ~/.editor-server/socket ] && [ $i -lt 200 ]; do i=$((i+1)); sleep 0.05; done
echo \"listeningOn==$HOME/.editor-server/socket==\"
echo \"connection==$SSH_CONNECTION==\"
";

/// All of it over one connection that the others share (`ControlMaster`): the server comes as an archive by sftp, a script on
/// standard input starts it, its socket and a port are led here as the connection goes on, and a later connection finds it.
fn edited_in_by_one_connection(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("master");
    let (_, _removed) = made(runtime, &here, &name, &[CLIENTS]);
    let config = here.path("ssh_config");
    std::fs::write(&config, here.ok(&["ssh", "--ssh-config", &name])).expect("a file can be written");
    let master = Master { config, control: here.path("control"), host: format!("gx-{name}") };

    std::fs::write(here.path("server.py"), SERVER).expect("a file can be written");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(here.path("")).arg("-czf").arg(here.path("server.tar.gz")).arg("server.py");
    assert_eq!(run(tar).code, 0);
    let batch = here.path("batch");
    let put = format!("put {} /tmp/server.tar.gz\n", here.path("server.tar.gz").display());
    std::fs::write(&batch, put).expect("a file can be written");
    let mut sftp = master.command("sftp");
    sftp.arg("-b").arg(&batch).arg(&master.host);
    assert_eq!(run(sftp).code, 0);

    let said = master.script(BOOTSTRAP);
    let between = |mark: &str| {
        let rest = said.split_once(&format!("{mark}==")).unwrap_or_else(|| panic!("no {mark}: {said}")).1;
        rest.split_once("==").expect("it has an end").0.to_owned()
    };
    let socket = between("listeningOn");
    let led = here.path("led");
    master.control(&["-O", "forward", "-L", &format!("{}:{socket}", led.display())]);
    let page = eventually("the server answers through its socket", || page_at(&led));
    assert!(page.ends_with("\r\n\r\nfrom the socket\n"), "{page}");
    let again = master.script("echo \"connection==$SSH_CONNECTION==\"");
    assert!(again.contains(&format!("connection=={}==", between("connection"))), "one connection: {again}");
    master.control(&["-O", "cancel", "-L", &format!("{}:{socket}", led.display())]);
    master.control(&["-O", "exit"]);

    // The server outlives the connection, as the editor's is found again.
    let _ = std::fs::remove_file(&led);
    master.script("kill -0 $(cat ~/.editor-server/pid)");
    master.control(&["-O", "forward", "-L", &format!("{}:{socket}", led.display())]);
    let page = eventually("the server is there still", || page_at(&led));
    assert!(page.ends_with("from the socket\n"), "{page}");
    master.control(&["-O", "exit"]);
}

fn page_at(socket: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    (!page.is_empty()).then_some(page)
}

/// A connection that OpenSSH's programs share.
struct Master {
    config: PathBuf,
    control: PathBuf,
    host: String,
}

impl Master {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(&self.config).args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60"]);
        command.arg("-o").arg(format!("ControlPath={}", self.control.display()));
        command
    }

    /// Gives a shell a script on its standard input.
    fn script(&self, text: &str) -> String {
        let mut ssh = self.command("ssh");
        // The connection stays in the background, and must not hold the output open.
        ssh.args(["-T", &self.host, "sh"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut ssh = ssh.spawn().expect("ssh starts");
        ssh.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).expect("it is read");
        let mut said = String::new();
        ssh.stdout.take().expect("stdout is piped").read_to_string(&mut said).expect("it is text");
        assert_eq!(ssh.wait().expect("ssh ends").code(), Some(0), "{said}");
        said
    }

    fn control(&self, words: &[&str]) {
        let mut ssh = self.command("ssh");
        ssh.args(words).arg(&self.host);
        let ended = run(ssh);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

struct Editor {
    ssh: Child,
    output: BufReader<std::process::ChildStdout>,
    proxy: u16,
    said: Vec<String>,
}

impl Editor {
    fn connect(config: &Path, name: &str) -> Self {
        let proxy = free_port();
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(config).args(["-T", "-D", &proxy.to_string(), "-o", "ConnectTimeout=15"]);
        ssh.arg(format!("gx-{name}")).arg("sh").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut ssh = ssh.spawn().expect("ssh starts");
        let stdin = ssh.stdin.as_mut().expect("stdin is piped");
        stdin.write_all(SCRIPT.as_bytes()).expect("it is read");
        let mut output = BufReader::new(ssh.stdout.take().expect("stdout is piped"));
        let mut said = Vec::new();
        while said.last().is_none_or(|line: &String| !line.starts_with("listening on")) {
            let mut line = String::new();
            assert!(output.read_line(&mut line).expect("it is text") > 0, "the script ended: {said:?}");
            said.push(line.trim_end().to_owned());
        }
        Self { ssh, output, proxy, said }
    }

    /// Asks the server for its page by SOCKS (RFC 1928), the name looked up in the container.
    fn fetch(&self, host: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.proxy)).ok()?;
        stream.write_all(&[5, 1, 0]).ok()?;
        let mut method = [0; 2];
        stream.read_exact(&mut method).ok()?;
        assert_eq!(method, [5, 0]);
        let length = u8::try_from(host.len()).expect("a short name");
        let to = [&[5, 1, 0, 3, length], host.as_bytes(), &8765_u16.to_be_bytes()].concat();
        stream.write_all(&to).ok()?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).ok()?;
        if answer[1] != 0 {
            return None; // it does not listen yet
        }
        stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        (!page.is_empty()).then_some(page)
    }

    fn echo(&mut self, line: &str) -> String {
        self.ssh.stdin.as_mut().expect("stdin is piped").write_all(line.as_bytes()).expect("it is read");
        let mut back = String::new();
        self.output.read_line(&mut back).expect("it is text");
        back
    }

    fn end(mut self) {
        drop(self.ssh.stdin.take());
        assert_eq!(self.ssh.wait().expect("ssh ends").code(), Some(0));
    }
}
