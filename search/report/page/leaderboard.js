/* The leaderboard: every searched trial, and beside them what they are compared with. */

function leaderboard(view) {
  const { study, trials } = view;
  const beside = [...study.references, ...study.masks];
  const rows = [...trials, ...beside];
  const axis = diceAxis(rows.flatMap((row) => [row.dice, ...(row.dice_interval ?? [])]));
  const table = sortable({
    caption: `${study.study}: each trial's last epoch${onFold(study)} (${study.label})`,
    columns: leaderboardColumns(view, axis),
    rows: () => trials.filter(view.kept),
    pinned: () => beside,
    look: (row) => ({
      "data-trial": row.trial,
      class: row.trial === view.chosen ? "chosen" : "",
      "aria-current": row.trial === view.chosen ? "true" : false,
      onclick: row.kind === "masks" ? undefined : () => view.choose(row.trial),
    }),
    memory: view.memory.leaderboard,
    always: (row) => row.trial === view.chosen,
  });
  const kept = el("span", { class: "kept", role: "status" });
  view.listen(() => {
    table.show();
    const shown = trials.filter(view.kept).length;
    kept.textContent = shown === trials.length ? count(shown, "trial") : `${shown} of ${trials.length}`;
  });
  table.node.classList.add("tall", "leaderboard");
  if (beside.length <= 4) table.node.classList.add("pinned");
  return [statusFilter(view, kept), table.node, table.rest, notes(view)];
}

function leaderboardColumns(view, axis) {
  const { study } = view;
  const number = (name, key, value, decimals, more = {}) =>
    ({ name, key, value, cell: (row) => fixed(value(row), decimals), ...more });
  const own = view.metric === "val/dice" ? [] : [number(view.metric, "last_value", (row) => row.last_value)];
  const means = view.hasMeans ? [{ name: "mean (epochs)", key: "value", value: (row) => row.value,
    title: `The mean of the last validations' ${view.metricName}: what trials are ranked by`,
    cell: (row) => row.value == null ? "–"
      : [fixed(row.value), " ", el("small", {}, `(${epochsInWords(row.value_epochs)})`)] }] : [];
  const further = study.further_objectives.map((each) =>
    number(each.metric, each.metric, (row) => row.metrics[each.metric], undefined, { low: each.mode === "min" }));
  const all = view.rows;
  const some = (get) => all.some((row) => get(row) != null);
  const costOf = (row) => row[study.cost];
  const dearest = all.reduce((most, row) => Math.max(most, costOf(row) ?? 0), 0);
  const columns = [
    { name: "rank", key: "rank", low: true, value: (row) => row.rank,
      cell: (row) => rankText(view, row) },
    { name: "trial", key: "trial", low: true, text: true, value: (row) => row.trial,
      cell: (row) => (row.kind === "masks" ? `${row.name} (masks)` : view.link(row)) },
    { name: "status", key: "status", low: true, text: true, value: (row) => row.status,
      cell: (row) => [markKey(row.shape, row.look), " ", row.status] },
    { name: "epochs", key: "epochs", value: (row) => row.epochs, cell: epochsText },
    ...means,
    ...own,
    number("Dice", "dice", (row) => row.dice),
    { name: "95 % interval", key: "interval", value: (row) => row.dice_interval?.[0],
      title: "Over the cases with a lesion",
      cell: (row) => [whisker(row.dice_interval, row.dice, row.look, axis),
        el("small", {}, range(row.dice_interval, fixed, row.num_cases))] },
    { name: `at epoch ${study.equal_epoch}`, key: "equal", value: (row) => row.value_at_equal,
      title: "The objective after equal training, and its rank",
      cell: (row) => row.value_at_equal == null ? "–"
        : `${fixed(row.value_at_equal)}${row.rank_at_equal ? ` (${row.rank_at_equal})` : ""}` },
    { name: "difference to the best", key: "difference", value: (row) => row.difference_to_best?.mean,
      title: "Mean difference of Dice, case by case, at the last epoch that both have, and its interval: exploratory",
      cell: (row) => row.difference_to_best ? [signed(row.difference_to_best.mean, 3), " ",
        el("small", {}, range(row.difference_to_best.interval, signed, true))] : "–" },
    ...further,
    ...study.searched.map((name) => ({
      name, key: name, text: true, low: true, value: (row) => row.params[name],
      cell: (row) => text(row.params[name]),
    })),
    number("AVD mL", "avd", (row) => row.avd_ml, 1, { low: true }),
    number("lesion F1", "f1", (row) => row.lesion_f1, 3),
    { name: `${unitOf(study.cost)}-h`, key: "cost", value: costOf,
      cell: (row) => [fixed(costOf(row)), bar(costOf(row), dearest)] },
  ];
  const optional = { equal: some((row) => row.value_at_equal) && study.max_t > 0,
    difference: some((row) => row.difference_to_best), avd: some((row) => row.avd_ml),
    f1: some((row) => row.lesion_f1), cost: some(costOf) };
  return columns.filter((column) => optional[column.key] ?? true);
}

