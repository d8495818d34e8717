// The dashboard of `gx ui`: it is told of each machine as something happens there, and of the peers as they are measured,
// and shows all of them.

import * as containers from "./containers.js";
import { at, say } from "./dom.js";
import * as machines from "./machines.js";
import * as peers from "./peers.js";

const known = new Map();
let table = null;
let painted = false;

// Paints once for all that came since the last time.
function repaint() {
  if (painted) return;
  painted = true;
  requestAnimationFrame(() => {
    painted = false;
    const all = [...known.values()];
    if (table) peers.show(table, all);
    machines.show(all);
    containers.show(all);
    containers.tick();
    document.body.dataset.machines = all.filter((machine) => machine.now.state === "here").length;
  });
}

function status(text, isBad) {
  say(at("status"), text);
  at("status").classList.toggle("bad", isBad);
}

// The browser connects again by itself.
const live = new EventSource("api/live");
live.addEventListener("open", () => status("live", false));
live.addEventListener("error", () => status("gx ui does not answer: is it still running?", true));
live.addEventListener("message", (event) => {
  const told = JSON.parse(event.data);
  if (told.peers) {
    table = told;
    repaint();
    return;
  }
  const machine = told;
  // A machine that was asked before keeps what is known of it until it answers anew.
  if (machine.now.state === "asked" && known.has(machine.key)) return;
  known.set(machine.key, machine);
  repaint();
});

peers.prepare();
setInterval(() => { containers.tick(); peers.tick(); }, 1_000);
