/* The answer in one look: what is best, whether it really is, what mattered, what it cost. */

function answer(view) {
  return el("div", { class: "cards" }, bestCard(view), betterCard(view), matteredCard(view), costCard(view));
}

/** Return the answer as a sentence, its commands as code. */
function sentence(study) {
  const parts = study.answer.split("`");
  return el("p", { class: "answer" }, parts.map((part, index) => (index % 2 ? el("code", {}, part) : breakable(part))));
}

function onFold(study) {
  return study.fold == null ? "" : ` on validation fold ${study.fold}`;
}

function card(title, ...content) {
  return el("section", { class: "card" }, el("h3", {}, title), content);
}

function badge(word, kind) {
  return el("span", { class: `badge ${kind}` }, word);
}

function bestCard(view) {
  const { study, best, metric } = view;
  if (!best) return card("Best of the search", el("p", {}, "No trial has a result yet."));
  const alone = metric === "val/dice" && best.value_epochs.length < 2;
  const others = alone ? null : `Dice of epoch ${best.epochs}: ${fixed(best.dice)}`;
  return card(
    "Best of the search",
    el("p", { class: "big" }, fixed(best.value), " ", el("small", {}, view.metricName,
      study.max_t > 0 && `, ${whereOf(best)}`)),
    el("p", {}, view.link(best), `, ${best.status}`,
      study.max_t > 0 && ` at epoch ${best.epochs} of ${best.goal}`, others && `; ${others}`),
    strip(view),
    el("p", { class: "note" }, badge(study.label, "label"),
      ` the best of ${count(view.trials.length, "trial")}${onFold(study)}`),
  );
}

/** Draw the best, the control, the references, masks among them, and the threshold on one axis, with intervals. */
function strip(view) {
  const { study, best, control } = view;
  const rows = [best, control, ...study.references.filter((row) => row !== control), ...study.masks]
    .filter((row) => row?.dice != null)
    .map((row) => [row.name, row.dice, row.dice_interval, row.look]);
  if (study.threshold) rows.push(["threshold", study.threshold.dice, null, "threshold"]);
  if (study.data?.ceiling) rows.push(["ceiling", study.data.ceiling.dice, null, "threshold"]);
  const axis = diceAxis(rows.flatMap(([, dice, interval]) => [dice, ...(interval ?? [])]));
  return el("table", { class: "strip" },
    el("caption", {}, "Dice of the last epoch with its 95 % interval over the cases"),
    el("tbody", {}, rows.map(([name, dice, interval, look]) => el("tr", {},
      el("th", { scope: "row" }, name),
      el("td", {}, whisker(interval, dice, look, axis, 110)),
      el("td", { class: "number" }, fixed(dice, 3), interval && el("small", {}, ` ${range(interval)}`))))));
}

function diceAxis(values) {
  const finite = values.filter((value) => value != null);
  return numberAxis(Math.min(0, ...finite), Math.max(0.1, ...finite));
}

function betterCard(view) {
  const { study } = view;
  const title = "Is it really better?";
  const verdict = study.verdicts.at(-1);
  if (!verdict) return card(title, exploratory(view), readings(study));
  const candidate = verdict.scores.find((score) => score.role === "candidate");
  const about = verdict.comparisons.filter((each) => each.trial === candidate?.trial);
  return card(
    title,
    el("p", {}, "Run again with new seeds ", verdict.where, ": ",
      view.link(view.byNumber.get(candidate?.trial)), candidate && ` has ${judged(verdict)} ${fixed(candidate.mean, 3)} `,
      candidate && el("span", { class: "nowrap" }, range(candidate.interval, fixed, true))),
    el("ul", { class: "verdicts" }, about.map((each) => el("li", {}, verdictBadge(each.verdict),
      ` against the ${opponent(each)}`,
      each.interval && el("small", {}, ` ${judged(verdict)} ${signed(each.mean, 3)}, ${level(each)} ${range(each.interval, signed)}`)))),
    study.verdicts.length > 1 && el("p", { class: "note" }, "This is the newest of ",
      count(study.verdicts.length, "verdict"), "; all are below."),
    readings(study),
  );
}

