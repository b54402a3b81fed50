// Elements, tables, files that are saved, and the frame that each figure has. Text is only ever set as text.

const ROWS_SHOWN = 500;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((each) => each !== "" && each !== null && each !== undefined));
  return made;
}

const cellClass = ({ number, screen }) => [number && "number", screen && "screen"].filter(Boolean).join(" ") || null;

// columns: {key: its name in CSV, label, show: value to text, number: whether it is one, screen: whether not on paper}
function table(caption, columns, rows, most = ROWS_SHOWN) {
  const head = element("tr", {}, ...columns.map((each) =>
    element("th", { scope: "col", class: cellClass(each) }, each.label)));
  const body = element("tbody");
  for (const row of rows.slice(0, most)) {
    body.append(element("tr", {}, ...row.map((value, at) => {
      const text = columns[at].show ? columns[at].show(value) : value ?? DASH;
      const shown = clip(text, 60);
      return element("td", { class: cellClass(columns[at]), title: shown === String(text) ? null : text }, shown);
    })));
  }
  const more = rows.length > most ? ` The first ${whole(most)} of ${whole(rows.length)} rows; the CSV file has all.` : "";
  const made = element("table", {}, element("caption", {}, caption + more), element("thead", {}, head), body);
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

// a text that a spreadsheet would take for a formula is quoted by an apostrophe
function csvCell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text) && !/^-?\d+$/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const csv = (columns, rows) =>
  [columns.map((each) => each.key), ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";

function save(name, type, content) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const fileName = (id) => `wsrec-${sides()[0].recording.feed}-${id}`.replace(/[^\w.-]+/g, "_").slice(0, 80);

// A figure: title, plots, key, caption; buttons that save it, and its numbers as a table.
//   plots: [{title, make, label, linked}]; data(): {columns, rows}; key: [{name, color, kind}]
function figure(parent, { id, title, caption, plots, data, key = [], size: width = "", extra = null }) {
  const heading = element("h2", { id: `${id}-title` }, title);
  const tools = element("div", { class: "tools" });
  const section = element("section", { id, class: width, "aria-labelledby": `${id}-title` },
    element("div", { class: "top" }, heading, tools));
  const place = element("div", { class: plots.length > 1 ? "beside" : "" });
  section.append(place);
  parent.append(section);
  const made = plots.map((each) => {
    const cell = element("figure", {});
    if (each.title) cell.append(element("h3", {}, each.title));
    place.append(cell);
    return new Plot(cell, each);
  });
  made.forEach((plot, at) => {
    const part = made.length > 1 ? ` ${plots[at].short ?? at + 1}` : "";
    tools.append(element("button", {
      type: "button", class: "svg", "aria-label": `Save as SVG: ${title}${part}`,
      onclick: () => save(`${fileName(id)}${part.replaceAll(" ", "-")}.svg`, "image/svg+xml", plot.svg()),
    }, `SVG${part}`));
  });
  tools.append(element("button", {
    type: "button", class: "csv", "aria-label": `Save as CSV: ${title}`,
    onclick: () => {
      const { columns, rows } = data();
      save(`${fileName(id)}.csv`, "text/csv", csv(columns, rows));
    },
  }, "CSV"));
  if (key.length) section.append(keyList(key));
  section.append(element("p", { class: "caption" }, caption));
  if (extra) section.append(...extra);
  section.append(numbers(title, data));
  return { section, plots: made };
}

function keyList(key) {
  return element("ul", { class: "key" }, ...key.map(({ name, color: of, kind }) => element("li", { title: name },
    element("i", { class: kind ?? "", style: /line|dashed/.test(kind ?? "") ? `border-color:${of}` : `background:${of}`, "aria-hidden": "true" }),
    clip(name, 48))));
}

function numbers(title, data) {
  const details = element("details", {}, element("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const { columns, rows } = data();
    details.append(table(title, columns, rows));
  });
  return details;
}

const side = { key: "capture", label: "Capture" };
// a first column with the capture's letter, where two are compared
const withSide = (columns) => (isCompared() ? [side, ...columns] : columns);
const sideCell = (letter) => (isCompared() ? [letter] : []);
