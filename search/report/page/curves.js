/* Learning curves of all trials, with the rungs at which they were judged. */

function curves(view) {
  const { study } = view;
  const drawn = chart({
    label: `Learning curves: ${view.metricName} by epoch of every trial; the values are in the table`,
    height: 400,
    paint: (root, width, height) => paintCurves(view, root, width, height),
    choose: view.choose,
  });
  // The more lines, the fainter each.
  drawn.host.style.setProperty("--dense", Math.min(0.8, 4 / Math.sqrt(view.trials.length)));
  view.listen(drawn.redraw);
  const shapes = [...new Set(view.trials.map((row) => row.shape))];
  const control = view.control && [lineKey("control"), "control (U-Net)"];
  const reference = study.references.some((row) => row !== view.control);
  return [drawn.host, legend([
    [lineKey("searched best"), "best of the search"],
    [lineKey("searched"), "searched"],
    [lineKey("chosen"), "chosen trial"],
    control,
    reference && [lineKey("reference"), "reference"],
    study.threshold && [lineKey("threshold"), "best threshold of one modality"],
    study.rungs.length && [lineKey("rung"), "rung: how many went on of those judged"],
    ...shapes.map((shape) => [markKey(shape, "searched"), shape]),
  ].filter(Boolean))];
}

function paintCurves(view, root, width, height) {
  const { study } = view;
  const values = view.rows.flatMap((row) => view.detail(row).values);
  const yAxis = measuredAxis([...values, study.threshold && view.metric === "val/dice"
    ? study.threshold.dice : null]);
  const last = Math.max(study.max_t, ...view.rows.map((row) => row.epochs), 1);
  const xAxis = numberAxis(0, last, { whole: true, about: 8 });
  const { x, y } = frame(root, width, height, { xAxis, yAxis, xName: "epoch", yName: view.metricName });
  for (const rung of study.rungs) {
    const at = x(xAxis.place(rung.epoch));
    root.append(draw("path", { class: "line rung", d: `M${at},${y(0)}V${y(1)}` }));
    const said = rung.judged ? `${rung.judged - rung.stopped}/${rung.judged}` : "";
    root.append(draw("text", { class: "small", x: at + 3, y: y(1) + 9 }, said));
  }
  if (study.threshold && view.metric === "val/dice") {
    const at = y(yAxis.place(study.threshold.dice));
    root.append(draw("path", { class: "line threshold", d: `M${x(0)},${at}H${x(1)}` }));
  }
  const spots = [];
  const place = (row) => view.detail(row).values.flatMap((value, index) => {
    if (value == null) return [];
    const epoch = view.detail(row).epochs[index];
    return [{ x: x(xAxis.place(epoch)), y: y(yAxis.place(value)), epoch, value }];
  });
  for (const row of view.inOrder()) {
    const points = place(row);
    if (!points.length) continue;
    const look = view.lineOf(row);
    const path = points.map((point) => `${point.x.toFixed(1)},${point.y.toFixed(1)}`).join("L");
    root.append(draw("path", { class: look, d: `M${path}`, "data-trial": row.trial }));
    const end = points.at(-1);
    const faded = look.includes("faded") ? " faded" : "";
    root.append(mark(row.shape, end.x, end.y, row.look + faded, row.ending === "stopped" ? 3.5 : 3));
    if (faded) continue;
    spots.push(...points.map((point) => ({
      ...point, trial: row.trial,
      name: `${row.name}, epoch ${point.epoch}: ${fixed(point.value)}${point === end ? `, ${row.status}` : ""}`,
    })));
  }
  return spots;
}
