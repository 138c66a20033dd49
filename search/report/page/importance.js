/* Which settings mattered, and the objective by their values. */

/** Return the settings that are told from chance. */
function sure(importance) {
  return importance.parameters.filter((each) => each.mattered);
}

/** Return the values of a setting, or thirds of its range, that any trial had. */
function tried(parameter) {
  return parameter.groups.filter((group) => group.num_trials);
}

function groupName(group) {
  return "choice" in group ? text(group.choice) : `${short(group.low)} to ${short(group.high)}`;
}

function groupAxis(parameters) {
  return measuredAxis(parameters.flatMap(tried).flatMap((group) => [group.mean, ...(group.interval ?? [])]));
}

function importance(view) {
  const found = view.study.importance;
  if (found.missing) return el("p", {}, `It takes ${count(found.missing, "more trial")} that share an epoch to tell.`);
  const axis = groupAxis(found.parameters);
  const rows = found.parameters.flatMap((each) => tried(each).map((group, index) => [
    index ? "" : [breakable(each.name), " ", badge(each.mattered ? "mattered" : "not told from chance",
      each.mattered ? "good" : "open"), ` p ${short(each.p)}`],
    groupName(group), whisker(group.interval, group.mean, "searched", axis, 160),
    fixed(group.mean, 3), range(group.interval) || "too few trials to tell",
    group.num_trials + (group.diverged ? `, ${group.diverged} diverged` : "")]));
  const diverged = found.num_diverged > 0 && `, ${found.num_diverged} diverged as the worst`;
  return [
    plainTable(`${view.metricName} by setting over ${count(found.num_trials, "trial")}`
      + ` at epoch ${found.epoch}, where nearly all of them were${diverged || ""}`,
      ["setting", "value", "", "mean", "95 % interval", "trials"], rows, { textColumns: 3 }),
    found.left_out.length > 0 && el("p", { class: "note" }, found.left_out.map((each) =>
      `${each.name} (${count(each.num_trials, "trial")}): ${each.missing ? `${each.missing} more needed to tell` : "it did not vary"}`).join("; "), "."),
    el("p", { class: "note" }, `Exploratory (${found.method}): on the fold that selected the trials. p is corrected for all settings: `,
      "a search in which nothing matters names a setting in 5 of 100 cases. Intervals are over the trials, which differ in other settings too."),
  ];
}
