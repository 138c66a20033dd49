/* How much each setting mattered, with intervals. */

function importanceAxis(importance) {
  return numberAxis(0, Math.max(...importance.parameters.flatMap((each) => [each.mean, ...(each.interval ?? [])]), 0.01));
}

function importance(view) {
  const found = view.study.importance;
  if (!found) return el("p", {}, "There are too few trials for importances.");
  const axis = importanceAxis(found);
  const rows = found.parameters.map((each) => [
    breakable(each.name), bar(each, axis), fixed(each.mean, 3), range(each.interval)]);
  return [
    plainTable(`Importance (${found.method}) over ${count(found.num_trials, "trial")}`
      + (found.epoch == null ? "" : ` at epoch ${found.epoch}`),
      ["setting", "", "share", "95 % interval"], rows, { textColumns: 2 }),
    el("p", { class: "note" }, "Exploratory: it says what made a difference among the trials of ",
      "this search, on the fold that selected them. Settings whose intervals overlap are not told apart."),
  ];
}

function bar({ mean, interval }, axis) {
  const [width, x] = [240, (value) => axis.place(value) * 236 + 2];
  return draw("svg", { class: "bar", width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    draw("rect", { class: "fill", x: x(0), y: 3, height: 12, width: Math.max(1, x(mean) - x(0)) }),
    interval && draw("path", { class: "error",
      d: `M${x(interval[0])},9H${x(interval[1])}M${x(interval[0])},5v8M${x(interval[1])},5v8` }));
}
