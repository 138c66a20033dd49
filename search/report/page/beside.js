/* A chosen trial beside another one: what they were set to, how they learned, and each case's Dice. */

/** Return the trial that stands beside a chosen one: the reader's, else the control, or the best. */
function besideOf(view, row) {
  const chosen = view.byNumber.get(view.beside);
  if (chosen && chosen !== row) return chosen;
  return row === view.control ? view.best : view.control;
}

function besideParts(view, row, beside) {
  if (!beside || beside === row) return [];
  const rows = [row, beside];
  return [
    heading(`Beside ${beside.name}`),
    differenceText(view, row, beside),
    differingSettings(view, row, beside),
    view.study.max_t > 0 && pairChart(view, rows, view.metricName, (each) => view.detail(each).values),
    training(view, rows),
  ];
}

/** Say how far apart two trials are, case by case, where the page has that. */
function differenceText({ study }, row, beside) {
  const is = (each, one, other) => each.one === one.trial && each.other === other.trial;
  const found = study.contrasts.find((each) => is(each, row, beside) || is(each, beside, row));
  if (!found) return null;
  const turn = found.one === row.trial ? 1 : -1;
  const interval = found.interval && [turn * found.interval[0], turn * found.interval[1]].sort((a, b) => a - b);
  const epochs = row.epochs === beside.epochs ? "" : `, of epochs ${row.epochs} and ${beside.epochs}`;
  return el("p", { class: "contrast" }, badge("exploratory", "open"),
    ` Dice ${signed(turn * found.mean, 3)} ${range(interval, signed, true)}, case by case${epochs}`);
}

function differingSettings({ study }, row, beside) {
  if (!row.changed || !beside.changed) return null;
  const value = (each, name) => whole(each.changed[name] ? each.changed[name][1] : study.defaults[name]);
  const names = [...new Set([...Object.keys(row.changed), ...Object.keys(beside.changed)])];
  const rows = names.filter((name) => value(row, name) !== value(beside, name))
    .map((name) => [breakable(name), value(row, name), value(beside, name)]);
  if (!rows.length) return el("p", {}, "They have the same settings.");
  return plainTable("settings that differ", ["setting", row.name, beside.name], rows, { textColumns: 3 });
}

/** Plot what two trials have by epoch; get(row) gives a value an epoch, null for none. */
function pairChart(view, rows, name, get, height = 230) {
  const told = rows.filter((row) => get(row)?.some((value) => value != null));
  if (!told.length) return null;
  const yAxis = measuredAxis(told.flatMap(get));
  const last = Math.max(...told.flatMap((row) => view.detail(row).epochs), 1);
  const xAxis = numberAxis(0, last, { whole: true, about: 6 });
  const look = (row) => (row === rows[0] ? `${row.look} chosen` : row.look);
  const { host } = chart({
    label: `${name} by epoch: ${told.map((row) => row.name).join(" and ")}`,
    height,
    paint(root, width, high) {
      const { x, y } = frame(root, width, high, { xAxis, yAxis, xName: "epoch", yName: name });
      return told.flatMap((row) => {
        const points = get(row).flatMap((value, index) => (value == null ? [] : [{
          x: x(xAxis.place(view.detail(row).epochs[index])), y: y(yAxis.place(value)),
          name: `${row.name}, epoch ${view.detail(row).epochs[index]}: ${fixed(value)}`,
        }]));
        const path = points.map((point) => `${point.x.toFixed(1)},${point.y.toFixed(1)}`).join("L");
        root.append(draw("path", { class: `line ${look(row)}`, d: `M${path}` }));
        return points;
      });
    },
  });
  return el("div", { class: "pair" }, host,
    legend(told.map((row) => [lineKey(look(row)), row.name])));
}

/** Plot loss terms, learning rate and gradient norm of two trials, where the page has them. */
function training(view, rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(view.detail(row).training ?? {})))];
  if (!names.length) return null;
  return el("details", {}, el("summary", {}, "Loss terms, learning rate and gradient norm by epoch"),
    el("div", { class: "slices" }, names.map((name) =>
      pairChart(view, rows, name, (row) => view.detail(row).training?.[name] ?? [], 190))));
}
