// What arrived over time: messages and bytes, and the delay from the exchange.

function rateFigure(parent, width) {
  const shown = sides().map((each, at) => ({ ...each, at, rate: ratesOf(each.recording) })).filter((each) => each.rate);
  if (!shown.length) return;
  const most = { messages: Math.max(...shown.map(({ rate }) => Math.max(...rate.messages.map(([, value]) => value)))),
    bytes: Math.max(...shown.map(({ rate }) => Math.max(...rate.bytes.map(([, value]) => value)))) };
  figure(parent, {
    id: "rate",
    title: "Frames and bytes a second",
    size: width,
    caption: "Frames that were received, and bytes that were taken from the sockets for them, by the time of arrival, as the mean of " +
      "each step. Where the line is at zero nothing arrived; it does not say whether the exchange had sent anything.",
    plots: shown.map((each) => ({
      title: isCompared() ? `${each.letter}: ${clip(each.name, 60)}` : "",
      short: each.letter,
      label: `Areas: at most ${short(Math.max(...each.rate.messages.map(([, value]) => value)))} frames a second`,
      linked: each.letter,
      make: (room) => rateOption(each, most, room),
    })),
    data: () => ({
      columns: withSide([
        { key: "begin_ns", label: "Begin (UTC)", show: (ns) => dateTime(ns, 3) },
        { key: "width_ns", label: "Step", number: true, show: duration },
        { key: "frames", label: "Frames", number: true, show: whole },
        { key: "read_bytes", label: "Bytes read", number: true, show: size },
      ]),
      rows: shown.flatMap(({ letter, recording: { over_time: over } }) => stepsOf(over.begins).map((step, at) =>
        [...sideCell(letter), stepNs(step, over.width), over.width, over.messages[at], over.read_bytes[at]])),
    }),
  });
}

// per second; the first and the last step by what of them was recorded
function ratesOf(recording) {
  const over = recording.over_time;
  if (!over) return null;
  const steps = stepsOf(over.begins);
  const [first, last] = [axisTime(recording.first), axisTime(recording.last)];
  const length = over.width / 1e6;
  const rates = { messages: [], bytes: [] };
  const push = (time, messages, bytes) => {
    rates.messages.push([time, messages]);
    rates.bytes.push([time, bytes]);
  };
  steps.forEach((step, at) => {
    const begin = stepTime(step, over.width);
    const covered = Math.min(begin + length, Math.max(last, begin)) - Math.max(begin, Math.min(first, begin + length));
    if (at > 0 && step - steps[at - 1] > 1) {
      push(stepTime(steps[at - 1] + 1.5, over.width), 0, 0);
      push(begin - length / 2, 0, 0);
    }
    // an end that is a sliver says nothing of the rate
    if (covered < length * 0.2 && steps.length > 2) return;
    const seconds = Math.max(covered, length * 0.2) / 1000;
    push(begin + length / 2, over.messages[at] / seconds, over.read_bytes[at] / seconds);
  });
  return rates;
}

function rateOption({ at, rate, recording }, most, width) {
  const of = sideColor(at);
  const area = (name, index, data) => ({
    name, type: "line", xAxisIndex: index, yAxisIndex: index, data, showSymbol: data.length < 3, symbolSize: 4,
    lineStyle: { color: of, width: 1.2 }, itemStyle: { color: of }, areaStyle: { color: of, opacity: 0.16 },
  });
  const left = 58;
  const time = timeOf(recording);
  const high = onPaper ? 70 : width < 560 ? 96 : 112;
  const title = (text, top) => ({ text, left: 0, top, textStyle: { color: color("--muted"), fontSize: 11, fontWeight: 400, fontFamily: FONT } });
  return {
    height: 2 * high + 84,
    option: {
      title: [title("frames/s", 0), title("bytes/s", high + 36)],
      grid: [{ left, right: 14, top: 20, height: high }, { left, right: 14, top: high + 56, height: high }],
      xAxis: [timeAxis({ ...time, gridIndex: 0, axisLabel: { show: false } }), timeAxis({ ...time, gridIndex: 1 })],
      yAxis: [
        valueAxis(countTick, { gridIndex: 0, min: 0, max: niceMax(most.messages), splitNumber: 3 }),
        valueAxis(sizeTick, { gridIndex: 1, min: 0, max: niceMax(most.bytes), splitNumber: 3 }),
      ],
      axisPointer: { link: [{ xAxisIndex: "all" }] },
      dataZoom: [{ ...zoomInside(), xAxisIndex: [0, 1] }],
      tooltip: tooltip((points) => {
        const each = nearest(rate.messages.map(([time]) => time), points[0].axisValue);
        const [time, messages] = rate.messages[each];
        return tip(`${new Date(time).toISOString().slice(11, 23)} UTC`, [
          ["frames/s", short(Math.round(messages * 10) / 10)], ["bytes/s", size(rate.bytes[each][1])],
        ]);
      }, "axis"),
      series: [area("frames/s", 0, rate.messages), area("bytes/s", 1, rate.bytes)],
    },
  };
}