function rankText({ study }, row) {
  if (["control", "masks"].includes(row.kind) || study.references.includes(row)) return "–";
  return `${row.rank ?? "–"}${study.pareto.includes(row.trial) ? " ★" : ""}`;
}

/** Say how far a trial got: 27, 27 → 81 if it was resumed. */
function epochsText(row) {
  if (row.kind === "masks") return "–";
  const all = [...row.resumed_after, row.epochs].join(" → ");
  return row.ending === null ? `${all} of ${row.goal}` : all;
}

function statusFilter(view, kept) {
  const names = [...new Set(view.trials.map((row) => row.status))];
  const box = (name) => el("label", { class: "filter" },
    el("input", { type: "checkbox", checked: true, value: name,
      onchange: (event) => view.showStatus(name, event.target.checked) }),
    markKey(name, "searched"), " ", name);
  const boxes = names.map(box);
  view.listen(() => {
    for (const input of boxes.map((each) => each.querySelector("input"))) input.checked = !view.hidden.has(input.value);
  });
  return el("fieldset", { class: "filters" }, el("legend", {}, "Show"), boxes, kept);
}

/** Say how much a validation varies by nothing but its noise. */
function noiseText({ noise, smoothing }, metricName) {
  if (noise.missing) return `Validation noise: ${noise.missing}.`;
  const mean = smoothing > 1 ? ` (${fixed(noise.std_of_value)} of a mean of ${smoothing})` : "";
  return `Validation noise: ${metricName} ${fixed(noise.mean)}, standard deviation ${fixed(noise.std)}${mean}, `
    + `over ${noise.draws} noise seeds of the weights of trial ${noise.trial}, epoch ${noise.epoch}.`;
}

function notes(view) {
  const { study, trials, metricName } = view;
  const smooth = study.smoothing > 1 ? `, the mean of ${study.smoothing} validations` : "";
  const lines = [
    view.hasMeans && `Ranked by ${metricName}, the mean of the epochs in parentheses: the last `
      + `${study.smoothing} validations. All else is of the last epoch; the weights of ${study.weights_of} stand for a trial.`,
    noiseText(study, metricName),
    "Differences between trials, of one seed on one fold each, are exploratory"
      + (study.verdicts.length ? "; the verdicts say more." : "; segtune confirm judges them."),
    study.max_t > 0 && `At epoch ${study.equal_epoch}: ${metricName} after equal training${smooth}, `
      + "with its rank in parentheses.",
    study.pareto.length && "★ Pareto set: no other trial is better in one objective without being "
      + "worse in another.",
    study.exhausted && `${study.exhausted}.`,
    ...study.masks.map((row) => `${row.text}.`),
    study.threshold && `The best threshold of one modality (${study.threshold.modality} `
      + `${study.threshold.above ? "≥" : "<"} ${short(study.threshold.threshold)}) has Dice `
      + `${fixed(study.threshold.dice)}: what a model must beat at the least.`,
    study.data?.ceiling && `At ${study.data.image_size} pixels a perfect model has Dice ${fixed(study.data.ceiling.dice)} on these cases.`,
    trials.some((row) => row.rank == null) && "Without a rank: trials that failed, diverged or did not fit, and those without a finite result.",
  ];
  return el("ul", { class: "notes" }, lines.filter(Boolean).map((line) => el("li", {}, line)));
}
