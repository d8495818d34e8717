// A card for each machine: what it is, how busy it is, and what it has given.

import { at, bytes, list, make, say } from "./dom.js";
import { has, knownOf, milliseconds } from "./peers.js";

export function show(machines) {
  list(at("machine-list"), machines, (machine) => machine.key, create, update);
}

function create() {
  const card = make("article", { className: "card" });
  card.parts = {
    name: make("h2"), state: make("span", { className: "state" }), about: make("p", { className: "quiet" }),
    why: make("p", { className: "bad" }), meters: make("div"), gpus: make("div"), runtimes: make("p"),
  };
  const { name, state, about, why, meters, gpus, runtimes } = card.parts;
  card.append(make("div", { className: "row" }, name, state), about, why, meters, gpus, runtimes);
  return card;
}

function update(card, machine) {
  const { name, state, about, why, meters, gpus, runtimes } = card.parts;
  const { now } = machine;
  const here = now.state === "here";
  say(name, machine.name === "local" ? "this machine" : machine.name);
  say(state, { asked: "asking …", here: "here", away: "away" }[now.state]);
  state.classList.toggle("good", here);
  state.classList.toggle("bad", now.state === "away");
  say(why, now.state === "away" ? [now.message, now.hint].filter(Boolean).join(" · ") : "");
  card.title = machine.node ? `node ${machine.node}` : "";
  const known = knownOf(machine.node);
  const distance = known?.seen.latency_ms == null ? "" : milliseconds(known.seen.latency_ms);
  if (!here) {
    // What it last said of itself, and where it was.
    if (!about.textContent || known) say(about, [known?.addresses[0] ?? machine.address, has(known?.record)].filter(Boolean).join(" · "));
    return;
  }
  const specs = now.specs;
  const { cpu = {}, memory = {}, disk = {}, load = [0], totals = {} } = specs;
  say(about, [specs.hostname, specs.platform, cpu.model, `${cpu.threads} CPUs`, `gx ${specs.version}`, distance && `${distance} away`].filter(Boolean).join(" · "));
  const used = (space) => [space.total_bytes - space.free_bytes, space.total_bytes];
  list(meters, [
    { name: "CPU", of: [load[0], cpu.threads || 1], text: load[0].toFixed(2) },
    { name: "memory", of: used(memory), text: `${bytes(memory.free_bytes)} free` },
    { name: "disk", of: used(disk), text: `${bytes(disk.free_bytes)} free` },
    given("containers", totals.containers, (count) => `${count}`),
  ].filter(Boolean), (meter) => meter.name, createMeter, updateMeter);
  list(gpus, specs.gpus ?? [], (gpu) => gpu.uuid, () => make("p"), (line, gpu) => say(line, gpuText(gpu)));
  list(runtimes, specs.runtimes ?? [], (runtime) => runtime.name, () => make("span", { className: "state" }), (chip, runtime) => {
    const status = runtime.health?.status ?? "unknown";
    say(chip, `${runtime.name} `);
    chip.classList.toggle("good", status === "healthy");
    chip.title = [status, runtime.health?.message].filter(Boolean).join(": ");
  });
}

// What was given of what there is to give, where that has a bound.
function given(name, quota, text) {
  if (quota?.limit == null) return null;
  return { name, of: [quota.used, quota.limit], text: `${text(quota.used)} of ${text(quota.limit)}` };
}

function createMeter(meter) {
  const line = make("label", { className: "meter" }, make("span", { className: "quiet" }), make("meter"), make("span"));
  line.firstChild.textContent = meter.name;
  return line;
}

function updateMeter(line, { of: [value, whole], text }) {
  const [, bar, told] = line.children;
  Object.assign(bar, { min: 0, max: whole || 1, high: 0.9 * (whole || 1), value });
  say(told, text);
}

function gpuText(gpu) {
  const parts = [gpu.name || gpu.uuid];
  if (gpu.memory_total_bytes) parts.push(`${bytes(gpu.memory_used_bytes ?? 0)} of ${bytes(gpu.memory_total_bytes)}`);
  if (gpu.utilisation_percent != null) parts.push(`${gpu.utilisation_percent} %`);
  if (gpu.temperature_celsius != null) parts.push(`${gpu.temperature_celsius} °C`);
  return parts.join(" · ");
}
