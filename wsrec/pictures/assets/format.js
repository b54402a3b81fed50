// Numbers, times and names as people read them. Times are strings of ns since the epoch (they do not fit a double),
// durations are numbers of ns.

const THIN = "\u202f";
const DASH = "\u2013";

const DURATIONS = [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"], [6e10, "min"], [3.6e12, "h"], [8.64e13, "d"]];
const COUNTS = [[1, ""], [1e3, "k"], [1e6, "M"], [1e9, "G"]];
const SIZES = [[1, "B"], [1e3, "kB"], [1e6, "MB"], [1e9, "GB"], [1e12, "TB"]];

function scaled(value, units, digits) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  let [scale, unit] = units[0];
  for (const [next, name] of units) if (Math.abs(value) >= next * 0.9995) [scale, unit] = [next, name];
  const shown = value / scale;
  const size = Math.abs(shown);
  const places = scale === 1 ? (Number.isInteger(shown) || size >= 10 ? 0 : 1) : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  const text = digits === undefined ? shown.toFixed(places) : String(Number(shown.toPrecision(digits)));
  return (text + (unit ? THIN + unit : "")).replace("-", "\u2212");
}

const duration = (ns) => scaled(ns, DURATIONS);
const size = (bytes) => scaled(bytes, SIZES);
const short = (count) => scaled(count, COUNTS);
// of an axis: 20 µs and not 20.0 µs
const durationTick = (ns) => (ns === 0 ? "0" : scaled(ns, DURATIONS, 3));
const countTick = (count) => scaled(count, COUNTS, 3);
const sizeTick = (bytes) => scaled(bytes, SIZES, 3);

function whole(count) {
  if (count === null || count === undefined) return DASH;
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ",").replace("-", "\u2212");
}

const percent = (share, places = 1) => (share === null ? DASH : `${(share * 100).toFixed(places)}${THIN}%`);
const plural = (count, word) => `${whole(count)} ${word}${Number(count) === 1 ? "" : "s"}`;

// ms since the epoch with fractions: what an axis takes
const axisTime = (ns) => Number(BigInt(ns) / 1000n) / 1000;

function clockTime(ns, digits = 3) {
  const whole = BigInt(ns);
  const day = new Date(Number(whole / 1000000n)).toISOString();
  const rest = String(((whole % 1000000000n) + 1000000000n) % 1000000000n).padStart(9, "0");
  return day.slice(11, 19) + (digits ? "." + rest.slice(0, digits) : "");
}

const dateTime = (ns, digits = 0) => `${new Date(Number(BigInt(ns) / 1000000n)).toISOString().slice(0, 10)} ${clockTime(ns, digits)}`;

// what an exchange sends, made fit for one line: page.py has spelled out what is not printable
function clip(text, most = 40) {
  const letters = [...String(text)];
  return letters.length <= most ? String(text) : letters.slice(0, most - 1).join("") + "…";
}