/** Say how often the test set was read, if it was. */
function readings({ test_readings: number }) {
  return number > 0 && el("p", { class: "note" }, `The test set has been read ${count(number, "time")}.`);
}

/** Return whom a verdict's trial is compared with. */
function opponent({ family, other }) {
  return family === "masks" ? `masks ${other}` : `${family} (trial ${other})`;
}

const VERDICTS = { better: "good", worse: "bad", equivalent: "even", none: "open" };

function verdictBadge(word) {
  return badge(word === "none" ? "no verdict" : word, VERDICTS[word] ?? "open");
}

function level(comparison) {
  return `${Number((100 * comparison.level).toPrecision(4))} %`;
}

/** Say how the best compares with the control where nothing confirms it. */
function exploratory({ study, best, control, metricName }) {
  const advice = el("p", {}, "One seed on one fold decides nothing: ",
    el("code", {}, `segtune confirm ${study.study}`), " runs the best again, with new seeds on ",
    "folds that did not select them, and gives verdicts.");
  if (best?.value == null || control?.value == null) return [badge("not confirmed", "open"), advice];
  const sign = study.objective.mode === "max" ? 1 : -1;
  const difference = best.value - control.value;
  const said = sign * difference > 0 ? "ahead of" : "behind";
  return [
    el("p", {}, badge("exploratory", "open"), ` The best of the search is ${said} the control (U-Net): `,
      `${metricName} ${signed(difference)}.`),
    advice,
  ];
}

function matteredCard(view) {
  const { importance } = view.study;
  const title = "What mattered";
  if (importance.missing) {
    return card(title, el("p", {}, `It takes ${count(importance.missing, "more trial")} that share an epoch to tell. `,
      "The slices below show what was tried."));
  }
  const told = sure(importance);
  const others = importance.parameters.filter((each) => !each.mattered);
  const axis = groupAxis(told);
  return card(title,
    !told.length && el("p", {}, "Of no setting it can be told from chance."),
    told.slice(0, 2).map((each) => el("table", { class: "strip" },
      el("caption", {}, breakable(each.name), el("small", {}, ` p ${short(each.p)}; ${view.metricName} by value`)),
      el("tbody", {}, tried(each).map((group) => el("tr", {},
        el("th", { scope: "row" }, groupName(group)),
        el("td", {}, whisker(group.interval, group.mean, "searched", axis, 110)),
        el("td", { class: "number" }, fixed(group.mean, 3), group.interval && el("small", {}, ` ${range(group.interval)}`))))))),
    told.length > 2 && el("p", {}, "Also: ", told.slice(2).map((each) => each.name).join(", "), "."),
    told.length > 0 && others.length > 0 && el("p", {}, "Not told from chance: ", others.map((each) => each.name).join(", "), "."),
    el("p", { class: "note" }, badge("exploratory", "open"), ` ${importance.method} over `,
      `${count(importance.num_trials, "trial")} at epoch ${importance.epoch}, corrected for ${count(importance.parameters.length, "setting")}`));
}

function costCard({ study, trials }) {
  const counts = new Map();
  for (const row of trials) counts.set(row.status, (counts.get(row.status) ?? 0) + 1);
  const { epochs, wall_hours: wall } = study.spent;
  const saved = study.pruned_by && study.epochs_saved != null
    && `${study.pruned_by} saved ${Math.round(100 * study.epochs_saved)} % of the epochs.`;
  return card(
    study.finished ? "What it cost" : "What it cost so far",
    el("p", { class: "big" }, short(study.spent[study.cost]), " ", el("small", {}, `${unitOf(study.cost)}-hours`)),
    el("p", {}, `${count(trials.length, "searched trial")}: `,
      [...counts].map(([name, n]) => `${n} ${name}`).join(", "), "."),
    el("p", {}, `${count(epochs, "epoch")} in all, ${duration(wall)} of wall time. `, saved),
    !study.finished && el("p", {}, badge(study.standing, "open")),
  );
}
