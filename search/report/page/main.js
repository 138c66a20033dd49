/* The page: studies side by side where there are several, then each by itself. */

function summary(studies) {
  const axis = diceAxis(studies.flatMap((study) => [...study.trials.slice(0, 1), ...study.references]
    .flatMap((row) => [row.dice, ...(row.dice_interval ?? [])])));
  const hasMasks = studies.some((study) => study.masks.length);
  const rows = studies.map((study, index) => {
    const best = study.trials.find((row) => row.rank === 1);
    const control = study.references.find((row) => row.kind === "control");
    const verdict = study.verdicts.at(-1);
    const judged = verdict?.comparisons.find((each) => each.family === "control");
    return [
      el("a", { href: `#s${index}` }, study.study), best ? `trial ${best.trial}` : "–", fixed(best?.dice),
      [whisker(best?.dice_interval, best?.dice, "searched", axis), el("small", {}, range(best?.dice_interval, fixed, best?.num_cases))],
      fixed(control?.dice), ...(hasMasks ? [masksOf(study)] : []), fixed(study.threshold?.dice), fixed(study.data?.ceiling?.dice),
      judged ? [verdictBadge(judged.verdict), ` (trial ${judged.trial})`] : badge("not confirmed", "open"),
      mattered(study.importance),
      study.trials.length, `${short(study.spent[study.cost])} ${unitOf(study.cost)}-h`,
    ];
  });
  return [
    plainTable("Studies side by side; their best trials' Dice is selected on, optimistic",
      ["study", "best", "Dice", "95 % interval", "control", ...(hasMasks ? ["masks"] : []), "threshold", "ceiling", "against the control", "mattered most", "trials",
        "cost"], rows),
    DATA.incomparable.length > 0 && el("p", { class: "note" }, badge("not comparable", "bad"),
      ` They have different ${DATA.incomparable.join(" and ")}: compare each with its own control.`),
    DATA.between.length > 0 && betweenTable(studies, DATA.between),
  ];
}

/** Compare the confirmed best of the studies, case by case. */
function betweenTable(studies, between) {
  const metric = judged({ metric: studies[0].objective.metric });
  const rows = between.map((each) => [
    each.trial, each.other, verdictBadge(each.verdict), ...differenceCells(each),
    each.hours ? took(each) : "–",
    [each.measured && `measured by ${each.measured.map(samplingText).join(" and by ")} `, each.reason]]);
  return plainTable("Between studies: what was run again with the same seeds on the same folds",
    ["best", "against", "verdict", `difference of ${metric}`, ...DIFFERENCE_HEADS, "a training took", ""],
    rows, { textColumns: 3 });
}

/** Say what a training of each side took. */
function took({ hours, units }) {
  const [one, other] = units.map((unit) => `${unitOf(unit)}-h`);
  return `${short(hours[0])}${one === other ? "" : ` ${one}`} and ${short(hours[1])} ${other}`;
}

function masksOf({ masks }) {
  return masks.map((row) => `${row.name} ${fixed(row.dice)}`).join(", ") || "–";
}

function mattered(importance) {
  if (importance.missing) return "–";
  const told = sure(importance);
  return told.length ? breakable(told[0].name) : el("small", {}, "none told");
}

const page = document.getElementById("page");
let DATA = JSON.parse(document.getElementById("data").textContent);
let views = [];

/** Draw all studies, as earlier views of them were. */
function show(before = []) {
  const several = DATA.studies.length > 1;
  views = [];
  DATA.studies.forEach((study, index) => (study.pictures = DATA.pictures[index]));
  page.replaceChildren(
    el("header", {}, el("h1", {}, several ? count(DATA.studies.length, "study").replace("ys", "ies") : DATA.studies[0].study),
      el("p", {}, `segtune, ${DATA.made}`), page.dataset.live && el("p", { id: "live", role: "status" })),
    ...(several ? summary(DATA.studies).filter(Boolean) : []),
    ...DATA.studies.map((study, index) => studySection(study, index, several, before[index])),
  );
}

show();
pickAddressed();
addEventListener("hashchange", pickAddressed);
addEventListener("popstate", pickAddressed);
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
if (page.dataset.live) follow(page.dataset.live, page.dataset.version);
