/* One study: what is chosen and filtered there, and its parts. */

/** What is shown of a study; its parts listen to changes. */
class View {
  constructor(study) {
    this.study = study;
    this.trials = study.trials;
    this.rows = [...study.trials, ...study.references];
    this.byNumber = new Map(this.rows.map((row) => [row.trial, row]));
    this.control = study.references.find((row) => row.kind === "control");
    this.best = study.trials.find((row) => row.rank === 1);
    this.metric = study.objective.metric;
    this.metricName = this.metric === "val/dice" ? "Dice" : this.metric;
    for (const row of study.trials) this.describe(row, `trial ${row.trial}`, row.status, "searched");
    for (const row of study.references) {
      const kind = row === this.control ? "control" : "reference";
      this.describe(row, row === this.control ? "control (U-Net)" : `${row.name} (trial ${row.trial})`, kind, kind);
    }
    // Masks of another program: no trial, so that they stand in no chart of trials.
    for (const row of study.masks) this.describe(row, row.name, "reference", "reference");
    this.hasMeans = this.rows.some((row) => row.value_epochs.length > 1);
    this.valueAxis = measuredAxis(this.trials.map((row) => row.value));
    this.axes = this.makeAxes();
    this.hidden = new Set(); // Statuses.
    this.ranges = new Map(); // From an axis's name to the lowest and highest place that is kept.
    this.memory = { leaderboard: { sort: ["rank", false] }, cases: { sort: ["lesion_ml", true] } };
    this.listeners = [];
    this.kept = this.kept.bind(this);
    this.choose = this.choose.bind(this);
  }

  describe(row, name, shape, look) {
    Object.assign(row, { name, shape, look });
  }

  makeAxes() {
    const { space } = this.study.config;
    const axes = this.study.searched.map((name) => {
      const value = (row) => row.params[name];
      const axis = dimensionAxis(space[name], this.trials.map(value));
      const when = space[name].when ?? {};
      return { ...axis, name, value, when, conditional: Object.keys(when).length > 0 };
    });
    const value = (row) => row.value ?? undefined;
    return [...axes, { ...this.valueAxis, name: this.metricName, value, isObjective: true }];
  }

  detail(row) {
    return this.study.details[row.trial];
  }

  /** Return whether a trial passes the filters. */
  kept(row) {
    if (row.look !== "searched") return true;
    return !this.hidden.has(row.status) && this.axes.every((axis) => {
      const range = this.ranges.get(axis.name);
      if (!range) return true;
      const at = axis.place(axis.value(row));
      return range[0] <= at && at <= range[1];
    });
  }

  /** Return trials so that what matters is drawn last, on top. */
  inOrder(rows = this.rows) {
    const weight = (row) => (row.trial === this.chosen ? 4 : row.look !== "searched" ? 3 : row === this.best ? 2 : 0)
      + (this.kept(row) ? 1 : -4);
    const weights = new Map(rows.map((row) => [row, weight(row)]));
    return [...rows].sort((one, other) => weights.get(one) - weights.get(other));
  }

  /** Return the classes of a trial's line. */
  lineOf(row) {
    const marks = [row === this.best && "best", row.ending === "stopped" && "cut",
      row.trial === this.chosen && "chosen", !this.kept(row) && "faded"];
    return ["line", row.look, ...marks.filter(Boolean)].join(" ");
  }

  /** Return a button that chooses a trial, undefined for none. */
  link(row) {
    return row && el("button", { type: "button", class: "trial-link", onclick: () => this.choose(row.trial, true) },
      row.name);
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  changed(what) {
    for (const listener of this.listeners) listener(what);
  }

  get first() {
    return (this.best ?? this.rows[0])?.trial;
  }

  /** Show a trial, the first one for none. */
  pick(trial = this.first) {
    if (this.chosen === trial) return;
    this.chosen = trial;
    this.changed("chosen");
  }

  /** Show a trial because a reader wants it: the page's address says so, and Back undoes it. */
  choose(trial, look = false) {
    this.pick(trial);
    const address = addressOf(this, trial);
    if (location.hash !== address) history.pushState(null, "", address);
    if (look) this.panel.scrollIntoView({ block: "nearest" });
  }

  /** Take over what an earlier view of the study showed, before anything is drawn. */
  continueFrom(before) {
    if (!before) return;
    this.hidden = before.hidden;
    for (const [name, range] of before.ranges) {
      const [was, is] = [before, this].map((view) => view.axes.find((axis) => axis.name === name));
      if (is) this.ranges.set(name, onAxis(range, was, is));
    }
    Object.assign(this.memory.leaderboard, before.memory.leaderboard);
    Object.assign(this.memory.cases, before.memory.cases);
    this.beside = before.beside;
    if (this.byNumber.has(before.chosen)) this.chosen = before.chosen;
  }

  showStatus(status, shown) {
    if (shown) this.hidden.delete(status);
    else this.hidden.add(status);
    this.changed("filter");
  }

  /** Keep the trials between two places of an axis; all where the range is null. */
  brush(axis, range) {
    if (range) this.ranges.set(axis, range);
    else this.ranges.delete(axis);
    this.changed("filter");
  }
}

/** Return a study's section, which shows what an earlier view of it did. */
function studySection(study, index, several, before) {
  const view = new View(study);
  view.continueFrom(before);
  view.chosen ??= view.first;
  views.push(view);
  const id = `s${index}`;
  const part = (name, title, about, content) => el("section", { class: "part", id: `${id}-${name}` },
    el("h3", {}, title), about && el("p", { class: "about" }, about), content);
  const parts = [
    part("leaderboard", "Leaderboard", "Choose a trial to see all of it; choose a column to sort by it.", leaderboard(view)),
    study.max_t > 0 && part("curves", "Learning curves", null, curves(view)),
    study.further_objectives.length > 0 && part("objectives", "Objectives", null, objectives(view)),
    part("parallel", "Settings and result together",
      "Drag along an axis to keep only the trials in a range, here, in the other charts and in the table; by keyboard, "
        + "the arrows narrow an axis and Escape frees it.", parallel(view)),
    part("slices", "Setting by setting", null, slices(view)),
    part("importance", "Importance", null, importance(view)),
    part("trial", "One trial", null, trialPanel(view)),
    part("verdicts", "Verdicts", null, verdicts(view)),
    part("settings", "Study and provenance", null, settings(view)),
  ].filter(Boolean);
  view.panel = parts.find((each) => each.id === `${id}-trial`);
  const links = parts.map((each) => el("a", { href: `#${each.id}` }, each.querySelector("h3").textContent));
  const section = el("section", { class: "study", id }, several && el("h2", {}, study.study),
    sentence(study), answer(view),
    el("nav", { "aria-label": `Parts of ${study.study}` }, links), parts);
  view.changed("chosen");
  return section;
}