// a round number above, of which a third is round too
function niceMax(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((each) => each * power).find((each) => each >= value * 1.0001) ?? 10 * power;
}

function delayFigure(parent, width) {
  const shown = sides().map((each, at) => ({ ...each, at, delay: each.recording.over_time?.delay })).filter((each) => each.delay);
  if (!shown.length) return;
  const values = shown.flatMap(({ delay }) => [...delay.p50, ...delay.p99]).filter((value) => value !== null);
  const range = [Math.min(...values), Math.max(...values)];
  const isNegative = range[0] <= 0;
  figure(parent, {
    id: "delay",
    title: "Exchange to receive",
    size: width,
    caption: "Time of arrival minus the exchange's own time in the message. The network, the exchange and the difference of both clocks " +
      "are in it, so its changes say more than its height." + (isNegative ? "" : " The axis is logarithmic.") +
      (isNegative ? " Below zero a clock is wrong: no message arrives before it is sent." : ""),
    key: shown.flatMap(({ at, letter }) => ["p50", "p99"].map((name) => ({
      name: isCompared() ? `${letter}: ${name}` : name, color: `var(${at ? "--other" : "--accent"})`, kind: name === "p50" ? "line" : "dashed",
    }))),
    plots: shown.map((each) => ({
      title: isCompared() ? `${each.letter}: ${clip(each.name, 60)}` : "",
      short: each.letter,
      label: `Lines: the median delay is ${duration(median(each.delay.p50))}`,
      linked: each.letter,
      make: (room) => delayOption(each, range, room),
    })),
    data: () => ({
      columns: withSide([
        { key: "begin_ns", label: "Begin (UTC)", show: (ns) => dateTime(ns, 3) },
        { key: "messages", label: "With an exchange time", number: true, show: whole },
        { key: "p50_ns", label: "p50", number: true, show: duration }, { key: "p99_ns", label: "p99", number: true, show: duration },
      ]),
      rows: shown.flatMap(({ letter, delay, recording: { over_time: over } }) => stepsOf(over.begins).map((step, at) =>
        [...sideCell(letter), stepNs(step, over.width), delay.count[at], delay.p50[at], delay.p99[at]])),
    }),
  });
}

function delayOption({ at, delay, recording }, [low, high], width) {
  const { width: step, begins } = recording.over_time;
  const steps = stepsOf(begins);
  const times = steps.map((each) => stepTime(each + 0.5, step));
  const broken = breaks(steps);
  const of = sideColor(at);
  const line = (name, values, type) => ({
    name, type: "line", showSymbol: values.length < 3, symbolSize: 4, itemStyle: { color: of },
    lineStyle: { color: of, width: type === "solid" ? 1.8 : 1.1, type },
    data: values.flatMap((value, each) => (broken[each] ? [[times[each] - 1e-3, null], [times[each], value]] : [[times[each], value]])),
  });
  return {
    height: onPaper ? 205 : width < 560 ? 250 : 308,
    option: {
      grid: { left: 58, right: 14, top: 10, bottom: 26 },
      xAxis: timeAxis({ ...timeOf(recording), axisLine: { ...axisLine(), onZero: false } }),
      yAxis: low > 0 ? logAxis(durationTick, [low, high]) : valueAxis(durationTick, { scale: high < low / 2 }),
      dataZoom: [zoomInside()],
      tooltip: tooltip((points) => {
        const each = nearest(times, points[0].axisValue);
        return tip(`${clockTime(stepNs(steps[each], step), 3)} UTC`, [
          ["p50", duration(delay.p50[each])], ["p99", duration(delay.p99[each])], ["messages", whole(delay.count[each])],
        ]);
      }, "axis"),
      series: [line("p50", delay.p50, "solid"), line("p99", delay.p99, "dashed")],
    },
  };
}
