// The dashboard of `gx ui`: it is told of each machine as something happens there, and shows all of them.

import * as containers from "./containers.js";
import { at, say } from "./dom.js";
import * as machines from "./machines.js";

const known = new Map();
let painted = false;

// Paints once for all that came since the last time.
function repaint() {
  if (painted) return;
  painted = true;
  requestAnimationFrame(() => {
    painted = false;
    const all = [...known.values()];
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
  const machine = JSON.parse(event.data);
  // A machine that was asked before keeps what is known of it until it answers anew.
  if (machine.now.state === "asked" && known.has(machine.key)) return;
  known.set(machine.key, machine);
  repaint();
});

setInterval(containers.tick, 1_000);
