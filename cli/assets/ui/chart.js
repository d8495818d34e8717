// Small charts as SVG: a line of latencies, where a gap is no answer, and pairs of bars of throughput. Each is told in
// words, too, for those who do not see it.

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function picture(width, height, words, ...children) {
  const title = draw("title", {});
  title.textContent = words;
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": words }, title, ...children);
}

// Draws [time, value or null] from zero to the highest; the newest is at the right.
export function line(points, words, [width, height] = [120, 28]) {
  const known = points.filter(([, value]) => value != null);
  if (known.length === 0) return picture(width, height, words);
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const top = Math.max(...known.map(([, value]) => value)) * 1.1 || 1;
  const x = (time) => (last === first ? width - 3 : 3 + ((time - first) / (last - first)) * (width - 6));
  const y = (value) => height - 3 - (value / top) * (height - 6);
  const paths = [];
  let pen = "M";
  for (const [time, value] of points) {
    if (value == null) { pen = "M"; continue; }
    paths.push(`${pen}${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
    pen = "L";
  }
  const lost = points.filter(([, value]) => value == null)
    .map(([time]) => draw("path", { class: "lost", d: `M${x(time).toFixed(1)} 2V${height - 2}` }));
  const [time, value] = known.at(-1);
  return picture(width, height, words, draw("path", { class: "base", d: `M0 ${height - 2.5}H${width}` }), ...lost,
    draw("path", { class: "line", d: paths.join("") }),
    draw("circle", { class: "dot", cx: x(time).toFixed(1), cy: y(value).toFixed(1), r: 2 }));
}

// Draws [time, down or null, up or null] as pairs of bars, the newest at the right.
export function bars(points, words, [width, height] = [120, 28]) {
  const top = Math.max(1, ...points.flatMap(([, down, up]) => [down ?? 0, up ?? 0]));
  const step = Math.min(14, (width - 4) / Math.max(1, points.length));
  const bar = (kind, left, value) => {
    const high = value == null ? 0 : Math.max(1, (value / top) * (height - 5));
    return draw("rect", { class: kind, x: left.toFixed(1), y: (height - 3 - high).toFixed(1), width: (step * 0.4).toFixed(1), height: high.toFixed(1) });
  };
  const pairs = points.flatMap(([, down, up], number) => {
    const left = width - 2 - (points.length - number) * step;
    return [bar("down", left, down), bar("up", left + step * 0.45, up)];
  });
  return picture(width, height, words, draw("path", { class: "base", d: `M0 ${height - 2.5}H${width}` }), ...pairs);
}
