/* Elements and text. Every text reaches the page as a text node, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element; attributes that are functions are listeners, false ones are left out. */
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Return an SVG element. */
function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key.replace(/^on/, ""), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

/** Return a dotted name that may break after its dots and underscores, numbers in one piece. */
function breakable(name) {
  return name.split(/(?<=[._/])(?!\d)/).flatMap((part, index) => (index ? [el("wbr"), part] : [part]));
}

/** Return a measured number with so many decimals, or in three digits; a dash for none. */
function fixed(value, decimals) {
  if (value == null) return "–";
  const words = decimals === undefined && Math.abs(value) < 999.5 ? value.toPrecision(3) : value.toFixed(decimals ?? 0);
  return words.replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
}

/** Return a difference, always with its sign. */
function signed(value, decimals) {
  return value == null ? "–" : (value < 0 ? "" : "+") + fixed(value, decimals);
}

/** Return an interval in words; none of what was measured is "cases too few or too alike to tell". */
function range(interval, format = fixed, measured = false) {
  if (!interval) return measured ? "cases too few or too alike to tell" : "";
  return `[${format(interval[0], 3)}, ${format(interval[1], 3)}]`;
}

/** Return a number in three digits: 3e-4, 0.013, 12. */
function short(value) {
  if (value !== 0 && Math.abs(value) < 1e-3) {
    return value.toExponential(2).replace(/\.?0+e/, "e").replace("-", value < 0 ? "−" : "-");
  }
  return String(Number(value.toPrecision(Math.abs(value) < 1000 ? 3 : 6)));
}

/** Return a setting's value as people write it. */
function text(value) {
  if (value === undefined) return "";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : short(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Return a value in full, as it would stand in a study file. */
function whole(value) {
  return typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);
}

function duration(hours) {
  return hours < 1 ? `${Math.round(60 * hours)} min` : `${short(hours)} h`;
}

/** Return whose hours a cost is of: of GPUs, where the trials have some. */
function unitOf(cost) {
  return { gpu_hours: "GPU", cpu_hours: "CPU" }[cost];
}

/** Return epochs in words: 7-9, or 3, 6, 9 where others lie between. */
function epochsInWords(epochs) {
  const [first, last] = [epochs[0], epochs.at(-1)];
  return last > first && last - first === epochs.length - 1 ? `${first}-${last}` : epochs.join(", ");
}

/** Return of which epochs a trial's value is: epoch 9, or mean of epochs 7-9. */
function whereOf(row) {
  const epochs = row.value_epochs;
  return epochs.length > 1 ? `mean of epochs ${epochsInWords(epochs)}` : `epoch ${epochs[0] ?? 0}`;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
