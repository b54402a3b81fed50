// The page's data, as page_data.py wrote it, and what of it is being shown.

const DATA = JSON.parse(document.getElementById("data").textContent);
const FIELDS = [
  "time", "session", "file", "seq", "conn", "channel", "symbol", "opcode",
  "payload_bytes", "read_bytes", "frame_in_read", "frames_in_read", "steps", "total",
];
const TEXTS = new Set(["session", "file", "channel", "symbol", "opcode"]);
const STEP_NAMES = ["NIC->EVENT", "EVENT->RECV_START", "RECV_START->RECV_END", "RECV_END->PARSED", "PARSED->HANDOFF"];
const PERCENTILES = [
  0, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.25, 99.5, 99.7, 99.8, 99.9, 99.95, 99.97,
  99.98, 99.99, 99.995, 99.997, 99.998, 99.999,
];

const LETTERS = ["A", "B"];
const arrow = (name) => String(name).replace("->", "\u00a0\u2192 ");

// the recordings that are shown beside each other: of the capture, and what fits it best of the other one
const PAIRS = DATA.captures[0].recordings.map((own) => {
  const others = DATA.captures[1]?.recordings ?? [];
  const fits = [
    others.find((each) => each.feed === own.feed && each.host === own.host),
    others.find((each) => each.feed === own.feed),
    DATA.captures[0].recordings.length === 1 && others.length === 1 ? others[0] : undefined,
  ];
  return [own, fits.find(Boolean)].filter(Boolean);
});

const SHOWN = { pair: 0, key: null };
const isCompared = () => PAIRS[SHOWN.pair]?.length > 1;

// [{letter, name, recording}] of what is shown, the capture itself first
function sides() {
  return (PAIRS[SHOWN.pair] ?? []).map((recording, at) => ({
    letter: LETTERS[at],
    name: DATA.captures[at].sources.join(", "),
    recording,
  }));
}

// beginnings of steps of time, as whole numbers of their width
function stepsOf(begins) {
  let at = 0;
  return begins.map((each) => (at += each));
}

const stepTime = (step, width) => (step * width) / 1e6;
const stepNs = (step, width) => String(BigInt(step) * BigInt(width));

// from the first to the last step with messages: {min, max} of an axis
function timeOf({ over_time: over }) {
  if (!over) return {};
  const steps = stepsOf(over.begins);
  return { min: stepTime(steps[0], over.width), max: stepTime(steps.at(-1) + 1, over.width) };
}

function frameOf(recording, values) {
  const frame = {};
  FIELDS.forEach((name, at) => {
    const value = values[at];
    frame[name] = TEXTS.has(name) && value !== null ? recording.texts[value] : value;
  });
  return frame;
}

// which totals occur, those of most frames first
function totals() {
  const frames = new Map();
  for (const { recording } of sides()) {
    for (const each of recording.over_time?.latency ?? []) {
      const count = each.count.reduce((sum, one) => sum + one, 0);
      frames.set(each.key, { key: each.key, name: each.name, count: (frames.get(each.key)?.count ?? 0) + count });
    }
  }
  return [...frames.values()].sort((one, other) => other.count - one.count);
}

const latencyOf = (recording) => recording.over_time?.latency.find((each) => each.key === SHOWN.key);

const median = (values) => {
  const sorted = values.filter((each) => each !== null).sort((one, other) => one - other);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
};

// whether nothing is known between a step and the one before it: lines break there
function breaks(steps) {
  const usual = median(steps.slice(1).map((step, at) => step - steps[at])) ?? 1;
  return steps.map((step, at) => at > 0 && step - steps[at - 1] > Math.max(2, 4 * usual));
}
