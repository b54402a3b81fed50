// The page from top to bottom: the verdict, then the figures of the recording that is chosen.

function heading() {
  const [own, other] = DATA.captures;
  const name = own.sources.join(", ");
  document.getElementById("title").textContent = other ? `${clip(name, 60)} against ${clip(other.sources.join(", "), 60)}` : clip(name, 100);
  const shown = sides()[0]?.recording;
  const where = shown ? `${shown.feed} on ${shown.host}${period(shown)}` : "no recording";
  document.getElementById("where").textContent = own.part ? `${where}, ${own.part}` : where;
}

function period({ first, last }) {
  if (first === null) return "";
  const [begin, end] = [dateTime(first), dateTime(last)];
  return `, ${begin} to ${begin.slice(0, 10) === end.slice(0, 10) ? end.slice(11) : end} UTC`;
}

function verdicts() {
  const place = document.getElementById("verdicts");
  place.replaceChildren();
  place.className = isCompared() ? "two" : "";
  for (const { letter, recording } of sides()) {
    const { state, sentence, received, notes } = recording.verdict;
    const words = `${state[0].toUpperCase()}${state.slice(1)}: ${sentence}.`;
    const facts = element("dl", { class: "facts" }, ...recording.tiles.map(({ label, value, note, state: of }) =>
      element("div", {}, element("dt", {}, label), element("dd", { class: of }, value), note && element("dd", { class: "note" }, note))));
    const id = `verdict-${letter}`;
    place.append(element("section", { class: `verdict ${state}`, "aria-labelledby": id },
      element("h2", { id }, isCompared() ? `${letter}: ${words}` : words),
      element("p", { class: "received" }, `${received}.`),
      notes.length ? element("ul", {}, ...notes.map((note) => element("li", {}, note))) : "", facts));
  }
  const problems = DATA.captures.flatMap((each) => each.problems);
  if (problems.length) {
    place.append(element("section", { class: "verdict incomplete", "aria-label": "Problems" }, element("h2", {}, "Not everything could be read"),
      element("ul", {}, ...problems.map((each) => element("li", {}, each)))));
  }
}

// which recording, and which total, where there are several
function choices() {
  const place = document.getElementById("choices");
  place.replaceChildren();
  const choice = (label, options, chosen, change) => {
    const select = element("select", {}, ...options.map(([value, text]) => {
      const option = element("option", { value }, clip(text, 80));
      option.selected = value === chosen;
      return option;
    }));
    select.addEventListener("change", () => change(select.value));
    place.append(element("label", {}, `${label} `, select));
  };
  if (PAIRS.length > 1) {
    choice("Recording", PAIRS.map(([own], at) => [String(at), `${own.feed} on ${own.host}`]), String(SHOWN.pair), (value) => {
      SHOWN.pair = Number(value);
      SHOWN.key = null;
      show();
    });
  }
  const known = totals();
  if (known.length > 1) {
    choice("Frames", known.map(({ key, name, count }) => [key, `${arrow(name)} (${plural(count, "frame")})`]), SHOWN.key, (value) => {
      SHOWN.key = value;
      show();
    });
  }
}

function figures() {
  const place = document.getElementById("figures");
  forgetPlots();
  place.replaceChildren();
  if (!PAIRS.length) {
    place.append(element("p", { class: "empty" }, "There is no recording to draw."));
    return;
  }
  if (isCompared()) {
    differencesTable(place);
    circumstances(place);
  }
  if (sides().some(({ recording }) => !recording.drawn)) {
    place.append(element("p", { class: "empty" }, "The figures of this recording do not fit into this page beside the others: make a page of its feed alone."));
    if (!isCompared()) circumstances(place);
    return;
  }
  compositionFigure(place);
  latencyFigure(place);
  const hasDelay = sides().some(({ recording }) => recording.over_time?.delay);
  const half = isCompared() || !hasDelay ? "" : "half";
  rateFigure(place, half);
  delayFigure(place, half);
  const curves = ["step", "channel", "connection", "delay"].filter((by) => sides().some(({ recording }) => recording.curves.some((each) => each.by === by)));
  const width = ["", "", "half", "third", "half"][curves.length];
  const reading = "To the right each label is another nine: of 1,000 frames one is beyond 99.9.";
  const texts = {
    step: ["Percentiles by step", `Each step at its own percentiles, over all frames; those of one percentile do not add up to the total's. ${reading}`],
    channel: ["Percentiles by channel", `The total of the frames of each channel. A channel of large messages takes longer; it is not treated otherwise. ${reading}`],
    connection: ["Percentiles by connection", `The total of the frames of each connection. Connections of one receiver wait for each other. ${reading}`],
    delay: ["Exchange to receive by channel", "Time of arrival minus the exchange's own time, with both clocks in it; what is below zero counts as zero here."],
  };
  for (const by of curves) curvesFigure(place, { id: `curves-${by}`, by, title: texts[by][0], caption: texts[by][1], size: width });
  eventsFigure(place);
  coverageFigure(place);
  if (!isCompared()) circumstances(place);
  drawPlots();
  for (const plot of PLOTS) watcher.observe(plot.element);
}

function show() {
  SHOWN.key ??= totals()[0]?.key ?? null;
  heading();
  verdicts();
  choices();
  figures();
}

theme(preferred());
document.getElementById("theme").addEventListener("click", () => {
  theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  drawPlots();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  theme(preferred());
  drawPlots();
});
addEventListener("beforeprint", () => paper(true));
addEventListener("afterprint", () => paper(false));
matchMedia("print").addEventListener("change", ({ matches }) => paper(matches));
document.getElementById("footer").append(element("p", {}, `Made by wsrec ${DATA.version}. This page holds all of its data and fetches nothing. ` +
  "Times are UTC. Charts: Apache ECharts (Apache License 2.0)."));
show();
