/* All there is of one chosen trial. */

const SCORE_NAMES = {
  dice: ["Dice", 3], avd_ml: ["AVD mL", 2], lesion_f1: ["lesion F1", 2],
  lesion_count_diff: ["count diff", 0], hd95_mm: ["HD95 mm", 1], predicted_ml: ["predicted mL", 2],
  false_positive_ml: ["false pos. mL", 2],
};

function trialPanel(view) {
  const select = el("select", { onchange: (event) => view.choose(Number(event.target.value)) },
    view.rows.map((row) => el("option", { value: row.trial },
      `${row.name}${row.rank ? `, rank ${row.rank}` : ""}: ${fixed(row.value)}`)));
  const besides = el("select", { class: "beside-choice",
    onchange: (event) => { view.beside = Number(event.target.value); view.changed("chosen"); } },
    view.rows.map((row) => el("option", { value: row.trial }, row.name)));
  const body = el("div", { class: "trial" });
  view.listen((changed) => {
    if (changed !== "chosen" || !view.byNumber.has(view.chosen)) return;
    select.value = view.chosen;
    const beside = besideOf(view, view.byNumber.get(view.chosen));
    if (beside) besides.value = beside.trial;
    body.replaceChildren(...trialParts(view, view.byNumber.get(view.chosen)).flat(Infinity).filter(Boolean));
  });
  return [el("p", { class: "choose" }, el("label", {}, "Trial ", select), " ",
    view.rows.length > 1 && el("label", {}, "beside ", besides)), body];
}

function trialParts(view, row) {
  const detail = view.detail(row);
  const ours = !view.study.trainer; // another trainer tells neither volumes nor pictures
  const beside = besideOf(view, row);
  return [
    facts(view, row),
    ...besideParts(view, row, beside),
    ...(ours ? [heading("Pictures"), pictures(view, row, beside)] : []),
    heading("Settings that differ from the default"), changedTable(view, row),
    heading("Decisions"), decisionList(row, detail),
    ...(ours ? [heading("Dice by lesion volume"), subgroups(view, row, beside),
      heading("Case by case"), caseTable(view, row, beside)] : []),
    el("details", { class: "all-settings" }, el("summary", {}, `All ${Object.keys(view.study.defaults).length} settings`),
      configTable(view, row)),
  ];
}

function heading(words) {
  return el("h4", {}, words);
}

