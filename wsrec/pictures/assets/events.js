// What happened: gaps, losses and other events on a time line, and when each stream had messages.

const ROW = 24;

function eventsFigure(parent) {
  const shown = sides().map((each, at) => ({ ...each, at, lines: each.recording.lines })).filter((each) => each.lines.length);
  if (!shown.length) return;
  const gravity = (line) => (line.is_incident ? "--bad" : "--accent");
  figure(parent, {
    id: "events",
    title: "Gaps and events",
    caption: "When events of each kind happened: a bar is a lost interval, a stall or a stale stream with its length, a tick a moment. What concerns " +
      "completeness or the clock is red and comes first; behind the kind is how many there were. No event is no proof that nothing " +
      "happened: wsrec verify compares what can be compared.",
    key: [{ name: "completeness or clock", color: "var(--bad)" }, { name: "other events", color: "var(--accent)" }]
      .filter((_, at) => shown.some(({ lines }) => lines.some((line) => line.is_incident === !at))),
    plots: shown.map((each) => ({
      title: isCompared() ? `${each.letter}: ${clip(each.name, 60)}` : "",
      short: each.letter,
      label: `Time line: ${each.lines.map((line) => `${line.count} ${line.kind}`).join(", ")}`,
      linked: each.letter,
      make: (width) => eventsOption(each, gravity, width),
    })),
    data: () => ({
      columns: withSide([
        { key: "time_ns", label: "Time (UTC)", show: (ns) => dateTime(ns, 3) }, { key: "kind", label: "Event" },
        { key: "length_ns", label: "Length", number: true, show: duration }, { key: "conn", label: "Conn.", number: true },
        { key: "channel", label: "Channel" }, { key: "symbol", label: "Symbol" }, { key: "text", label: "Details" },
        { key: "session", label: "Session" },
      ]),
      rows: shown.flatMap(({ letter, lines }) => lines.flatMap((line) => line.moments.map((moment) => [
        ...sideCell(letter), moment.time, moment.kind, momentLength(moment), moment.conn, moment.channel, moment.symbol, moment.text, moment.session,
      ]))),
    }),
    extra: shown.flatMap(withoutGap),
  });
}

// that there is no gap, or in which channels, where no line of the figure says so
function withoutGap({ letter, recording }) {
  const gaps = recording.tiles.find(({ label }) => label === "Gaps");
  if (!gaps || gaps.state === "bad") return [];
  return [element("p", { class: "caption gaps" }, `${isCompared() ? `${letter}: ` : ""}Gaps: ${gaps.value} (${gaps.note}).`)];
}

const momentLength = ({ begin, end }) => (begin === null || end === null ? null : Number(BigInt(end) - BigInt(begin)));

function eventsOption({ recording, lines }, gravity, width) {
  const step = recording.over_time?.width ?? 1e9;
  const marks = lines.flatMap((line, row) => {
    // of a kind with more events than are told apart, how many there were says more than the first of them
    const isCounted = line.count > line.moments.length && line.begins.length > 0;
    const shown = isCounted && !line.is_incident ? [] : line.moments;
    const known = shown.map((moment) => ({ row, line, moment, from: axisTime(moment.begin ?? moment.time), to: axisTime(moment.end ?? moment.time) }));
    const counted = !isCounted ? [] : stepsOf(line.begins).map((at, each) =>
      ({ row, line, count: line.counts[each], from: stepTime(at, step), to: stepTime(at + 1, step), step: at }));
    return [...counted, ...known];
  });
  const time = timeOf(recording);
  const wide = width >= 560;
  const left = wide ? 176 : 112;
  return {
    height: lines.length * ROW + 34,
    option: {
      grid: { left, right: 14, top: 2, bottom: 28 },
      xAxis: timeAxis({ min: Math.min(...marks.map(({ from }) => from), time.min ?? Infinity), max: Math.max(...marks.map(({ to }) => to), time.max ?? -Infinity) }),
      yAxis: laneAxis(lines.map((line) => `${line.kind.replaceAll("_", " ")}  ${whole(line.count)}`), left),
      dataZoom: [zoomInside()],
      tooltip: tooltip(({ dataIndex }) => markTip(marks[dataIndex])),
      series: [{
        type: "custom", encode: { x: [0, 1], y: 2 }, clip: true, data: marks.map(({ from, to, row }) => [from, to, row]),
        renderItem: ({ dataIndex, coordSys }, api) => {
          const { from, to, row, line, count, moment } = marks[dataIndex];
          const [begin, y] = api.coord([from, row]);
          const end = Math.min(api.coord([to, row])[0], coordSys.x + coordSys.width);
          const isBar = count === undefined && moment.begin !== null;
          const high = isBar ? 14 : 12;
          const x = Math.min(begin, coordSys.x + coordSys.width - 2);
          return {
            type: "rect",
            shape: { x, y: y - high / 2, width: Math.max(end - begin, isBar ? 3 : 2), height: high, r: isBar ? 2 : 0 },
            style: { fill: color(gravity(line)), opacity: count === undefined ? 0.9 : 0.4 },
          };
        },
      }],
    },
  };
}

