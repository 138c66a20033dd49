/* What a reader chose stays: over a reload by its address, over new data of a running study as it is. */

const EVERY_MS = 3000;

/** Return the address of a trial on the page, as #trial-7. */
function addressOf(view, trial) {
  return DATA.studies.length > 1 ? `#s${views.indexOf(view)}-trial-${trial}` : `#trial-${trial}`;
}

/** Show the trial that the page's address names. */
function pickAddressed() {
  const [, index, trial] = location.hash.match(/^#(?:s(\d+)-)?trial-(\d+)$/) ?? [];
  const view = views[index ?? 0];
  if (!location.hash) views.forEach((each) => each.pick());
  if (trial === undefined || !view?.byNumber.has(Number(trial))) return;
  view.pick(Number(trial));
  view.panel.scrollIntoView({ block: "nearest" });
}

/** Do what draws a part of the page anew, and leave the focus where it was. */
function keepingFocus(redraw) {
  const before = document.activeElement;
  if (!page.contains(before)) return redraw();
  const row = before.closest("[data-trial]")?.dataset.trial;
  const path = [];
  for (let node = before; node !== page; node = node.parentElement) {
    path.unshift([...node.parentElement.children].indexOf(node));
  }
  redraw();
  if (before.isConnected) return;
  const after = row !== undefined ? page.querySelector(`tr[data-trial="${row}"] button`)
    : path.reduce((node, index) => node?.children[index], page);
  after?.focus({ preventScroll: true });
}

/** Return elements by the part of the page that they are in and what they are there. */
function byName(selector, what) {
  const found = new Map();
  for (const node of page.querySelectorAll(selector)) {
    const name = `${node.closest(".part")?.id} ${what(node)}`;
    found.set(found.has(name) ? `${name} ${found.size}` : name, node);
  }
  return found;
}

/** Return what a reader opened, enlarged and scrolled; numbers in a caption may change. */
function opened() {
  return {
    details: byName("details", (node) => node.querySelector("summary").textContent),
    figures: byName("figure[data-slice]", (node) => node.dataset.slice),
    boxes: byName(".scroll, .parallel", (node) => node.getAttribute("aria-label")?.replace(/\d+/g, "")),
  };
}

/** Draw new data, as far as that goes with what was chosen, hidden, opened and sorted before. */
function renew(data) {
  const before = views;
  const old = opened();
  const scrolled = new Map([...old.boxes].map(([name, box]) => [name, [box.scrollLeft, box.scrollTop]]));
  const [left, top] = [scrollX, scrollY];
  DATA = data;
  keepingFocus(() => {
    show(before);
    const { details, figures, boxes } = opened();
    for (const [name, each] of details) each.open = old.details.get(name)?.open ?? false;
    for (const [name, each] of figures) if (old.figures.get(name)?.classList.contains("large")) enlarge(each);
    for (const [name, each] of boxes) each.scrollTo(...(scrolled.get(name) ?? [0, 0]));
  });
  scrollTo(left, top);
}

/** Return data of a study with what has changed of them since. */
function updated(data, { order, rows, details, pictures, rest }) {
  const [before] = data.studies;
  const [painted] = data.pictures;
  const known = new Map(before.trials.map((row) => [row.trial, row]));
  const trials = order.map(([trial, rank, atEqual]) =>
    ({ ...(rows[trial] ?? known.get(trial)), rank, rank_at_equal: atEqual }));
  const byTrial = Object.fromEntries(Object.entries(pictures).map(([trial, own]) => [trial, own ?? painted.by_trial[trial]]));
  return {
    ...rest,
    studies: [{ ...rest.studies[0], trials, details: { ...before.details, ...details } }],
    pictures: [{ ...rest.pictures[0], by_trial: byTrial }],
  };
}

/** Ask the server for what is newer than a version, until the page is left. */
async function follow(address, version) {
  for (;;) {
    let state = "follows the study";
    let data = null;
    try {
      const found = await fetch(address, { headers: { "If-None-Match": version } });
      if (found.status === 200) {
        data = await found.json();
        version = found.headers.get("ETag");
      } else if (found.status !== 304) {
        state = `not new: ${(await found.text()).trim()}`;
      }
    } catch {
      state = "not new: segtune ui does not answer any more";
    }
    if (data) renew(data.order ? updated(DATA, data) : data);
    document.getElementById("live").textContent = state;
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
