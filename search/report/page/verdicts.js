/* What `segtune confirm` found. */

function verdicts(view) {
  const { study } = view;
  const atTheEnd = study.confirmed && el("p", {}, `Told apart at the end: ${study.confirmed}.`);
  if (!study.verdicts.length) return atTheEnd ?? exploratory(view);
  return [atTheEnd, ...study.verdicts.map((verdict) => [
    el("h4", {}, `Confirmed ${verdict.where}`), scoreTable(view, verdict), comparisonTable(view, verdict),
    verdict.as_used && el("p", { class: "note" }, asUsed(verdict.as_used))])];
}

/** Say what the best has as a finished model is used. */
function asUsed({ trial, sampling, mean, interval }) {
  return `Trial ${trial} as it is used, ${samplingText(sampling)}: Dice ${fixed(mean)} ${range(interval, fixed, true)}.`;
}

/** Say how masks are sampled. */
function samplingText({ num_ensemble, fuse, method, timestep_respacing }) {
  const masks = num_ensemble === 1 ? "a mask" : `the ${fuse} of ${num_ensemble} masks`;
  return `${masks} of ${method} in ${timestep_respacing} steps`;
}

/** Return the name of what a verdict is about; before version 0.2 that was Dice. */
function judged(verdict) {
  return !verdict.metric || verdict.metric === "val/dice" ? "Dice" : verdict.metric;
}

function scoreTable(view, verdict) {
  const axis = diceAxis(verdict.scores.flatMap((score) => [score.mean, ...(score.interval ?? [])]));
  const rows = verdict.scores.map((score) => {
    const bySeed = new Map(score.seeds.map((seed, index) => [seed, score.by_seed[index]]));
    const look = { control: "control", reference: "reference", masks: "reference" }[score.role] ?? "searched";
    const part = score.part ? ` (${score.part[0]} of ${score.part[1]} cases)` : "";
    const name = score.role === "masks" ? `${score.trial}${part}` : `trial ${score.trial}`;
    return [view.link(view.byNumber.get(score.trial)) ?? name, score.role,
      whisker(score.interval, score.mean, look, axis, 150), fixed(score.mean), range(score.interval, fixed, true),
      ...verdict.seeds.map((seed) => fixed(bySeed.get(seed)))];
  });
  const seeds = verdict.seeds.map((seed, index) => `seed ${seed}, fold ${verdict.folds[index]}`);
  return plainTable(`${judged(verdict)} of what was run again ${verdict.where}`,
    ["trial", "role", "", judged(verdict), "95 % interval", ...seeds], rows, { textColumns: 3 });
}

function comparisonTable(view, verdict) {
  const rows = verdict.comparisons.map((each) => [
    `trial ${each.trial}`, opponent(each), verdictBadge(each.verdict), ...differenceCells(each), each.reason]);
  return plainTable(`Verdicts ${verdict.where}`, ["trial", "against", "verdict", `difference of ${judged(verdict)}`,
    ...DIFFERENCE_HEADS, ""], rows, { textColumns: 3 });
}

const DIFFERENCE_HEADS = ["interval", "p (Holm)", "seeds", "cases"];

/** Return the difference of a comparison, and under DIFFERENCE_HEADS what it rests on. */
function differenceCells(each) {
  return [each.mean == null ? "–" : signed(each.mean), each.interval ? `${level(each)} ${range(each.interval, signed)}` : "–",
    each.p_holm == null ? "–" : short(each.p_holm), each.seeds.length,
    (each.num_different ?? (each.num_cases ?? []).reduce((sum, n) => sum + n, 0)) || "–"];
}
