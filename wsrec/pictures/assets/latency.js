// Where the time went: the composition of frames, the total over time with its slowest frames, and percentile curves.

function compositionFigure(parent) {
  const all = sides().flatMap(({ letter, recording }, at) =>
    recording.compositions.filter((each) => each.key === SHOWN.key).map((each) => ({ ...each, letter, at })));
  if (!all.length) return;
  const kinds = ["all", "first"].filter((frames) => all.some((each) => each.frames === frames));
  const names = [...new Map(all.flatMap((each) => each.shares.map((share) => [share.key, share.name])))];
  const titles = { all: "All frames", first: "Frames that are the first of their read" };
  const colors = names.map(([, name]) => STEP_NAMES.indexOf(name));
  figure(parent, {
    id: "composition",
    title: "Where each microsecond went",
    caption: "Frames whose total is near a percentile (p50: between the 49th and the 51st), and how much of it each step took on " +
      "average. Each percentile has a scale of its own: its longest bar is full. The steps of a bar add up to its total; it does not " +
      "say that each step is at its own percentile, because those do not add up.",
    key: names.map(([, name], at) => ({ name: arrow(name), color: `var(${STEP_SERIES[colors[at]]})` })),
    plots: kinds.map((frames) => {
      const bars = all.filter((each) => each.frames === frames)
        .sort((one, other) => one.percentile - other.percentile || one.at - other.at);
      return {
        title: kinds.length > 1 ? titles[frames] : "",
        short: kinds.length > 1 ? frames : "",
        label: `Stacked bars: ${bars.map((bar) => `${barName(bar)} ${duration(bar.mean)}`).join(", ")}`,
        make: (width) => compositionOption(bars, names, colors, width),
      };
    }),
    data: () => ({
      columns: withSide([
        { key: "frames", label: "Frames" }, { key: "percentile", label: "Percentile", number: true, show: (p) => `p${p}` },
        { key: "count", label: "Count", number: true, show: whole },
        { key: "mean_ns", label: arrow(all[0].name), number: true, show: duration },
        ...names.map(([key, name]) => ({ key: `${key}_ns`, label: arrow(name), number: true, show: duration })),
      ]),
      rows: all.map((bar) => [
        ...sideCell(bar.letter), bar.frames, bar.percentile, bar.count, bar.mean,
        ...names.map(([key]) => bar.shares.find((share) => share.key === key)?.mean ?? null),
      ]),
    }),
  });
}

const barName = (bar) => `p${bar.percentile}${isCompared() ? ` ${bar.letter}` : ""}`;

// what lies to the right of zero: a segment may arrive during the read, and NIC->EVENT be negative
const upward = (bar) => bar.shares.reduce((sum, share) => sum + Math.max(share.mean, 0), 0);

function compositionOption(bars, names, colors, width) {
  const longest = new Map();
  for (const bar of bars) longest.set(bar.percentile, Math.max(longest.get(bar.percentile) ?? 0, upward(bar)));
  const least = Math.min(0, ...bars.map((bar) => Math.min(...bar.shares.map((share) => share.mean)) / longest.get(bar.percentile)));
  const left = isCompared() ? 62 : 46;
  const room = Math.max(width - left - 66, 50);
  const height = 10 + bars.length * (isCompared() ? 26 : 36);
  const part = (bar, key) => bar.shares.find((share) => share.key === key)?.mean ?? 0;
  const series = names.map(([key, name], at) => {
    const fill = stepColor(colors[at]);
    return {
      name, type: "bar", stack: "total", barWidth: isCompared() ? 18 : 24,
      itemStyle: { color: fill, borderColor: color("--card"), borderWidth: 0.5 },
      data: bars.map((bar) => {
        const share = part(bar, key) / longest.get(bar.percentile);
        const text = duration(part(bar, key));
        const fits = Math.abs(share) * room / (1 - least) > text.length * 6.4 + 8;
        return { value: share, label: { show: fits, formatter: text, color: inkOn(fill), fontSize: 11 } };
      }),
      emphasis: { focus: "none" },
    };
  });
  series.push({
    type: "bar", stack: "total", silent: true, itemStyle: { color: "transparent" },
    data: bars.map((bar) => ({
      value: 1e-9,
      label: { show: true, position: "right", distance: 6, formatter: duration(bar.mean), color: color("--text"), fontWeight: 600, fontSize: 12 },
    })),
  });
  return {
    height,
    option: {
      grid: { left, right: 66, top: 4, bottom: 4 },
      xAxis: { type: "value", show: false, min: least, max: 1.0001 },
      yAxis: {
        type: "category", inverse: true, data: bars.map(barName), axisLine: { show: false }, axisTick: { show: false },
        axisLabel: { ...axisText(), fontSize: 12, color: color("--text") },
      },
      tooltip: tooltip(({ dataIndex }) => {
        const bar = bars[dataIndex];
        return tip(
          `${barName(bar)}: ${duration(bar.mean)}`,
          names.map(([key, name], at) => [arrow(name), duration(part(bar, key)), stepColor(colors[at]), percent(part(bar, key) / bar.mean)]),
          `${plural(bar.count, "frame")} with ${duration(bar.low)} to ${duration(bar.high)}`,
        );
      }),
      series,
    },
  };
}

