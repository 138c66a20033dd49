/* What all charts share: their frame, their marks, and what happens under the pointer. */

const NEAR = 30; // Pixels within which the pointer means a spot.

/**
 * Return a chart that is drawn anew whenever its width changes.
 *
 * paint(root, width, height) draws and returns spots {x, y, trial, name}: a spot under the pointer
 * is named, and a click on it calls choose(trial).
 */
function chart({ label, height, role = "img", minWidth = 0, paint, choose }) {
  const tip = el("div", { class: "tip", hidden: true });
  const inner = el("div", { class: "inner" });
  const host = el("div", { class: "chart" }, inner, tip);
  host.style.minHeight = `${height}px`; // before it is drawn too, so that nothing below moves
  let spots = [];
  let drawn = 0;

  function redraw() {
    drawn = Math.round(host.clientWidth);
    if (!drawn) return;
    const width = Math.max(drawn, minWidth);
    const box = { viewBox: `0 0 ${width} ${height}`, width, height, role };
    const focused = inner.querySelector(":focus")?.dataset.axis;
    const root = draw("svg", { ...box, "aria-label": label });
    spots = paint(root, width, height) ?? [];
    inner.replaceChildren(root);
    if (focused) inner.querySelector(`[data-axis="${focused}"]`)?.focus();
    tip.hidden = true;
  }

  function nearest(event) {
    const box = inner.firstChild?.getBoundingClientRect();
    if (!box) return null;
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [null, NEAR];
    for (const spot of spots) {
      const distance = Math.hypot(spot.x - x, spot.y - y);
      if (distance < least) [best, least] = [spot, distance];
    }
    return best;
  }

  host.addEventListener("pointermove", (event) => {
    const spot = nearest(event);
    tip.hidden = !spot;
    if (!spot) return;
    tip.textContent = spot.name;
    const x = spot.x - host.scrollLeft;
    tip.style.left = `${Math.max(0, Math.min(x + 12, host.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, spot.y - 34)}px`;
  });
  host.addEventListener("pointerleave", () => (tip.hidden = true));
  if (choose) {
    host.addEventListener("click", (event) => {
      const spot = nearest(event);
      if (spot?.trial != null) choose(spot.trial);
    });
  }
  new ResizeObserver(() => Math.round(host.clientWidth) !== drawn && redraw()).observe(host);
  return { host, redraw };
}

/** Draw the frame of a plot and return where fractions of its axes are, in pixels. */
function frame(root, width, height, { xAxis, yAxis, xName, yName, left = 52, bottom = 40 }) {
  const [top, right] = [22, 14];
  const x = (at) => left + at * (width - left - right);
  const y = (at) => height - bottom - at * (height - top - bottom);
  const axis = draw("g", { class: "axis" });
  for (const tick of yAxis.ticks) {
    axis.append(draw("line", { x1: x(0), x2: x(1), y1: y(tick.at), y2: y(tick.at) }));
    axis.append(draw("text", { x: left - 6, y: y(tick.at) + 4, "text-anchor": "end" }, tick.name));
  }
  for (const tick of thinned(xAxis.ticks, width - left - right)) {
    const place = { x: x(tick.at), y: height - bottom + 16, "text-anchor": "middle" };
    axis.append(draw("text", place, tick.name));
  }
  axis.append(draw("line", { class: "base", x1: x(0), x2: x(1), y1: y(0), y2: y(0) }));
  axis.append(draw("text", { class: "name", x: x(1), y: height - 6, "text-anchor": "end" }, xName));
  axis.append(draw("text", { class: "name", x: 0, y: 12 }, yName));
  root.append(axis);
  return { x, y };
}

/** Leave out ticks whose names would touch. */
function thinned(ticks, width) {
  const widest = Math.max(...ticks.map((tick) => tick.name.length), 1) * 7 + 8;
  const every = Math.ceil((ticks.length * widest) / Math.max(width, 1));
  return ticks.filter((_, index) => index % every === 0);
}

/** The shape that stands for a trial's status, whatever its colour. */
const SHAPES = {
  completed: (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
  stopped: (r) => `M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`,
  stalled: (r) => `M${-r},${-r}H${r}L0,${r}Z`,
  diverged: (r) => `M${-r},${r}H${r}L0,${-r}Z`,
  infeasible: (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
  failed: (r) => `M${-r},0H${r}M0,${-r}V${r}`,
  waiting: (r) => `M0,${-r}L${r},0L0,${r}L${-r},0Z`,
  running: (r) => `M0,${-r}L${r},0L0,${r}L${-r},0Z`,
  control: (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
  reference: (r) => `M0,${-1.3 * r}L${1.3 * r},0L0,${1.3 * r}L${-1.3 * r},0Z`,
};
const OPEN = new Set(["stopped", "failed", "waiting"]);

/** Return a trial's mark. */
function mark(shape, x, y, kind, r = 4) {
  const look = `mark ${kind}${OPEN.has(shape) ? " open" : ""}`;
  return draw("path", { class: look, d: SHAPES[shape](r), transform: `translate(${x},${y})` });
}

/** Return a line of marks with their names. */
function legend(entries) {
  return el("p", { class: "legend" }, entries.map(([key, name]) => el("span", {}, key, " ", name)));
}

function markKey(shape, kind) {
  const box = { class: "key", width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": true };
  return draw("svg", { ...box, "aria-hidden": "true" }, mark(shape, 0, 0, kind));
}

function lineKey(kind) {
  const box = { class: "key", width: 28, height: 14, viewBox: "0 -7 28 14", "aria-hidden": "true" };
  return draw("svg", box, draw("path", { class: `line ${kind}`, d: "M0,0H28" }));
}

/** Draw a share of the most as a bar, as small as a word. */
function bar(value, most, width = 44) {
  const box = { class: "bar", width, height: 4, viewBox: `0 0 ${width} 4`, "aria-hidden": "true" };
  return value > 0 && draw("svg", box, draw("rect", { width: Math.max(1, (width * value) / most), height: 4 }));
}

/** Draw a mean with its interval on a Dice axis of its own, as small as a word. */
function whisker(interval, mean, kind, axis, width = 92) {
  const box = { class: "whisker", width, height: 14, viewBox: `0 0 ${width} 14` };
  const x = (value) => 4 + axis.place(value) * (width - 8);
  return draw(
    "svg",
    { ...box, "aria-hidden": "true" },
    interval && draw("path", { class: `line ${kind}`, d: `M${x(interval[0])},7H${x(interval[1])}` }),
    mean != null && mark(kind === "control" || kind === "reference" ? kind : "completed",
      x(mean), 7, kind, 3.5),
  );
}
