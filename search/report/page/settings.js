/* The study's settings, and where its numbers come from. */

function settings({ study }) {
  const { config, begun } = study;
  const hasPrior = Object.values(config.space).some((dimension) => "confidence" in dimension);
  const space = Object.entries(config.space).map(([name, dimension]) => [
    breakable(name), dimension.type + (dimension.log ? ", log" : ""),
    dimension.choices ? dimension.choices.map(text).join(", ")
      : `${text(dimension.low)} to ${text(dimension.high)}${dimension.step ? ` by ${text(dimension.step)}` : ""}`,
    Object.entries(dimension.when ?? {}).map(([parent, values]) => `${parent}: ${values.map(text).join(", ")}`).join("; "),
    ...(hasPrior ? ["confidence" in dimension ? `${text(dimension.prior ?? null)} (${dimension.confidence})` : ""] : [])]);
  const others = ["data", "objective", "sampler", "scheduler", "stall", "budget", "trials"].flatMap((section) =>
    Object.entries(config[section] ?? {}).map(([key, value]) => [`${section}.${key}`, whole(value)]));
  const fixedOnes = Object.entries(config.train).map(([name, value]) => [breakable(name), whole(value)]);
  const control = Object.entries(config.control ?? {}).map(([name, value]) => [breakable(`control: ${name}`), whole(value)]);
  return el("div", { class: "columns" },
    plainTable("What was searched", ["setting", "kind", "values", "only with", ...(hasPrior ? ["prior"] : [])], space,
      { textColumns: 5 }),
    plainTable("How it was searched", ["setting", "value"], [...others, ["seed", config.seed], ...control], { textColumns: 2 }),
    plainTable("Fixed settings; all others have the trainer's defaults", ["setting", "value"], fixedOnes, { textColumns: 2 }),
    study.facts && plainTable("Data, as the store says", ["what", ""], study.facts, { textColumns: 2 }),
    plainTable("Provenance", ["what", ""], provenance(study, begun), { textColumns: 2 }));
}

function provenance(study, begun) {
  const versions = Object.entries(begun.versions ?? {}).map(([name, version]) => `${name} ${version}`);
  const hosts = [...new Set([...study.trials, ...study.references].flatMap((row) => row.hosts))];
  return [
    ["folder", study.folder],
    ["begun", begun.time ? new Date(begun.time * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC" : null],
    ["commit", begun.commit], ["versions", versions.join(", ")], ["store", begun.store_hash],
    ["settings", begun.config_hash], ["study", begun.uid], ["hosts", hosts.join(", ")],
    ["warm start", (begun.warm_start ?? []).join(", ")],
  ].filter(([, value]) => value).map(([name, value]) => [name, el("span", { class: "hash" }, value)]);
}
