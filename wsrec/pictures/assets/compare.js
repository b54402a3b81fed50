// Two captures beside each other in numbers, and the circumstances under which they were recorded.

function differences() {
  const [own, other] = sides().map((each) => each.recording);
  const total = (recording) => recording.stages.find((each) => each.key === SHOWN.key);
  const rows = [];
  const add = (name, one, two, show) => rows.push([name, one ?? null, two ?? null, show]);
  add("Frames received", own.totals.frames, other.totals.frames, short);
  add("Frames a second, mean", own.totals.rate, other.totals.rate, short);
  add("Frames in the busiest second", own.totals.peak, other.totals.peak, whole);
  add("Rows missing", own.totals.missing, other.totals.missing, whole);
  add("Gaps", own.totals.gaps, other.totals.gaps, whole);
  add("Time lost", own.totals.lost, other.totals.lost, duration);
  const steps = [total(own) ?? total(other), ...own.stages.filter((each) => STEP_NAMES.includes(each.name))].filter(Boolean);
  for (const step of steps) {
    const find = (recording) => recording.stages.find((each) => each.key === step.key);
    for (const [key, name] of [["p50", "p50"], ["p99", "p99"], ["p999", "p99.9"], ["max", "max"]]) {
      if (key === "max" && step !== steps[0]) continue;
      add(`${arrow(step.name)}, ${name}`, find(own)?.[key], find(other)?.[key], duration);
    }
  }
  return rows;
}

function ratio(one, two) {
  if (!one && !two) return one === two && one !== null ? "same" : DASH;
  if (one === null || two === null || !two) return DASH;
  const value = one / two;
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)}\u00d7`;
}

// the two figures that a reader looks for first
function latencyLead(rows) {
  const found = rows.filter(([name, one, two]) => /HANDOFF, p(50|99)$/.test(name) && !name.startsWith("PARSED") && one && two).slice(0, 2);
  return found.map(([name, one, two, show]) => `${name}: ${show(one)} against ${show(two)}, ${ratio(one, two)}`).join(". ") + (found.length ? "." : "");
}

function differencesTable(parent) {
  const rows = differences();
  const columns = [
    { key: "measure", label: "" }, { key: "a", label: "A", number: true }, { key: "b", label: "B", number: true },
    { key: "difference", label: "A \u2212 B", number: true }, { key: "ratio", label: "A / B", number: true },
  ];
  const difference = ([, one, two, show]) => (one === null || two === null ? DASH : one === two ? "0" : one > two ? `+${show(one - two)}` : show(one - two));
  const cells = rows.map((row) => [row[0], row[3](row[1]), row[3](row[2]), difference(row), ratio(row[1], row[2])]);
  const plain = rows.map(([name, one, two]) => [name, one, two, one === null || two === null ? null : one - two, one === null || !two ? null : one / two]);
  const [own, other] = sides();
  const lead = latencyLead(rows);
  const caption = `A: ${clip(own.name, 100)} (${own.recording.feed} on ${own.recording.host}). B: ${clip(other.name, 100)} (${other.recording.feed} on ${other.recording.host}).`;
  parent.append(element("section", { id: "differences", class: "half", "aria-labelledby": "differences-title" },
    element("div", { class: "top" }, element("h2", { id: "differences-title" }, "A against B"), element("div", { class: "tools" },
      element("button", { type: "button", class: "csv", "aria-label": "Save as CSV: A against B", onclick: () => save(`${fileName("against")}.csv`, "text/csv", csv(columns, plain)) }, "CSV"))),
    lead && element("p", { class: "lead" }, lead),
    table(caption, columns, cells),
    element("p", { class: "caption" }, "A ratio below 1 means that A took less or had less. Durations in the CSV file are ns. A difference is a fact about " +
      "these two recordings; other traffic, another time of day or another machine may be its cause.")));
}

function circumstances(parent) {
  const shown = sides();
  const names = [...new Set(shown.flatMap(({ recording }) => recording.circumstances.map((each) => each.name)))];
  if (!names.length) return;
  const value = (recording, name) => recording.circumstances.find((each) => each.name === name)?.values.join(", ") ?? DASH;
  const columns = [{ key: "fact", label: "" }, ...shown.map(({ letter }) => ({ key: letter, label: isCompared() ? letter : "Value" })),
    ...(isCompared() ? [{ key: "same", label: "" }] : [])];
  const rows = names.map((name) => {
    const values = shown.map(({ recording }) => value(recording, name));
    return [name, ...values, ...(isCompared() ? [values[0] === values[1] ? "" : "differs"] : [])];
  });
  parent.append(element("section", { id: "circumstances", class: isCompared() ? "half" : "", "aria-labelledby": "circumstances-title" },
    element("div", { class: "top" }, element("h2", { id: "circumstances-title" }, "Circumstances"), element("div", { class: "tools" },
      element("button", { type: "button", class: "csv", "aria-label": "Save as CSV: circumstances", onclick: () => save(`${fileName("circumstances")}.csv`, "text/csv", csv(columns, rows)) }, "CSV"))),
    table("What the files say of the machine and the settings", columns, rows)));
}
