// The page of `gx vnc --open`: noVNC on a WebSocket of the address that the page came from.

import RFB from "./novnc/core/rfb.js";

const at = (id) => document.getElementById(id);
const [screen, status, dialog, password] = ["screen", "status", "password-dialog", "password"].map(at);

let rfb = null;
// Kept in this page only, so that a reconnect need not ask again.
let known = null;
let refused = false;

function tell(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

function connect() {
  rfb?.disconnect();
  tell("connecting …");
  const address = new URL("socket", location.href);
  address.protocol = "ws:";
  const socket = new WebSocket(address);
  let reason = "";
  socket.addEventListener("close", (event) => { reason = event.reason; });
  const session = new RFB(screen, socket, known === null ? {} : { credentials: { password: known } });
  rfb = session;
  session.scaleViewport = true;
  session.resizeSession = true;
  session.addEventListener("connect", () => {
    refused = false;
    tell("connected");
    session.focus();
  });
  session.addEventListener("disconnect", () => {
    if (rfb !== session) return;
    rfb = null;
    if (refused) return ask();
    tell(reason ? `disconnected: ${reason}` : "disconnected", true);
    at("reconnect").focus();
  });
  session.addEventListener("credentialsrequired", ask);
  session.addEventListener("securityfailure", (event) => {
    known = null;
    refused = true;
    tell(event.detail.reason || "refused", true);
  });
  session.addEventListener("desktopname", (event) => {
    at("name").textContent = event.detail.name;
    document.title = `${event.detail.name} · gx desktop`;
  });
  session.addEventListener("clipboard", (event) => {
    at("clipboard-text").value = event.detail.text;
    // Where the browser does not allow it, the text is behind the button.
    navigator.clipboard?.writeText(event.detail.text).catch(() => {});
  });
}

function ask() {
  const note = at("password-note");
  note.textContent = refused
    ? `${status.textContent}. gx create showed the password; gx passwd makes a new one.`
    : "gx create showed it; gx passwd makes a new one.";
  note.classList.toggle("bad", refused);
  password.value = "";
  if (!dialog.open) dialog.showModal();
}

at("password-form").addEventListener("submit", () => {
  known = password.value;
  password.value = "";
  if (rfb && !refused) rfb.sendCredentials({ password: known });
  else connect();
  refused = false;
});
dialog.addEventListener("cancel", () => {
  rfb?.disconnect();
  refused = false;
  tell("not connected: a password is needed", true);
});

at("reconnect").addEventListener("click", connect);
at("keys").addEventListener("click", () => { rfb?.sendCtrlAltDel(); rfb?.focus(); });
at("clipboard").addEventListener("click", () => at("clipboard-dialog").showModal());
at("clipboard-send").addEventListener("click", () => rfb?.clipboardPasteFrom(at("clipboard-text").value));
at("clipboard-dialog").addEventListener("close", () => rfb?.focus());
at("fullscreen").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().then(() => rfb?.focus(), () => {});
});

// The desktop takes every key; this one leads back to the buttons.
window.addEventListener("keydown", (event) => {
  if (!event.ctrlKey || !event.altKey || event.key !== "Home") return;
  event.preventDefault();
  event.stopPropagation();
  if (document.fullscreenElement) document.exitFullscreen();
  at("reconnect").focus();
}, true);

connect();