// the total over time

function latencyFigure(parent) {
  const shown = sides().map((each, at) => ({ ...each, at, latency: latencyOf(each.recording) })).filter((each) => each.latency);
  if (!shown.length) return;
  const range = shown.flatMap(({ latency }) => [...latency.p50, ...latency.max]);
  const moments = new Moments(shown);
  const made = figure(parent, {
    id: "latency",
    title: `Latency over time, ${arrow(shown[0].latency.name)}`,
    caption: "The total of every frame by the time at which it arrived: the line is the median, the bands reach to p99 and to p99.9, and a " +
      "dot is the slowest frame of its step. The axis is logarithmic. Choose a moment to see its slowest frames. This is the time " +
      "on this host, from the arrival in the kernel or NIC, not the way from the exchange.",
    key: shown.flatMap(({ at, letter }) => {
      const name = (text) => (isCompared() ? `${letter}: ${text}` : text);
      const of = `var(${at ? "--other" : "--accent"})`;
      return [{ name: name("p50"), color: of, kind: "line" }, { name: name("to p99"), color: `color-mix(in srgb, ${of} 42%, transparent)` },
        { name: name("to p99.9"), color: `color-mix(in srgb, ${of} 20%, transparent)` }, { name: name("slowest frame"), color: of, kind: "dot" }];
    }),
    plots: shown.map((each) => ({
      title: isCompared() ? `${each.letter}: ${clip(each.name, 60)}` : "",
      short: each.letter,
      label: `Line: the median is ${duration(median(each.latency.p50))}, the slowest frame took ` +
        `${duration(Math.max(...each.latency.max))}. The table below names the slowest frames.`,
      linked: each.letter,
      make: (width) => latencyOption(each, range, moments.chosen, width),
      onReady: (chart) => moments.listen(chart, each),
    })),
    data: () => ({
      columns: withSide([
        { key: "begin_ns", label: "Begin (UTC)", show: (ns) => dateTime(ns, 3) }, { key: "frames", label: "Frames", number: true, show: whole },
        ...["p50", "p90", "p99", "p999", "max"].map((key) => ({ key: `${key}_ns`, label: key.replace("p999", "p99.9"), number: true, show: duration })),
      ]),
      rows: shown.flatMap(({ letter, recording, latency }) => stepsOf(recording.over_time.begins).map((step, at) => [
        ...sideCell(letter), stepNs(step, recording.over_time.width), latency.count[at],
        latency.p50[at], latency.p90[at], latency.p99[at], latency.p999[at], latency.max[at],
      ])),
    }),
    extra: [moments.element],
  });
  moments.plots = made.plots;
}

