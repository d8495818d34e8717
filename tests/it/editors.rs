//! What an editor does that works over SSH, on both engines. VS Code's own client is not run: this goes the steps of its
//! Remote - SSH with OpenSSH's client. A shell is given a script on standard input, the script starts a server on a port
//! of the container and says which, and the editor talks to it through a SOCKS proxy (`ssh -D`), more than once, and finds
//! it again from a second connection after the first has ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::ssh::made;
use crate::support::{IMAGE, Surroundings, eventually, unique};

#[test]
fn docker_is_edited_in() {
    edited_in("docker");
}

#[test]
fn podman_is_edited_in() {
    edited_in("podman");
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

struct Editor {
    ssh: Child,
    output: BufReader<std::process::ChildStdout>,
    proxy: u16,
    said: Vec<String>,
}

impl Editor {
    fn connect(config: &Path, name: &str) -> Self {
        let proxy =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free");
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(config).args(["-T", "-D", &proxy.port().to_string(), "-o", "ConnectTimeout=15"]);
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
        Self { ssh, output, proxy: proxy.port(), said }
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
