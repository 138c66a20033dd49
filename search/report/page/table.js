/* Tables that sort: a button in each head cell, an arrow and aria-sort for the sorted one. */

const FIRST_ROWS = 200;

/**
 * Return a table and a function that shows its rows anew.
 *
 * columns: {name, key, value(row), cell(row), low: true where small values come first at the first
 * click}. memory.sort, a key and whether it descends, is kept up to date. rows() are sorted, pinned() follow them in their own order. look(row) gives attributes.
 *
 * Of many rows the first FIRST_ROWS are drawn, and that which always(row) is true of; a button draws all.
 */
function sortable({ caption, columns, rows, memory, pinned = () => [], look = () => ({}), always = () => false }) {
  let [by, descending] = memory.sort;
  const body = el("tbody");
  const beside = el("tbody", { class: "beside" });
  const heads = columns.map((column) => {
    const arrow = el("span", { class: "arrow", "aria-hidden": "true" });
    const button = el("button", { type: "button", onclick: () => sortBy(column) },
      breakable(column.name), arrow);
    const attributes = { scope: "col", class: column.text ? "text" : "number" };
    return { column, arrow, cell: el("th", { ...attributes, title: column.title }, button) };
  });
  const table = el("table", {}, el("caption", {}, el("span", {}, caption)),
    el("thead", {}, el("tr", {}, heads.map((head) => head.cell))), body, beside);
  const rest = el("p", { class: "rest" }, el("button", { type: "button", onclick: showAll }));

  function showAll() {
    memory.all = true;
    show();
    body.children[FIRST_ROWS]?.querySelector("button")?.focus();
  }

  function sortBy(column) {
    descending = by === column.key ? !descending : !column.low;
    by = column.key;
    memory.sort = [by, descending];
    show();
  }

  function show() {
    for (const { column, arrow, cell } of heads) {
      const sorted = column.key === by;
      arrow.textContent = sorted ? (descending ? " ▼" : " ▲") : "";
      cell.setAttribute("aria-sort", sorted ? (descending ? "descending" : "ascending") : "none");
    }
    const column = columns.find((each) => each.key === by);
    const sorted = column ? [...rows()].sort(compareBy(column.value, descending)) : rows();
    const drawn = memory.all ? sorted : sorted.filter((row, index) => index < FIRST_ROWS || always(row));
    rest.hidden = drawn.length === sorted.length;
    rest.firstChild.textContent = `Show all ${sorted.length} rows: the first ${FIRST_ROWS} are here`;
    keepingFocus(() => {
      body.replaceChildren(...drawn.map(line));
      beside.replaceChildren(...pinned().map(line));
    });
  }

  function line(row) {
    return el("tr", look(row), columns.map((column, index) => {
      const value = column.value(row);
      const content = column.cell ? column.cell(row) : text(value ?? undefined);
      const inFull = typeof value === "number" && !Number.isInteger(value) && String(value);
      const kind = { class: column.text ? "text" : "number", title: inFull };
      return index === 0 ? el("th", { ...kind, scope: "row" }, content) : el("td", kind, content);
    }));
  }

  show();
  return { node: scroller(table, caption), rest, show };
}

/** Numbers by size, texts by alphabet; what is missing comes last either way. */
function compareBy(value, descending) {
  return (one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a == null || b == null) return (a == null) - (b == null);
    const order = typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return descending ? -order : order;
  };
}

/** Return a box in which a wide table scrolls sideways, by keyboard too. */
function scroller(node, label) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, node);
}

/** Return a plain table: the head's texts, and rows of cells, the first of which heads its row. */
function plainTable(caption, head, rows, { textColumns = 1 } = {}) {
  const kind = (index) => ({ class: index < textColumns ? "text" : "number" });
  return scroller(el("table", {}, el("caption", {}, el("span", {}, caption)),
    el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", ...kind(i) }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", { class: row.look }, row.map((cell, i) =>
      i === 0 ? el("th", { scope: "row", ...kind(i) }, cell) : el("td", kind(i), cell)))))), caption);
}