function latencyOption({ at, recording, latency, letter }, range, chosen, width) {
  const { width: step, begins } = recording.over_time;
  const steps = stepsOf(begins);
  const times = steps.map((each) => stepTime(each + 0.5, step));
  const broken = breaks(steps);
  const of = sideColor(at);
  const line = (values) => values.flatMap((value, each) =>
    broken[each] ? [[times[each] - 1e-3, null], [times[each], value]] : [[times[each], value]]);
  const runs = [];
  latency.p50.forEach((value, each) => {
    if (value === null) return;
    if (!runs.length || broken[each] || latency.p50[each - 1] === null) runs.push([]);
    runs[runs.length - 1].push(each);
  });
  const band = (name, values, opacity) => ({
    name, type: "custom", silent: true, z: 1, encode: { x: [0, 1], y: [2, 3] }, clip: true,
    data: runs.map((run) => [times[run[0]], times[run[run.length - 1]], latency.p50[run[0]], values[run[0]]]),
    renderItem: ({ dataIndex }, api) => {
      const run = runs[dataIndex];
      const edge = (list, each) => api.coord([times[each], Math.max(list[each], 1)]);
      const points = [...run.map((each) => edge(values, each)), ...run.toReversed().map((each) => edge(latency.p50, each))];
      return { type: "polygon", shape: { points }, style: { fill: of, opacity } };
    },
  });
  const isChosen = chosen.letter === letter && chosen.at !== null;
  const spikes = new Set(slowestSteps(latency, 8));
  return {
    height: onPaper ? 250 : width < 560 ? 260 : 320,
    option: {
      grid: { left: 58, right: 14, top: 10, bottom: onPaper ? 26 : 46 },
      xAxis: timeAxis(timeOf(recording)),
      yAxis: logAxis(durationTick, range),
      dataZoom: [zoomInside(), { ...zoomSlider(), show: !onPaper }],
      tooltip: tooltip((points) => {
        const each = points[0].axisValue === undefined ? 0 : nearest(times, points[0].axisValue);
        return tip(`${clockTime(stepNs(steps[each], step), 3)} UTC`, [
          ["p50", duration(latency.p50[each])], ["p90", duration(latency.p90[each])], ["p99", duration(latency.p99[each])],
          ["p99.9", duration(latency.p999[each])], ["slowest", duration(latency.max[each])], ["frames", whole(latency.count[each])],
        ], `in ${duration(step)}; click for its slowest frames`);
      }, "axis"),
      series: [
        band("to p99.9", latency.p999, 0.16),
        band("to p99", latency.p99, 0.22),
        { name: "p50", type: "line", data: line(latency.p50), showSymbol: runs.every((run) => run.length < 2), symbolSize: 3, z: 3, lineStyle: { color: of, width: 1.8 }, itemStyle: { color: of } },
        {
          name: "slowest", type: "scatter", z: 4, cursor: "pointer",
          data: latency.max.map((value, each) => ({
            value: [times[each], value], symbolSize: spikes.has(each) ? 7 : 3,
            itemStyle: { color: of, opacity: spikes.has(each) ? 1 : 0.45, borderColor: color("--card"), borderWidth: spikes.has(each) ? 1 : 0 },
          })),
          markLine: {
            silent: true, symbol: "none", label: { show: false }, animation: false,
            lineStyle: { color: color("--text"), type: "dashed", width: 1 },
            data: isChosen ? [{ xAxis: times[chosen.at] }] : [],
          },
        },
      ],
    },
  };
}

function nearest(times, time) {
  let low = 0;
  let high = times.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle;
    else high = middle;
  }
  return Math.abs(times[high] - time) < Math.abs(times[low] - time) ? high : low;
}

function slowestSteps(latency, most) {
  const known = latency.max.map((value, at) => [value, at]).filter(([value]) => value !== null);
  return known.sort(([one], [other]) => other - one).slice(0, most).map(([, at]) => at);
}

// The moments that can be chosen, and the frames of the one that is.
class Moments {
  constructor(shown) {
    this.shown = shown;
    this.chosen = { letter: null, at: null };
    this.plots = [];
    this.frames = element("div", { class: "frames" });
    // what has changed, for who does not see it; the table itself would be read aloud as a whole
    this.status = element("p", { class: "visually-hidden", role: "status" });
    this.buttons = element("div", { class: "moments", role: "group", "aria-label": "Slowest moments" }, "Slowest moments");
    this.element = element("div", {}, this.buttons, this.status, this.frames);
    for (const each of shown) {
      for (const at of slowestSteps(each.latency, isCompared() ? 4 : 8).sort((one, other) => one - other)) {
        const step = stepsOf(each.recording.over_time.begins)[at];
        const time = clockTime(stepNs(step, each.recording.over_time.width), 0);
        const button = element("button", { type: "button", "aria-pressed": "false", onclick: () => this.choose(each.letter, at) },
          `${isCompared() ? `${each.letter} ` : ""}${time} `, element("strong", {}, duration(each.latency.max[at])));
        Object.assign(button, { letter: each.letter, at });
        this.buttons.append(button);
      }
    }
    this.show();
  }

