// The colours of the page, taken from its style: those of the theme that is shown.

const SERIES = ["--series-3", "--series-5", "--series-4", "--series-7", "--series-6", "--series-1", "--series-8", "--series-2"];
const STEP_SERIES = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5"];

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const seriesColor = (at) => color(SERIES[at % SERIES.length]);
const stepColor = (at) => color(STEP_SERIES[at % STEP_SERIES.length]);
const sideColor = (at) => color(at ? "--other" : "--accent");

// of text on a colour: whichever of black and white reads better
function inkOn(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
  const light = [red, green, blue].map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
  return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.36 ? "#10131a" : "#ffffff";
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  button.textContent = name === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-pressed", String(name === "dark"));
  button.setAttribute("aria-label", `Show the page ${name === "dark" ? "light" : "dark"}`);
}

const preferred = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
