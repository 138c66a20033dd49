/* Axes: from a value to its place between 0 and 1, and the ticks to label. */

const ABSENT = -0.1; // The place of a setting that a trial does not have.

/** Return the axis of a dimension of the space, as wide as the values that were tried. */
function dimensionAxis(dimension, values) {
  if (dimension.type === "categorical") return choiceAxis(dimension.choices);
  const numbers = values.filter((value) => typeof value === "number");
  const low = Math.min(dimension.low, ...numbers);
  const high = Math.max(dimension.high, ...numbers);
  return numberAxis(low, high, { log: dimension.log && low > 0, whole: dimension.type === "int" });
}

/** Return where a range of an axis lies once new data widened that; an end that lay at the axis's stays there. */
function onAxis(range, was, is) {
  if (was.choices || (was.low === is.low && was.high === is.high)) return range;
  return range.map((place) => (place <= 0 || place >= 1 ? place : is.place(was.at(place))));
}

/** Return an axis of a few values, at equal distances. */
function choiceAxis(choices) {
  const names = choices.map(text);
  const at = (index) => (names.length === 1 ? 0.5 : index / (names.length - 1));
  return {
    choices: names.length,
    place(value) {
      const index = value === undefined ? -1 : names.indexOf(text(value));
      return index < 0 ? ABSENT : at(index);
    },
    ticks: names.map((name, index) => ({ at: at(index), name })),
  };
}

/** Return an axis of numbers; at(place) is the value there. */
function numberAxis(low, high, { log = false, whole = false, about = 5 } = {}) {
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  const map = log ? Math.log10 : (value) => value;
  const place = (value) =>
    typeof value === "number" ? (map(value) - map(low)) / (map(high) - map(low)) : ABSENT;
  const at = (share) => (log ? 10 ** (map(low) + share * (map(high) - map(low))) : low + share * (high - low));
  const marks = log ? powers(low, high) : steps(low, high, about, whole);
  return { place, at, low, high, ticks: marks.map((value) => ({ at: place(value), name: short(value) })) };
}

function steps(low, high, about, whole) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const marks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    marks.push(Number((n * step).toPrecision(12)));
  }
  return marks;
}

function powers(low, high) {
  const decades = Math.log10(high / low);
  const factors = decades > 2.5 ? [1] : decades > 1 ? [1, 3] : [1, 2, 3, 5, 7];
  const marks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    marks.push(...factors.map((factor) => Number((factor * 10 ** power).toPrecision(6))));
  }
  const inside = marks.filter((mark) => mark >= low * 0.999 && mark <= high * 1.001);
  return inside.length > 1 ? inside : [low, high];
}

/** Return the axis of some measured values, with a little room at both ends. */
function measuredAxis(values, options = {}) {
  const finite = values.filter((value) => value != null);
  if (!finite.length) return numberAxis(0, 1, options);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (options.log && low > 0) return numberAxis(low / 1.15, high * 1.15, options);
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return numberAxis(low - room, high + room, { ...options, log: false });
}