  listen(chart, each) {
    chart.getZr().on("click", ({ offsetX, offsetY }) => {
      if (!chart.containPixel({ gridIndex: 0 }, [offsetX, offsetY])) return;
      const { width, begins } = each.recording.over_time;
      const [time] = chart.convertFromPixel({ gridIndex: 0 }, [offsetX, offsetY]);
      const times = stepsOf(begins).map((step) => stepTime(step + 0.5, width));
      this.choose(each.letter, this.spikeNear(chart, each, times, [offsetX, offsetY]) ?? nearest(times, time));
    });
  }

  // a dot that was hit, where steps are narrower than it
  spikeNear(chart, { latency }, times, [x, y]) {
    const hit = slowestSteps(latency, 8).find((at) => {
      const [left, top] = chart.convertToPixel({ gridIndex: 0 }, [times[at], latency.max[at]]);
      return Math.hypot(left - x, top - y) < 7;
    });
    return hit;
  }

  choose(letter, at) {
    const again = this.chosen.letter === letter && this.chosen.at === at;
    this.chosen = again ? { letter: null, at: null } : { letter, at };
    for (const plot of this.plots) plot.draw();
    this.show();
  }

  show() {
    for (const button of this.buttons.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.letter === this.chosen.letter && button.at === this.chosen.at));
    }
    const { caption, frames, all = frames } = this.chosen.at === null ? this.overall() : this.ofMoment();
    this.status.textContent = `Table: ${caption}`;
    const cells = (of) => of.map(({ letter, frame }) => [...sideCell(letter), ...frameCells(frame)]);
    const columns = withSide(FRAME_COLUMNS);
    this.frames.replaceChildren(table(caption, columns, cells(frames)), element("div", { class: "tools" }, element("button", {
      type: "button", "aria-label": "Save these frames as CSV",
      onclick: () => save(`${fileName("slowest-frames")}.csv`, "text/csv", csv(columns, cells(all))),
    }, all.length > frames.length ? `CSV of the ${all.length} slowest frames` : "CSV of these frames")));
  }

  overall() {
    const frames = this.shown.flatMap(({ letter, recording }) =>
      (recording.slowest[SHOWN.key] ?? []).map((each) => ({ letter, frame: frameOf(recording, each) })));
    frames.sort((one, other) => other.frame.total - one.frame.total);
    // frames behind a slow one of the same read are slow for the same reason
    const reads = new Map();
    for (const each of frames) {
      const read = [each.letter, each.frame.session, each.frame.conn, Number(each.frame.seq) - each.frame.frame_in_read].join(" ");
      reads.set(read, reads.get(read) ?? each);
    }
    return { caption: "The slowest frames of all, the slowest of each read", frames: [...reads.values()].slice(0, 10), all: frames };
  }

  ofMoment() {
    const { recording, latency, letter } = this.shown.find((each) => each.letter === this.chosen.letter);
    const { width, begins } = recording.over_time;
    const time = clockTime(stepNs(stepsOf(begins)[this.chosen.at], width), 3);
    const frames = latency.slowest[this.chosen.at].map((each) => ({ letter, frame: frameOf(recording, latency.slow[each]) }));
    return { caption: `The slowest frames of the ${duration(width)} from ${time} UTC; payloads are known of the 50 slowest of all`, frames };
  }
}

const FRAME_COLUMNS = [
  { key: "recv_time_ns", label: "Arrived (UTC)", show: (ns) => clockTime(ns, 9) },
  { key: "total_ns", label: "Total", number: true, show: duration },
  { key: "seq", label: "seq", number: true, show: String },
  { key: "payload_bytes", label: "Payload", number: true, show: size },
  { screen: true, key: "read_bytes", label: "Read", number: true, show: size },
  { key: "conn", label: "Conn.", number: true },
  { key: "channel", label: "Channel" },
  { key: "symbol", label: "Symbol" },
  ...STEP_NAMES.map((name) => ({ key: `${name.replace("->", "_to_").toLowerCase()}_ns`, label: arrow(name), number: true, show: duration })),
  { screen: true, key: "frame_in_read", label: "In its read" },
  { screen: true, key: "opcode", label: "Opcode" },
  { screen: true, key: "session", label: "Session" },
  { screen: true, key: "file", label: "File" },
];

const frameCells = (frame) => [
  frame.time, frame.total, frame.seq, frame.payload_bytes, frame.read_bytes, frame.conn, frame.channel, frame.symbol, ...frame.steps,
  `${frame.frame_in_read + 1} of ${frame.frames_in_read}`, frame.opcode, frame.session, frame.file,
];