function laneAxis(names, width) {
  return {
    type: "category", inverse: true, data: names,
    axisLine: { show: false }, axisTick: { show: false },
    axisLabel: { ...axisText(), color: color("--text"), width: width - 12, overflow: "truncate", interval: 0, hideOverlap: false },
    splitLine: gridLine(),
  };
}

function markTip({ line, moment, count, step }) {
  const kind = line.kind.replaceAll("_", " ");
  if (!moment) return tip(kind, [["events here", whole(count)]]);
  const rows = [["time", `${clockTime(moment.time)} UTC`]];
  if (momentLength(moment) !== null) rows.push(["length", duration(momentLength(moment))]);
  for (const name of ["conn", "channel", "symbol"]) if (moment[name] !== null) rows.push([name, clip(moment[name], 60)]);
  return tip(kind, rows, clip(moment.text, 240));
}

// when each stream had messages

const FEW_STREAMS = 30;
const LEVELS = [0.25, 0.5, 0.75, 1];

function coverageFigure(parent) {
  const shown = sides().map((each, at) => ({ ...each, at, coverage: each.recording.coverage })).filter((each) => each.coverage);
  if (!shown.length) return;
  const state = { all: false };
  const most = Math.max(...shown.map(({ coverage }) => coverage.streams.length));
  const more = element("button", { type: "button", "aria-expanded": "false" });
  const name = () => (more.textContent = state.all ? `Show the first ${FEW_STREAMS}` : `Show all ${most} streams`);
  const others = shown.filter(({ coverage }) => coverage.others).map(({ letter, coverage }) =>
    `${isCompared() ? `${letter}: ` : ""}${plural(coverage.others, "other stream")} with ${plural(coverage.other_messages, "message")}`);
  const made = figure(parent, {
    id: "coverage",
    title: "Coverage of every stream",
    caption: "When each channel and symbol had messages: the stronger the colour, the more of them, by the stream's own busiest step. Those with most gaps " +
      "come first, then those with most messages. A pale place had none; that the exchange sent none is not shown by it." +
      (others.length ? ` Not drawn: ${others.join("; ")}.` : ""),
    plots: shown.map((each) => ({
      title: isCompared() ? `${each.letter}: ${clip(each.name, 60)}` : "",
      short: each.letter,
      label: `Rows of time: ${plural(each.coverage.streams.length, "stream")}, ${each.coverage.streams.filter((one) => one.gaps).length} of them with gaps`,
      linked: each.letter,
      make: (width) => coverageOption(each, state.all ? undefined : FEW_STREAMS, width),
    })),
    data: () => ({
      columns: withSide([
        { key: "channel", label: "Channel" }, { key: "symbol", label: "Symbol" },
        { key: "messages", label: "Messages", number: true, show: whole }, { key: "gaps", label: "Gaps", number: true, show: whole },
        { key: "first_ns", label: "First (UTC)", show: (ns) => dateTime(ns, 3) }, { key: "last_ns", label: "Last (UTC)", show: (ns) => dateTime(ns, 3) },
      ]),
      rows: shown.flatMap(({ letter, coverage }) => coverage.streams.map((each) =>
        [...sideCell(letter), each.channel, each.symbol, each.messages, each.gaps, each.first, each.last])),
    }),
    extra: most > FEW_STREAMS ? [element("div", { class: "moments" }, more)] : null,
  });
  name();
  more.addEventListener("click", () => {
    state.all = !state.all;
    more.setAttribute("aria-expanded", String(state.all));
    name();
    for (const plot of made.plots) plot.draw();
  });
}

