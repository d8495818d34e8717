// The table of servers, the best first: how far and how fast each is, as it was measured from here, over time.

import { bars, line } from "./chart.js";
import { at, bytes, list, make, say, span } from "./dom.js";

const COLUMNS = ["Server", "Address", "Latency", "Throughput", "What it has", "Answered", "State"];
// Large charts, in a dialog.
const LARGE = [560, 160];

let sorted = null;
let open = null;
// What was told last, and the machines it was shown with.
let shown = [{}, []];

export function show(told, machines) {
  shown = [told, machines];
  const { peers = [], more = 0, message = "" } = told;
  const joined = new Map(machines.filter((machine) => machine.node).map((machine) => [machine.node, machine.name]));
  at("peers-link").hidden = false;
  at("peers").hidden = false;
  const rows = sorted ? [...peers].sort(sorted.compare) : peers;
  list(at("peer-list"), rows, (peer) => peer.key, create, (row, peer) => update(row, peer, joined));
  at("no-peers").hidden = peers.length > 0 || Boolean(message);
  say(at("more-peers"), message || (more > 0 ? `${more} more: gx peers list --all` : ""));
  const chosen = open && peers.find((peer) => peer.key === open);
  if (chosen && at("charts").open) enlarge(chosen);
}

// Time goes on by itself.
export function tick() {
  for (const row of at("peer-list").children) {
    if (row.peer) say(row.cells[5], ago(row.peer.seen.last_seen));
  }
}

// Sorts by a column at the press of its heading; once more, and the best are first again.
const ORDERS = {
  Server: (peer) => peer.title, Address: (peer) => peer.addresses[0] ?? "~", Latency: (peer) => peer.seen.latency_ms ?? Infinity,
  Throughput: (peer) => -(peer.seen.download_bps ?? 0), "What it has": (peer) => -(peer.record?.cpus ?? 0),
  Answered: (peer) => -(Date.parse(peer.seen.last_seen) || 0), State: (peer) => peer.state,
};

export function prepare() {
  for (const heading of at("peers").querySelectorAll("th")) {
    const button = heading.firstElementChild;
    button.addEventListener("click", () => {
      const name = button.textContent;
      const of = ORDERS[name];
      sorted = sorted?.name === name ? null : { name, compare: (a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0) };
      for (const other of at("peers").querySelectorAll("th")) other.removeAttribute("aria-sort");
      if (sorted) heading.setAttribute("aria-sort", "ascending");
      show(...shown);
    });
  }
  at("charts").addEventListener("close", () => { open = null; });
}

function create(peer) {
  const row = make("tr", {}, ...COLUMNS.map((label) => {
    const cell = make("td");
    cell.dataset.label = label;
    return cell;
  }));
  for (const index of [2, 3]) {
    const button = make("button", { type: "button", className: "plain" }, make("span"), make("span", { className: "drawn" }));
    button.addEventListener("click", () => {
      open = row.peer.key;
      enlarge(row.peer);
      at("charts").showModal();
    });
    row.cells[index].append(button);
  }
  row.cells[6].append(make("span"));
  row.peer = peer;
  return row;
}

