// The plots: made by ECharts as SVG, drawn again for each width, theme and paper; and what all of them share.

const PAPER_WIDTH = 676;
const FONT = 'system-ui, -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", Arial, sans-serif';
const PLOTS = [];
let onPaper = false;

class Plot {
  // make(width) returns {height, option}; label: what the plot shows, for who cannot see it
  constructor(parent, { make, label, linked = null, onReady = null }) {
    this.element = element("div", { class: "plot", role: "img", "aria-label": label, tabindex: "-1" });
    parent.append(this.element);
    Object.assign(this, { make, linked, onReady, chart: null, zoom: null });
    PLOTS.push(this);
  }

  draw() {
    const width = onPaper ? PAPER_WIDTH : this.element.clientWidth;
    if (!width) return;
    const { height, option } = this.make(width);
    const { min, max } = [option.xAxis].flat()[0];
    Object.assign(this, { width, begin: min, end: max });
    this.element.style.height = `${height}px`;
    if (!this.chart) {
      this.chart = echarts.init(this.element, null, { renderer: "svg", width, height });
      this.element.chart = this.chart;
      if (this.linked) this.chart.on("datazoom", () => this.zoomed());
    } else {
      this.chart.resize({ width, height, silent: true });
    }
    this.chart.setOption({ ...common(), ...option }, { notMerge: true });
    if (this.zoom) this.chart.dispatchAction({ type: "dataZoom", ...this.zoom }, { silent: true });
    this.onReady?.(this.chart);
    this.onReady = null;
  }

  // the same time in all plots of this capture, as far as they have it: events may begin before messages
  zoomed() {
    const { start, end, startValue, endValue } = this.chart.getOption().dataZoom[0];
    const isZoomed = start > 0 || end < 100;
    for (const each of PLOTS) {
      if (each.linked !== this.linked) continue;
      const [from, to] = [Math.max(startValue, each.begin), Math.min(endValue, each.end)];
      each.zoom = isZoomed && from < to ? { startValue: from, endValue: to } : null;
      if (each !== this) each.chart?.dispatchAction({ type: "dataZoom", ...(each.zoom ?? { start: 0, end: 100 }) }, { silent: true });
    }
  }

  svg() {
    const url = this.chart.getDataURL({ type: "svg", backgroundColor: color("--card") });
    return decodeURIComponent(url.slice(url.indexOf(",") + 1));
  }
}

function forgetPlots() {
  for (const each of PLOTS.splice(0)) {
    watcher.unobserve(each.element);
    each.chart?.dispose();
  }
}

function drawPlots() {
  for (const each of PLOTS) each.draw();
}

const resized = new Set();
const watcher = new ResizeObserver((entries) => {
  if (onPaper) return;
  if (!resized.size) {
    requestAnimationFrame(() => {
      for (const each of resized) if (each.element.clientWidth !== each.width) each.draw();
      resized.clear();
    });
  }
  for (const entry of entries) {
    const plot = PLOTS.find((each) => each.element === entry.target);
    if (plot) resized.add(plot);
  }
});

// on paper all is light, and as wide as the paper
function paper(isPaper) {
  if (isPaper === onPaper) return;
  onPaper = isPaper;
  if (isPaper) {
    paper.theme = document.documentElement.dataset.theme;
    theme("light");
  } else {
    theme(paper.theme);
  }
  drawPlots();
}

const common = () => ({
  animation: false,
  useUTC: true,
  textStyle: { fontFamily: FONT, fontSize: 11, color: color("--muted") },
});

// ECharts puts the element into its tooltip: no text in it is ever read as HTML
const tooltip = (formatter, trigger = "item") => ({
  trigger,
  confine: true,
  transitionDuration: 0,
  backgroundColor: color("--card"),
  borderColor: color("--line"),
  borderWidth: 1,
  padding: [7, 10],
  extraCssText: "box-shadow:0 4px 14px rgba(0,0,0,.16);max-width:min(360px,90vw);white-space:normal;overflow-wrap:anywhere",
  textStyle: { color: color("--text"), fontSize: 12, fontFamily: FONT },
  axisPointer: { type: "line", lineStyle: { color: color("--faint"), type: "solid", width: 1 } },
  formatter,
});

function tip(title, rows, note = "") {
  const table = element("table", { class: "tip" });
  for (const [name, value, mark, more] of rows) {
    const head = element("th", { scope: "row" });
    if (mark) head.append(element("i", { style: `background:${mark}` }));
    head.append(name);
    table.append(element("tr", {}, head, element("td", { class: "number" }, value), more ? element("td", { class: "number" }, more) : ""));
  }
  return element("div", { class: "tip" }, element("strong", {}, title), table, note && element("p", {}, note));
}

const axisText = () => ({ color: color("--muted"), fontSize: 11, fontFamily: FONT });
const axisLine = () => ({ lineStyle: { color: color("--line") } });
const gridLine = () => ({ show: true, lineStyle: { color: color("--grid") } });

function timeAxis(more = {}) {
  return {
    type: "time",
    axisLine: axisLine(),
    axisTick: { show: true, lineStyle: { color: color("--line") } },
    axisLabel: {
      ...axisText(),
      hideOverlap: true,
      formatter: {
        year: "{yyyy}", month: "{MMM}", day: "{MMM} {d}", hour: "{HH}:{mm}", minute: "{HH}:{mm}", second: "{HH}:{mm}:{ss}",
        millisecond: "{HH}:{mm}:{ss}.{SSS}", none: "{HH}:{mm}:{ss}.{SSS}",
      },
    },
    splitLine: { show: false },
    ...more,
  };
}

function valueAxis(tick, more = {}) {
  return {
    type: "value",
    axisLine: { show: false },
    axisTick: { show: false },
    axisLabel: { ...axisText(), formatter: tick, hideOverlap: true },
    splitLine: gridLine(),
    ...more,
  };
}

// whole decades around values, as an axis of all plots that are compared
function decades(values) {
  const positive = values.filter((each) => each !== null && each > 0);
  if (!positive.length) return { min: 1, max: 10 };
  const [low, high] = [Math.min(...positive), Math.max(...positive)];
  const min = 10 ** Math.floor(Math.log10(low));
  return { min, max: Math.max(10 ** Math.ceil(Math.log10(high)), min * 10) };
}

const logAxis = (tick, values, more = {}) => valueAxis(tick, { type: "log", logBase: 10, ...decades(values), ...more });

const zoomInside = () => ({ type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: false, moveOnMouseWheel: false });

const zoomSlider = () => ({
  type: "slider",
  filterMode: "none",
  height: 14,
  bottom: 4,
  brushSelect: false,
  showDataShadow: false,
  showDetail: false,
  borderColor: "transparent",
  backgroundColor: color("--grid"),
  fillerColor: color("--line"),
  handleSize: 14,
  handleStyle: { color: color("--card"), borderColor: color("--faint") },
  moveHandleSize: 0,
  emphasis: { handleStyle: { borderColor: color("--accent") } },
});
