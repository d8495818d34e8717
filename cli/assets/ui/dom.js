// The little that the page needs of a framework: elements, lists that keep theirs, and words for figures.

export const at = (id) => document.getElementById(id);

// Makes an element; texts become text, never markup.
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child != null));
  return element;
}

// Sets a text only where it changed, so that what is selected stays selected.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Makes the children of a parent those of the items, in their order; an item's element stays the same by its key, and
// so does what has the focus in it.
export function list(parent, items, keyOf, create, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = there.get(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    there.delete(key);
    update(element, item);
    if (element === before) before = before.nextElementSibling;
    else parent.insertBefore(element, before);
  }
  for (const gone of there.values()) gone.remove();
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export function span(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days > 0) return `${days}d ${hours % 24}h`;
  if (hours > 0) return `${hours}h ${minutes % 60}m`;
  return minutes > 0 ? `${minutes}m ${seconds % 60}s` : `${seconds}s`;
}
