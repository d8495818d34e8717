// The containers of all machines, and what can be done with each.

import { extend, logs, passwords, remove, run } from "./actions.js";
import { at, list, make, say, span } from "./dom.js";

const LABELS = ["Name", "Machine", "Image", "State", "Lease", "Ports"];

export function show(machines) {
  const rows = machines.flatMap((machine) =>
    (machine.now.containers?.containers ?? []).map((container) => ({ machine, container })));
  list(at("container-list"), rows, ({ machine, container }) => `${machine.key}/${container.id}`, create, update);
}

// A lease goes on by itself; nobody has to be asked for it.
export function tick() {
  for (const row of at("container-list").children) {
    const end = row.item?.container.expires_at;
    if (!end) continue;
    const left = (Date.parse(end) - Date.now()) / 1000;
    const cell = row.cells[4];
    say(cell, left > 0 ? `${span(left)} left` : "over");
    cell.classList.toggle("bad", left < 600);
  }
}

function create() {
  const row = make("tr", {}, ...LABELS.map((label) => {
    const cell = make("td");
    cell.dataset.label = label;
    return cell;
  }), make("td", { className: "actions" }));
  row.cells[3].append(make("span"));
  const button = (name, text, action, className = "") => {
    const made = make("button", { type: "button", className, textContent: text });
    made.dataset.action = name;
    made.addEventListener("click", () => action(row.item, made));
    return made;
  };
  row.lastChild.append(
    button("logs", "Logs", logs),
    make("a", { className: "button", textContent: "Desktop", target: "_blank", rel: "noopener" }),
    button("extend", "Extend", extend),
    button("passwd", "Passwords", passwords),
    button("start", "Start", (item) => run(item, "start")),
    button("stop", "Stop", (item) => run(item, "stop")),
    button("remove", "Remove", remove, "grave"),
  );
  return row;
}

function update(row, item) {
  row.item = item;
  const { machine, container } = item;
  const running = container.state === "running";
  const exit = container.exit && !running ? ` (${container.exit.code})` : "";
  const texts = [
    container.name, machine.name === "local" ? "this machine" : machine.name, container.image,
    `${container.state}${exit}`, container.expires_at ? row.cells[4].textContent : "", ports(container.ports),
  ];
  texts.forEach((text, index) => say(row.cells[index].firstElementChild ?? row.cells[index], text));
  row.cells[3].firstElementChild.className = running ? "state good" : "state";
  row.cells[0].title = `${container.id} · ${container.runtime}`;
  const offered = {
    extend: Boolean(container.expires_at), passwd: running && Boolean(container.ssh || container.vnc),
    start: !running, stop: running,
  };
  for (const button of row.querySelectorAll("button")) {
    const { action } = button.dataset;
    button.hidden = offered[action] === false;
    button.setAttribute("aria-label", `${button.textContent}: ${container.name}`);
  }
  const desktop = row.querySelector("a");
  desktop.hidden = !(running && container.vnc);
  desktop.href = `desktop/${machine.key}/${container.id}/`;
  desktop.setAttribute("aria-label", `Desktop: ${container.name}`);
}

function ports(all = []) {
  return all.map((port) => `${port.name ?? port.container_port}${port.protocol === "udp" ? "/udp" : ""} → ${port.host_port}`).join(", ");
}
