/* Parallel coordinates over what was searched and the objective; ranges brushed on the axes filter. */

const GRIP = 22; // Pixels beside an axis where a drag is a brush.

function parallel(view) {
  const axes = view.axes;
  const [top, height, side] = [46, 380, 60];
  const bottom = height - 44;
  const y = (at) => bottom - at * (bottom - top);
  const at = (pixel) => Math.max(ABSENT * 1.3, Math.min(1, (bottom - pixel) / (bottom - top)));
  let x = () => 0;

  const drawn = chart({
    role: "group",
    label: "Parallel coordinates: each line is a trial, each axis a searched setting, the last one "
      + `${view.metricName}; the values are in the table`,
    height,
    minWidth: side * 2 + (axes.length - 1) * 112,
    paint(root, width) {
      x = (index) => side + index * ((width - 2 * side) / Math.max(1, axes.length - 1));
      return paintParallel(view, root, { x, y });
    },
    choose: view.choose,
  });
  drawn.host.classList.add("parallel");
  drawn.host.style.setProperty("--dense", Math.min(0.8, 4 / Math.sqrt(view.trials.length)));
  brushing(drawn.host, { view, at, nearestAxis: (pixel) => {
    const index = axes.findIndex((_, i) => Math.abs(x(i) - pixel) < GRIP);
    return index < 0 ? null : axes[index].name;
  } });
  view.listen(drawn.redraw);
  const best = [lineKey("searched best"), "the best quarter of the trials"];
  const entries = [best, [lineKey("searched"), "the others"], [lineKey("chosen"), "chosen trial"]];
  return [drawn.host, legend(entries), ranges(view)];
}

function paintParallel(view, root, { x, y }) {
  const { axes } = view;
  const searched = view.trials.filter((row) => row.value != null);
  const quarter = Math.ceil(searched.filter((row) => row.rank).length / 4);
  const spots = [];
  for (const row of view.inOrder(searched)) {
    const points = axes.map((axis, index) => [x(index), y(axis.place(axis.value(row)))]);
    const best = row.rank && row.rank <= quarter ? " best" : "";
    const look = view.lineOf(row).replace(" best", "") + best;
    const path = points.map(([left, up]) => `${left.toFixed(1)},${up.toFixed(1)}`).join("L");
    root.append(draw("path", { class: look, d: `M${path}`, "data-trial": row.trial }));
    if (!view.kept(row)) continue;
    points.forEach(([left, up], index) => spots.push({
      x: left, y: up, trial: row.trial,
      name: `${row.name}: ${axes[index].name} ${text(axes[index].value(row)) || "not searched"}`,
    }));
  }
  axes.forEach((axis, index) => {
    const group = draw("g", { class: "axis upright" });
    const left = x(index);
    group.append(draw("line", { class: "base", x1: left, x2: left, y1: y(0), y2: y(1) }));
    for (const tick of axis.ticks) {
      group.append(draw("line", { class: "base", x1: left - 4, x2: left, y1: y(tick.at), y2: y(tick.at) }));
      group.append(draw("text", { class: "halo", x: left - 7, y: y(tick.at) + 4, "text-anchor": "end" }, tick.name));
    }
    if (axis.conditional) {
      const place = { x: left - 7, y: y(ABSENT) + 4, "text-anchor": "end" };
      group.append(draw("text", { class: "halo", ...place }, "none"));
    }
    axisName(group, axis.name, left);
    const brush = view.ranges.get(axis.name);
    if (brush) {
      const box = { x: left - 7, width: 14, y: y(brush[1]), height: y(brush[0]) - y(brush[1]) };
      group.append(draw("rect", { class: "brush", ...box }));
    }
    group.append(draw("rect", { class: "grip", "data-axis": axis.name, x: left - GRIP, width: 2 * GRIP,
      y: y(1) - 8, height: y(ABSENT) - y(1) + 16, tabindex: 0, role: "slider", "aria-label": axis.name,
      "aria-orientation": "vertical", "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": Math.round(100 * (brush?.[0] ?? 0)), "aria-valuetext": brush
        ? `from ${Math.round(100 * brush[0])} to ${Math.round(100 * brush[1])} % of the axis` : "all" }));
    root.append(group);
  });
  return spots;
}

/** Write an axis's name over it, in two lines where it has a dot. */
function axisName(group, name, left) {
  const [head, ...rest] = name.split(".");
  const lines = rest.length ? [`${head}.`, rest.join(".")] : [head];
  lines.reverse().forEach((line, index) => {
    const shown = line.length > 19 ? `${line.slice(0, 18)}…` : line;
    const place = { x: left, y: 30 - 14 * index, "text-anchor": "middle" };
    group.append(draw("text", { class: "name", ...place }, shown, draw("title", {}, name)));
  });
}

/** Return a button for each brushed range, which takes it away. */
function ranges(view) {
  const box = el("div", { class: "ranges" });
  view.listen(() => box.replaceChildren(...[...view.ranges.keys()].map((name) =>
    el("button", { type: "button", class: "range", onclick: () => view.brush(name, null) },
      `${name}: show all again ✕`))));
  return box;
}

/** Turn drags along an axis into its range; a click beside the lines takes the range away. */
function brushing(host, { view, at, nearestAxis }) {
  let drag = null;
  const inside = (event) => {
    const box = host.querySelector("svg").getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  host.addEventListener("pointerdown", (event) => {
    const [left, up] = inside(event);
    const axis = nearestAxis(left);
    if (axis === null || event.button !== 0) return;
    drag = { axis, from: up, moved: false };
  });
  host.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const up = inside(event)[1];
    if (!drag.moved && Math.abs(up - drag.from) < 4) return;
    if (!drag.moved) host.setPointerCapture(event.pointerId);
    drag.moved = true;
    view.brush(drag.axis, [at(drag.from), at(up)].sort((a, b) => a - b));
  });
  const end = () => {
    if (drag?.moved) host.addEventListener("click", (event) => event.stopImmediatePropagation(),
      { capture: true, once: true });
    drag = null;
  };
  host.addEventListener("keydown", (event) => {
    const axis = event.target.dataset?.axis;
    const step = { ArrowUp: [0.05, 0], ArrowDown: [0, -0.05], Escape: null }[event.key];
    if (axis === undefined || step === undefined) return;
    event.preventDefault();
    const [low, high] = view.ranges.get(axis) ?? [0, 1];
    const moved = step && [Math.min(low + step[0], high), Math.max(high + step[1], low)];
    view.brush(axis, moved);
  });
  host.addEventListener("pointerup", end);
  host.addEventListener("pointercancel", end);
}