function facts({ study, metricName }, row) {
  const number = (value, decimals) => (value == null ? null : fixed(value, decimals));
  const pairs = [
    ["status", `${row.status}${row.reason ? `: ${row.reason}` : ""}`],
    ["notes", (row.notes ?? []).join("; ")],
    ["deleted", row.deleted],
    ["log", row.log],
    ["epochs", `${epochsText(row)} of ${row.goal}`.replace(/( of \d+)\1$/, "$1")],
    row.value_epochs.length > 1 ? [metricName, `${number(row.value) ?? "–"}, ${whereOf(row)}`] : null,
    metricName === "Dice" ? null : [`${metricName}, epoch ${row.epochs}`, number(row.last_value)],
    [`Dice, epoch ${row.epochs}`, number(row.dice)],
    ["95 % interval", range(row.dice_interval, fixed, row.num_cases)],
    ["AVD mL", number(row.avd_ml, 2)],
    ["lesion F1", number(row.lesion_f1, 3)],
    [`${unitOf(study.cost)}-hours`, number(row[study.cost], 2)],
    row.fold == null ? ["seed", `${row.seed}`] : ["seed, fold", `${row.seed}, ${row.fold}`],
    ["hosts", row.hosts.join(", ")],
    ["kind", row.kind === "control" ? "control (U-Net), never pruned"
      : study.references.includes(row) ? "reference, never pruned" : row.from_prior ? "sampled, around the prior" : row.kind],
  ];
  return [
    el("dl", { class: "facts" }, pairs.filter((pair) => pair?.[1]).map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("p", { class: "note" }, badge(study.label, "label"), " numbers of the fold that selected the trials"),
  ];
}

function pictures(view, row, beside) {
  const { painted, by_trial: byTrial } = view.study.pictures;
  const embedded = Object.keys(byTrial).length;
  const own = byTrial[row.trial] ?? [];
  const page = painted > embedded
    ? ` This page holds the pictures of ${embedded} of the ${painted} trials that have some, the best first; `
      + "the others are files in the study's folder." : "";
  if (!own.length) {
    return el("p", {}, row.pictures.length ? page : "No pictures were painted of this trial.");
  }
  const left = row.pictures.length - own.length;
  const more = left > 0 ? `${count(left, "picture")} more of this trial ${left === 1 ? "is" : "are"} in the study's folder.` : "";
  // The same slices of the other trial, where a reader asked for that one.
  const theirs = (beside?.trial === view.beside && byTrial[beside.trial]) || [];
  const epochs = new Set(own.map((picture) => Number(picture.name.match(/^epoch(\d+)-/)?.[1])));
  const other = [...epochs].filter((epoch) => epoch && epoch !== row.epochs);
  return [
    other.length > 0 && el("p", { class: "note" }, badge("another epoch", "open"),
      ` painted after epoch ${other.join(", ")}; the tables and the weights that stand for the trial are of epoch ${row.epochs}`),
    el("div", { class: "pictures" }, own.flatMap((picture) => [figure(row, picture),
      ...theirs.filter((each) => sliceOf(each) === sliceOf(picture)).map((each) => figure(beside, each))])),
    more + page && el("p", { class: "note" }, more, page),
  ];
}

function figure(row, picture) {
  const words = pictureText(row, picture.name);
  return el("figure", { "data-slice": `${row.trial} ${sliceOf(picture)}` },
    el("button", { type: "button", title: "larger or smaller", "aria-pressed": "false",
      onclick: (event) => enlarge(event.currentTarget.closest("figure")) },
      el("img", { src: picture.data, alt: words, width: picture.width, height: picture.height })),
    el("figcaption", {}, words));
}

function sliceOf(picture) {
  return picture.name.replace(/^epoch\d+-/, "");
}

function enlarge(figure) {
  const large = figure.classList.toggle("large");
  figure.querySelector("button").setAttribute("aria-pressed", String(large));
}

function pictureText(row, file) {
  const [, epoch, name] = file.match(/^epoch(\d+)-(.*)\.png$/) ?? [null, null, file];
  if (epoch === null) return `${row.name}: ${name}`;
  const path = name.endsWith("-path");
  const what = path ? "the path from noise to mask" : "images, truth, prediction and probability";
  return `${row.name}, case ${path ? name.slice(0, -5) : name} after epoch ${Number(epoch)}: ${what}`;
}

function changedTable({ study }, row) {
  const searched = new Set(study.searched);
  if (!row.changed) return el("p", {}, "An earlier version trained it, with settings that are no more.");
  const rows = Object.entries(row.changed).map(([name, [usual, value]]) =>
    [breakable(name), whole(value), whole(usual), searched.has(name) ? "searched" : "set"]);
  if (!rows.length) return el("p", {}, "None: this is the default configuration.");
  return plainTable(`${row.name}: settings that differ from the default`,
    ["setting", "value", "default", ""], rows, { textColumns: 4 });
}

function configTable({ study }, row) {
  const data = study.trainer ? {} : { "data.fold": row.fold, "data.store_hash": study.store_hash };
  const own = { ...study.defaults, ...data, epochs: row.goal };
  const names = [...new Set([...Object.keys(own), ...Object.keys(row.changed ?? {})])];
  const rows = names.map((name) => {
    const differs = name in (row.changed ?? {});
    const [usual, value] = differs ? row.changed[name] : [own[name], own[name]];
    const cells = [breakable(name), differs ? [el("strong", {}, whole(value)), " ≠"] : whole(value), whole(usual)];
    cells.look = differs ? "differs" : "";
    return cells;
  });
  return plainTable(`${row.name}: its resolved configuration; ≠ marks what differs from the default`,
    ["setting", "value", "default"], rows, { textColumns: 3 });
}

function decisionList(row, detail) {
  if (!detail.decisions.length) return el("p", {}, "No rung has judged it.");
  return el("ol", { class: "decisions" }, detail.decisions.map((each) =>
    el("li", {}, `epoch ${each.epoch}: `, el("strong", {}, each.action), `, ${each.reason}`)));
}

/** Return the mean over the cases of a group that have a value, null where none has. */
function groupMean(values, members) {
  const found = members.map((index) => values?.[index]).filter((value) => value != null);
  return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : null;
}

function subgroups(view, row, beside) {
  const [mine, theirs] = [view.detail(row).scores, beside && view.detail(beside).scores];
  if (!mine) return missingCases();
  const rows = ["<5 mL", "5-20 mL", ">=20 mL", "empty"].flatMap((name) => {
    const members = view.study.cases.flatMap((each, index) => (each.group === name ? [index] : []));
    if (!members.length) return [];
    const mean = (scores, column) => groupMean(scores?.[column], members);
    const dice = name === "empty" ? [null, null] : [mean(mine, "dice"), mean(theirs, "dice")];
    const difference = dice[0] != null && dice[1] != null ? dice[0] - dice[1] : null;
    return [[name.replace(">=", "≥ ").replace("<", "< ").replace("-", "–"), members.length, fixed(dice[0], 3),
      ...(theirs ? [fixed(dice[1], 3), signed(difference, 3)] : []), fixed(mean(mine, "avd_ml"), 2),
      ...(theirs ? [fixed(mean(theirs, "avd_ml"), 2)] : []), fixed(mean(mine, "false_positive_ml"), 2)]];
  });
  const head = ["lesion", "cases", `Dice, ${row.name}`, ...(theirs ? [`Dice, ${beside.name}`, "difference"] : []),
    "AVD mL", ...(theirs ? [`AVD mL, ${beside.name}`] : []), "false pos. mL"];
  return [
    plainTable(`${row.name}: means by lesion volume`, head, rows),
    theirs && el("p", { class: "note" }, badge("exploratory", "open"),
      " one seed on one fold: differences of single groups are hints"),
  ];
}

function missingCases() {
  return el("p", {}, "This trial's cases are not at hand here: it has reported none, or trained elsewhere.");
}

function caseTable(view, row, beside) {
  const { cases } = view.study;
  const [mine, theirs] = [view.detail(row).scores, beside && view.detail(beside).scores];
  if (!mine) return missingCases();
  const rows = cases.map((each, index) => ({ ...each, index })).filter(({ index }) => mine.dice[index] != null);
  const score = (name) => ({
    name: SCORE_NAMES[name][0], key: name, value: ({ index }) => mine[name][index],
    cell: ({ index }) => fixed(mine[name][index], SCORE_NAMES[name][1]),
  });
  const theirDice = ({ index }) => theirs?.dice[index];
  const difference = (each) => theirDice(each) == null ? null : mine.dice[each.index] - theirDice(each);
  const columns = [
    { name: "case", key: "case", text: true, low: true, value: (each) => each.case },
    { name: "lesion mL", key: "lesion_ml", value: (each) => each.lesion_ml, cell: (each) => fixed(each.lesion_ml, 2) },
    score("dice"),
    theirs && { name: `Dice, ${beside.name}`, key: "theirs", value: theirDice, cell: (each) => fixed(theirDice(each), 3) },
    theirs && { name: "difference", key: "difference", value: difference, cell: (each) => signed(difference(each), 3) },
    ...["predicted_ml", "avd_ml", "lesion_f1", "lesion_count_diff", "hd95_mm", "false_positive_ml"].map(score),
  ].filter(Boolean);
  const table = sortable({
    caption: `${row.name}: its validation cases at epoch ${row.epochs}`, columns, rows: () => rows,
    memory: view.memory.cases,
  });
  table.node.classList.add("tall", "cases");
  return [caseChart(rows, mine, theirs, row, beside), table.node];
}

/** Plot the Dice of each case with a lesion by its volume, the other trial's beside it. */
function caseChart(rows, mine, theirs, row, beside) {
  const lesions = rows.filter((each) => each.group !== "empty" && each.lesion_ml > 0);
  if (lesions.length < 2) return null;
  const xAxis = measuredAxis(lesions.map((each) => each.lesion_ml), { log: true });
  const yAxis = numberAxis(0, 1);
  const { host } = chart({
    label: `Dice of each case by lesion volume, ${row.name}; the values are in the table`,
    height: 230,
    paint(root, width, height) {
      const { x, y } = frame(root, width, height, { xAxis, yAxis, xName: "lesion mL", yName: "Dice" });
      return lesions.flatMap(({ case: name, lesion_ml: ml, index }) => {
        const left = x(xAxis.place(ml));
        const ends = [theirs?.dice[index], mine.dice[index]];
        const [other, own] = ends.map((dice) => y(yAxis.place(dice ?? 0)));
        if (ends[0] != null) {
          root.append(draw("path", { class: "link", d: `M${left},${other}V${own}` }));
          root.append(mark(beside.shape, left, other, beside.look, 3.5));
        }
        root.append(mark(row.shape === "control" ? "control" : "completed", left, own, `${row.look} chosen`, 4));
        return [{ x: left, y: own, name: `${name}, ${short(ml)} mL: ${fixed(ends[1], 3)}` }];
      });
    },
  });
  const keys = [[markKey("completed", `${row.look} chosen`), row.name]];
  if (theirs) keys.push([markKey(beside.shape, beside.look), beside.name]);
  return [host, legend(keys)];
}
