/* How much each setting mattered, with intervals. */

function importanceAxis(importance) {
  const ends = importance.parameters.flatMap((each) => [each.mean, ...each.interval]);
  return numberAxis(Math.min(0, ...ends), Math.max(0.05, ...ends));
}

/** Return the settings that mattered whatever the draw of trials. */
function sure(importance) {
  return importance.parameters.filter((each) => each.interval[0] > 0);
}

function importance(view) {
  const found = view.study.importance;
  if (!found?.parameters.length) return el("p", {}, "There are too few trials to tell.");
  const axis = importanceAxis(found);
  const rows = found.parameters.map((each) => [
    breakable(each.name), bar(each, axis), fixed(each.mean, 2), range(each.interval), each.num_trials]);
  return [
    plainTable(`Importance (${found.method}) over ${count(found.num_trials, "trial")}`
      + ` at epoch ${found.epoch}, where nearly all of them were`,
      ["setting", "", "share", "95 % interval", "trials"], rows, { textColumns: 2 }),
    found.left_out.length > 0 && el("p", { class: "note" }, "Too few trials had, or all had the same: ",
      found.left_out.map((each) => `${each.name} (${each.num_trials})`).join(", "), "."),
    el("p", { class: "note" }, "Exploratory: it says what made a difference among the trials of ",
      "this search, on the fold that selected them. About 0 is what a setting without effect has; ",
      "settings whose intervals overlap are not told apart."),
  ];
}

function bar({ mean, interval }, axis) {
  const [width, x] = [240, (value) => axis.place(value) * 236 + 2];
  const [low, high] = [Math.min(0, mean), Math.max(0, mean)];
  return draw("svg", { class: "bar", width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    draw("rect", { class: "fill", x: x(low), y: 3, height: 12, width: Math.max(1, x(high) - x(low)) }),
    draw("path", { class: "zero", d: `M${x(0)},0V18` }),
    draw("path", { class: "error",
      d: `M${x(interval[0])},9H${x(interval[1])}M${x(interval[0])},5v8M${x(interval[1])},5v8` }));
}