function update(row, peer, joined) {
  const changed = row.drawn !== JSON.stringify([peer.latency, peer.throughput]);
  row.peer = peer;
  const name = joined.get(peer.node_id);
  say(row.cells[0], peer.title);
  row.cells[0].title = [peer.node_id ? `node ${peer.node_id}` : "without a key: nothing of it is sure", name && `joined as ${name}`].filter(Boolean).join(" · ");
  say(row.cells[1], peer.addresses[0] ?? "");
  row.cells[1].title = peer.addresses.join(", ");
  const [latency, throughput] = [row.cells[2].firstChild, row.cells[3].firstChild];
  say(latency.firstChild, milliseconds(peer.seen.latency_ms));
  say(throughput.firstChild, rates(peer.seen));
  if (changed) {
    row.drawn = JSON.stringify([peer.latency, peer.throughput]);
    latency.lastChild.replaceChildren(...(peer.latency.length > 0 ? [line(peer.latency, aboutLatency(peer))] : []));
    throughput.lastChild.replaceChildren(...(peer.throughput.length > 0 ? [bars(peer.throughput, aboutThroughput(peer))] : []));
  }
  latency.setAttribute("aria-label", `Latency of ${peer.title}: ${aboutLatency(peer)}`);
  throughput.setAttribute("aria-label", `Throughput of ${peer.title}: ${aboutThroughput(peer)}`);
  say(row.cells[4], has(peer.record));
  row.cells[4].title = Object.entries(peer.record?.labels ?? {}).map(([key, value]) => `${key}=${value}`).join(" ");
  say(row.cells[5], ago(peer.seen.last_seen));
  const state = row.cells[6].firstChild;
  say(state, stateOf(peer));
  state.className = `state${peer.state === "live" && !peer.quarantined ? " good" : peer.state === "stale" || peer.quarantined ? " bad" : ""}`;
}

// Shows both charts of a peer large, with the words for them.
function enlarge(peer) {
  say(at("charts-title"), peer.title);
  say(at("charts-latency-text"), aboutLatency(peer));
  at("charts-latency").replaceChildren(line(peer.latency, aboutLatency(peer), LARGE));
  say(at("charts-throughput-text"), aboutThroughput(peer));
  at("charts-throughput").replaceChildren(bars(peer.throughput, aboutThroughput(peer), LARGE));
}

function aboutLatency({ latency, seen }) {
  const known = latency.map(([, value]) => value).filter((value) => value != null);
  if (known.length === 0) return seen.latency_ms == null ? "not measured yet" : `${milliseconds(seen.latency_ms)}, measured earlier`;
  const lost = latency.length - known.length;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const over = span(latency.at(-1)[0] - latency[0][0]);
  return `${milliseconds(known.at(-1))} now, ${milliseconds(least)} to ${milliseconds(most)} in ${over}${lost ? `, ${lost} times no answer` : ""}`;
}

function aboutThroughput({ throughput }) {
  const [newest] = throughput.slice(-1);
  if (!newest) return "not measured: gx peers measure does it";
  const [time, down, up] = newest;
  const times = throughput.length > 1 ? `, the last of ${throughput.length}` : "";
  return `${megabits(down)} down, ${megabits(up)} up, ${ago(time * 1e3)}${times}`;
}

const milliseconds = (ms) => (ms == null ? "–" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
const megabits = (bps) => (bps == null ? "–" : `${(bps / 1e6).toFixed(bps < 1e8 ? 1 : 0)} Mbit/s`);
const rates = ({ download_bps: down, upload_bps: up }) => (down == null && up == null ? "–" : `↓ ${megabits(down)} ↑ ${megabits(up)}`);

function ago(when) {
  const time = typeof when === "number" ? when : Date.parse(when);
  return Number.isFinite(time) ? `${span((Date.now() - time) / 1000)} ago` : "never";
}

function has(record) {
  if (!record) return "";
  const gpus = record.gpus?.length ? `${record.gpus.length} × ${record.gpus[0].model || "GPU"}` : "";
  return [record.cpus && `${record.cpus} CPUs`, record.memory_bytes && bytes(record.memory_bytes), gpus, (record.runtimes ?? []).join(", ")].filter(Boolean).join(" · ");
}

function stateOf(peer) {
  const word = peer.quarantined ? "in quarantine" : { live: "live", untested: "untested", stale: "stale" }[peer.state] ?? "silent";
  return peer.node_id ? word : `${word}, unverified`;
}

// Returns what is known of a machine's node by the table, for its card.
export const knownOf = (node) => node && shown[0].peers?.find((peer) => peer.node_id === node);
export { has, milliseconds };