const streamName = ({ channel, symbol }) => [channel, symbol].filter((each) => each !== null).join("  ") || "(no channel)";

function coverageOption({ at, coverage, recording }, most, width) {
  const streams = coverage.streams.slice(0, most);
  const wide = width >= 560;
  const left = wide ? 208 : 146;
  const items = streams.flatMap((stream, row) => {
    const steps = stepsOf(stream.begins);
    const busiest = Math.max(...stream.counts);
    const runs = LEVELS.map(() => []);
    stream.counts.forEach((count, each) => {
      const level = LEVELS.findIndex((one) => Math.sqrt(count / busiest) <= one + 1e-9);
      const last = runs[level].at(-1);
      if (last && last[1] === steps[each]) last[1] = steps[each] + 1;
      else runs[level].push([steps[each], steps[each] + 1]);
    });
    return runs.map((run, level) => ({ row, level, stream, run })).filter((each) => each.run.length);
  });
  const time = (step) => stepTime(step, coverage.width);
  const gaps = streams.some((each) => each.gaps);
  return {
    height: streams.length * 20 + 34,
    option: {
      grid: { left, right: gaps ? 70 : 14, top: 2, bottom: 28 },
      xAxis: timeAxis(timeOf(recording)),
      yAxis: [
        laneAxis(streams.map((each) => clip(streamName(each), 60)), left),
        ...(gaps ? [{
          ...laneAxis(streams.map((each) => (each.gaps ? plural(each.gaps, "gap") : "")), 70), position: "right", splitLine: { show: false },
          axisLabel: { ...axisText(), color: color("--bad"), interval: 0, width: 62, overflow: "truncate" },
        }] : []),
      ],
      dataZoom: [zoomInside()],
      tooltip: tooltip(({ dataIndex }) => {
        const { stream } = items[dataIndex];
        return tip(clip(streamName(stream), 80), [
          ["messages", whole(stream.messages)], ["gaps", whole(stream.gaps)], ["first", `${clockTime(stream.first)} UTC`],
          ["last", `${clockTime(stream.last)} UTC`], ["busiest step", `${whole(Math.max(...stream.counts))} in ${duration(coverage.width)}`],
        ]);
      }),
      series: [{
        type: "custom", encode: { x: [0, 1], y: 2 }, clip: true,
        data: items.map(({ run, row }) => [time(run[0][0]), time(run.at(-1)[1]), row]),
        renderItem: ({ dataIndex }, api) => {
          const { run, row, level } = items[dataIndex];
          const high = 11;
          const path = run.map(([from, to]) => {
            const [x, y] = api.coord([time(from), row]);
            const right = Math.max(api.coord([time(to), row])[0], x + 1.2);
            return `M${x.toFixed(1)} ${(y - high / 2).toFixed(1)}H${right.toFixed(1)}v${high}H${x.toFixed(1)}z`;
          }).join("");
          return { type: "path", shape: { pathData: path }, style: { fill: sideColor(at), opacity: LEVELS[level] * 0.9 } };
        },
      }, ...(gaps ? [{ type: "custom", yAxisIndex: 1, silent: true, data: [], renderItem: () => null }] : [])],
    },
  };
}
