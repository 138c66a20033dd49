/* Slices: the objective against each searched setting, one small plot each. */

function slices(view) {
  const plots = view.axes.filter((axis) => !axis.isObjective).map((axis) => slice(view, axis));
  return el("div", { class: "slices" }, plots);
}

function slice(view, axis) {
  const tried = view.trials.filter((row) => axis.value(row) !== undefined && row.value != null);
  const when = axis.conditional && `only with ${Object.entries(axis.when)
    .map(([name, values]) => `${name} ${values.map(text).join(" or ")}`).join(" and ")}: `;
  const plot = scatter(view, {
    rows: tried, xAxis: axis, xValue: axis.value, xName: axis.name, height: 210,
    label: `${view.metricName} against ${axis.name}; the values are in the table`,
  });
  return el("figure", {}, plot,
    when && el("figcaption", {}, `${when}${count(tried.length, "trial")}`));
}

/** Plot the objective of trials against something else of theirs. */
function scatter(view, { rows, xAxis, xValue, xName, label, height }) {
  const yAxis = view.valueAxis;
  const drawn = chart({
    label, height, choose: view.choose,
    paint(root, width) {
      const room = xAxis.choices ? { ...xAxis, ...inset(xAxis) } : xAxis;
      const { x, y } = frame(root, width, height, { xAxis: room, yAxis, xName, yName: view.metricName });
      const spots = [];
      for (const row of view.inOrder(rows)) {
        const left = x(room.place(xValue(row)) + (xAxis.choices ? jitter(row, xAxis.choices) : 0));
        const up = y(yAxis.place(row.value));
        const kept = view.kept(row);
        const look = [row.look, !kept && "faded", row.trial === view.chosen && "chosen"];
        root.append(mark(row.shape, left, up, look.filter(Boolean).join(" "),
          row.trial === view.chosen ? 5.5 : 4));
        if (kept) {
          const name = `${row.name}: ${text(xValue(row))}, ${fixed(row.value)}, ${row.status}`;
          spots.push({ x: left, y: up, trial: row.trial, name });
        }
      }
      return spots;
    },
  });
  view.listen(drawn.redraw);
  return drawn.host;
}

/** Move choices inwards, so that marks beside the first and last stay in the frame. */
function inset(axis) {
  const move = (at) => (0.5 + at * (axis.choices - 1)) / axis.choices;
  return {
    place: (value) => move(axis.place(value)),
    ticks: axis.ticks.map((tick) => ({ ...tick, at: move(tick.at) })),
  };
}

/** Spread trials with the same choice sideways, each always to the same side. */
function jitter(row, choices) {
  return (((row.trial * 0.618034) % 1) - 0.5) * (0.5 / choices);
}

/** Plot the first objective against each further one. */
function objectives(view) {
  return el("div", { class: "slices" }, view.study.further_objectives.map(({ metric, mode }) => {
    const get = (row) => row.metrics[metric] ?? undefined;
    const rows = view.trials.filter((row) => row.value != null && get(row) !== undefined);
    const values = rows.map(get);
    const log = Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
    const plot = scatter(view, {
      rows, xAxis: measuredAxis(values, { log }), xValue: get, height: 320,
      xName: `${metric} (${mode === "min" ? "less" : "more"} is better)`,
      label: `${view.metricName} against ${metric}; the values are in the table`,
    });
    return el("figure", { class: "wide" }, plot,
      el("figcaption", {}, `Pareto set: trials ${view.study.pareto.join(", ")}`));
  }));
}
