/* The page: studies side by side where there are several, then each by itself. */

function summary(studies) {
  const axis = diceAxis(studies.flatMap((study) => [...study.trials.slice(0, 1), ...study.references]
    .flatMap((row) => [row.dice, ...(row.dice_interval ?? [])])));
  const rows = studies.map((study, index) => {
    const best = study.trials.find((row) => row.rank === 1);
    const control = study.references.find((row) => row.kind === "control");
    const verdict = study.verdicts.at(-1);
    const judged = verdict?.comparisons.find((each) => each.family === "control");
    return [
      el("a", { href: `#s${index}` }, study.study), best ? `trial ${best.trial}` : "–", fixed(best?.dice),
      [whisker(best?.dice_interval, best?.dice, "searched", axis), el("small", {}, range(best?.dice_interval))],
      fixed(control?.dice), fixed(study.threshold?.dice),
      judged ? [verdictBadge(judged.verdict), ` (trial ${judged.trial})`] : badge("not confirmed", "open"),
      study.importance ? breakable(study.importance.parameters[0].name) : "–",
      study.trials.length, short(study.spent.gpu_hours || study.spent.carrier_hours),
    ];
  });
  return plainTable("Studies side by side; their best trials' Dice is selected on, optimistic",
    ["study", "best", "Dice", "95 % interval", "control", "threshold", "against the control", "mattered most", "trials",
      "GPU- or trial-h"], rows);
}

/** Return a box of numbers to type, which does what brushing does. */
function ranges(view) {
  const box = el("div", { class: "ranges" });
  const show = () => box.replaceChildren(...[...view.ranges.keys()].map((name) =>
    el("button", { type: "button", class: "range", onclick: () => view.brush(name, null) }, `${name}: range ✕`)));
  view.listen(show);
  return box;
}

const DATA = JSON.parse(document.getElementById("data").textContent);
document.getElementById("page").replaceChildren(
  el("header", {}, el("h1", {}, DATA.studies.map((study) => study.study).join(", ")),
    el("p", {}, `segtune, ${DATA.made}`)),
  ...(DATA.studies.length > 1 ? [summary(DATA.studies)] : []),
  ...DATA.studies.map(studySection),
);
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
