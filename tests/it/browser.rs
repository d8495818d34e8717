//! A headless browser, driven by the DevTools protocol over a pipe: no port, no driver program.
//!
//! <https://chromedevtools.github.io/devtools-protocol/>: each message is JSON, and a zero byte ends it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::eventually;

/// Chromium has the pipe as descriptors 3 and 4.
const START: &str = "for name in chromium chromium-browser; do command -v $name >/dev/null && \
                     exec $name \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1; done; exit 127";

/// A browser with one page; ended when dropped.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    _profile: tempfile::TempDir,
    session: Value,
    count: u64,
}

impl Browser {
    /// Starts a browser and opens a page.
    pub(crate) fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a folder can be made");
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh", "--headless=new", "--remote-debugging-pipe", "--no-first-run"]);
        // As root, and in containers, there is no other way than without a sandbox and without shared memory.
        command.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,700"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.env("HOME", profile.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh starts");
        let to = child.stdin.take().expect("stdin is piped");
        let from = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut browser = Self { child, to, from, _profile: profile, session: Value::Null, count: 0 };
        let target = browser.call("Target.createTarget", json!({ "url": url }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].clone();
        browser
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Sends a message and returns the answer to it.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.count += 1;
        let mut message = json!({ "id": self.count, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser reads");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("the browser answers");
            assert_eq!(bytes.pop(), Some(0), "the browser ended; is chromium installed?");
            let answer: Value = serde_json::from_slice(&bytes).expect("an answer is JSON");
            if answer["id"] == self.count {
                return answer;
            }
        }
    }

    /// Returns the value of an expression in the page; `null` while the page is not there yet, or goes for another.
    fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", params);
        let error = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(error.is_empty() || error.contains("navigated"), "{expression}: {answer}");
        answer["result"]["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, expression: &str) {
        eventually(what, || (self.value(expression) == true).then_some(()));
    }

    /// Types a password into the page's dialog, as keys.
    pub(crate) fn submit(&mut self, password: &str) {
        self.until("the dialog is open", "document.activeElement?.id === 'password'");
        self.type_line(password);
    }

    /// Types a text and Enter into whatever has the focus.
    pub(crate) fn type_line(&mut self, text: &str) {
        for letter in text.chars() {
            self.key(&letter.to_string(), 0);
        }
        self.key("Enter", 13);
    }

    fn key(&mut self, key: &str, code: u32) {
        let text = match key {
            "Enter" => "\r",
            "Tab" => "",
            key => key,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Returns whether an expression is true.
    pub(crate) fn holds(&mut self, expression: &str) -> bool {
        self.value(expression) == true
    }

    /// Gives the page another size, as that of a phone, and another scheme of colours.
    pub(crate) fn looks_like(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// Moves the focus on.
    pub(crate) fn tab(&mut self) {
        self.key("Tab", 9);
    }

    /// Presses Enter on what has the focus.
    pub(crate) fn enter(&mut self) {
        self.key("Enter", 13);
    }

    /// Presses a button.
    pub(crate) fn click(&mut self, id: &str) {
        self.value(&format!("document.getElementById('{id}').click()"));
    }

    /// Returns the colour of the desktop a quarter of the way across and down.
    pub(crate) fn pixel(&mut self) -> [u8; 3] {
        let expression = "(() => { const c = document.querySelector('#screen canvas'); \
             return [...c.getContext('2d').getImageData(c.width >> 2, c.height >> 2, 1, 1).data]; })()";
        let data = self.value(expression);
        [0, 1, 2].map(|part| data[part].as_u64().and_then(|part| u8::try_from(part).ok()).unwrap_or_default())
    }

    /// Writes what is seen into a PNG file.
    pub(crate) fn screenshot(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let text = shot["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("a picture is base64");
        std::fs::write(file, bytes).expect("a file can be written");
    }
}

/// Returns the path of a file that is kept after the tests.
pub(crate) fn artifact(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    let folder = target.join("artifacts");
    std::fs::create_dir_all(&folder).expect("folders can be made");
    folder.join(name)
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = std::thread::current().name().unwrap_or("test").replace(':', "-");
            self.screenshot(&artifact(&format!("failed-{test}.png")));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
