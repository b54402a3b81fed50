// Percentile curves, with the nines spread out: by step, channel and connection, and of the delay from the exchange.

const MOST_CURVES = 6;
const TICKS = [0, Math.log10(2), 1, 2, 3, 4, 5];
const nines = (percentile) => -Math.log10(1 - percentile / 100);
const ninesTick = (value) => String(Number((100 - 100 * 10 ** -value).toFixed(3)));

function curvesFigure(parent, { id, by, title, caption, size: width, log = true }) {
  const found = sides().map((each, at) => ({
    ...each, at, curves: each.recording.curves.find((one) => one.by === by && (one.key === null || one.key === SHOWN.key))?.curves ?? [],
  }));
  let names = [...new Set(found.flatMap(({ curves }) => curves.map(curveName)))];
  if (!names.length) return;
  if (isCompared()) names = names.slice(0, MOST_CURVES);
  const all = found.flatMap(({ letter, at, curves }) =>
    curves.map((curve) => ({ ...curve, letter, at, shown: curveName(curve) })).filter((curve) => names.includes(curve.shown)));
  const nameOf = (curve) => (isCompared() ? `${curve.letter}: ${curve.shown}` : curve.shown);
  figure(parent, {
    id, title, caption, size: width,
    key: [
      ...names.map((name, at) => ({ name: by === "step" ? arrow(name) : name, color: curveColor(by, name, at, true), kind: at >= SERIES.length ? "dashed" : "line" })),
      ...(isCompared() ? [{ name: "A solid, B dashed", color: "var(--muted)", kind: "dashed" }] : []),
    ],
    plots: [{
      label: `Curves: ${all.map((curve) => `${nameOf(curve)}: median ${duration(curve.values[PERCENTILES.indexOf(50)])}, slowest ${duration(curve.max)}`).join("; ")}`,
      make: (room) => curvesOption(all, names, by, nameOf, log, room),
    }],
    data: () => ({
      columns: withSide([
        { key: by, label: { step: "Step", channel: "Channel", connection: "Connection", delay: "Channel" }[by] },
        { key: "frames", label: "Frames", number: true, show: whole },
        ...PERCENTILES.map((each) => ({ key: `p${each}_ns`, label: `p${each}`, number: true, show: duration })),
        { key: "max_ns", label: "max", number: true, show: duration },
      ]),
      rows: all.map((curve) => [...sideCell(curve.letter), curve.shown, curve.count, ...curve.values, curve.max]),
    }),
  });
}

const curveName = (curve) => curve.name ?? "(no channel)";

function curveColor(by, name, at, variable = false) {
  const names = by === "step" ? STEP_SERIES : SERIES;
  const place = by === "step" ? STEP_NAMES.indexOf(name) : at;
  const found = place < 0 ? "--text" : names[place % names.length];
  return variable ? `var(${found})` : color(found);
}

function curvesOption(all, names, by, nameOf, log, width) {
  // the least of all would stretch the axis for nobody
  const values = all.flatMap((curve) => curve.values.slice(1).map((value) => (value === null ? null : Math.max(value, 1))));
  const last = Math.max(1, ...all.flatMap((curve) => curve.values.map((value, at) => (value === null ? 0 : nines(PERCENTILES[at])))));
  const series = all.map((curve) => {
    const place = names.indexOf(curve.shown);
    const of = curveColor(by, curve.shown, place);
    const isTotal = by === "step" && !STEP_NAMES.includes(curve.shown);
    return {
      name: nameOf(curve), type: "line", showSymbol: false, symbolSize: 5, triggerLineEvent: true,
      lineStyle: { color: of, width: isTotal ? 2.2 : 1.5, type: curve.at || place >= SERIES.length ? "dashed" : "solid" },
      itemStyle: { color: of },
      emphasis: { focus: "series", lineStyle: { width: 2.6 } },
      data: curve.values.map((value, at) => (value === null || !at ? null : [nines(PERCENTILES[at]), Math.max(value, 1)])).filter(Boolean),
    };
  });
  return {
    height: onPaper ? 205 : width < 560 ? 240 : 280,
    option: {
      grid: { left: 58, right: 22, top: 10, bottom: 40 },
      xAxis: {
        ...valueAxis(ninesTick, { min: 0, max: Math.ceil(last * 2) / 2, name: "percentile", nameLocation: "middle", nameGap: 24, nameTextStyle: axisText() }),
        axisTick: { show: true, customValues: TICKS, lineStyle: { color: color("--line") } },
        axisLabel: { ...axisText(), formatter: ninesTick, customValues: TICKS, hideOverlap: true },
        axisLine: { ...axisLine(), show: true, onZero: false },
      },
      yAxis: log ? logAxis(durationTick, values) : valueAxis(durationTick),
      tooltip: tooltip((points) => {
        const at = PERCENTILES.indexOf(nearestPercentile(points[0].axisValue));
        const shown = [...all].sort((one, other) => (other.values[at] ?? -1) - (one.values[at] ?? -1));
        return tip(`p${PERCENTILES[at]}`, shown.slice(0, 14).map((curve) => [
          clip(by === "step" ? arrow(nameOf(curve)) : nameOf(curve), 36), duration(curve.values[at]), curveColor(by, curve.shown, names.indexOf(curve.shown)),
        ]));
      }, "axis"),
      series,
    },
  };
}

function nearestPercentile(place) {
  return PERCENTILES.reduce((best, each) => (Math.abs(nines(each) - place) < Math.abs(nines(best) - place) ? each : best));
}
