// What can be done with a container. What a host refuses is said with its hint; what came of the rest is seen in the list.

import { at, make, say } from "./dom.js";

const path = ({ machine, container }) => `api/machines/${machine.key}/containers/${container.id}`;

let quiet;

// Says for a while what went wrong.
export function tell(text) {
  say(at("told"), text);
  clearTimeout(quiet);
  quiet = setTimeout(() => say(at("told"), ""), 12_000);
}

async function send(item, verb, options) {
  try {
    const answer = await fetch(verb ? `${path(item)}/${verb}` : path(item), options);
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return body;
    tell([body.message ?? `${answer.status} ${answer.statusText}`, body.hint].filter(Boolean).join(" · "));
  } catch {
    tell("gx ui does not answer: is it still running?");
  }
  return null;
}

export const run = (item, verb) => send(item, verb, { method: "POST" });

// Shows a dialog, and returns what it was closed with.
function asked(id, title) {
  const dialog = at(id);
  say(at(`${id}-title`), title);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

export async function remove(item) {
  say(at("sure-text"), "It is stopped, and what is in it is lost.");
  if (await asked("sure", `Remove ${item.container.name}?`) === "yes") await send(item, "", { method: "DELETE" });
}

export async function extend(item) {
  if (await asked("longer", item.container.name) !== "yes") return;
  await send(item, "extend", { method: "POST", body: JSON.stringify({ by_s: Number(at("longer-by").value) }) });
}

export async function passwords(item) {
  const made = await run(item, "passwd");
  if (!made) return;
  const pairs = [["SSH", made.ssh], ["desktop", made.vnc]].filter(([, access]) => access?.password);
  at("secrets-list").replaceChildren(...pairs.flatMap(([name, access]) =>
    [make("dt", { textContent: `${name}, ${access.user}` }), make("dd", { textContent: access.password })]));
  await asked("secrets", `New passwords of ${item.container.name}`);
  at("secrets-list").replaceChildren();
}

// How much output is kept on the page, in characters.
const KEPT = 400_000;

export async function logs(item) {
  const text = at("logs-text");
  text.textContent = "";
  const ended = new AbortController();
  asked("logs", `Output of ${item.container.name}`).then(() => ended.abort());
  try {
    const answer = await fetch(`${path(item)}/logs`, { signal: ended.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
      text.append(plain(value));
      if (text.textContent.length > 2 * KEPT) text.textContent = text.textContent.slice(-KEPT);
      if (atEnd) text.scrollTop = text.scrollHeight;
    }
  } catch {
    if (!ended.signal.aborted) tell("the output broke off");
  }
}

// Leaves out what would steer a terminal.
function plain(text) {
  return text.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b./g, "").replace(/\r(?!\n)/g, "\n");
}
