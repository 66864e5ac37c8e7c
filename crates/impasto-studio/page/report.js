import { byId, copyOf, create, within } from "./dom.js";

/**
 * @typedef {import("./api.js").Color} Color
 * @typedef {import("./history.js").Entry} Entry
 */

/** ΔE (CIEDE2000) above which the page remarks on a difference, and above which it speaks of another color. */
const VISIBLE = 3, ANOTHER = 10;
/** Maximum number of characters of a figure that the details show. Longer figures are records of every step. */
const SHORT = 600;

/**
 * Returns ΔE with two decimals at most.
 * @param {number} deltaE
 */
function rounded(deltaE) {
  return String(Number(deltaE.toFixed(2)));
}

/**
 * Returns the colors of one picture.
 * @param {Entry} entry
 */
function colorsOf({ image, result }) {
  return result.colors.filter((color) => color.image === null || color.image === image);
}

/**
 * Says how a picture ended, for the live region: "finished, eyes ΔE 0.8".
 * @param {Entry} entry
 */
export function summaryOf(entry) {
  return ["finished", ...colorsOf(entry).map((color) => `${color.label} ΔE ${rounded(color.delta_e)}`)].join(", ");
}

/**
 * Shows the report of a picture: colors, notes, and the figures of color forces.
 * @param {Entry} entry
 */
export function showReport(entry) {
  const { seed, result } = entry;
  const colors = colorsOf(entry);
  const seconds = `${Number(result.seconds.toFixed(result.seconds < 10 ? 1 : 0))} s`;
  const without = colors.length > 0 ? "" : ". No colors were asked for.";
  byId("summary", HTMLElement).textContent = `Seed ${seed}, ${seconds}${without}`;
  byId("report", HTMLElement).replaceChildren(...colors.map(colorItem));
  byId("notes", HTMLElement).replaceChildren(...result.notes.map((note) => create("li", {}, note)));
  const forces = result.reports.filter(({ name }) => name.startsWith("ColorForce"));
  byId("competitors", HTMLElement).replaceChildren(...forces.map(({ name, data }) => figures(name, data)));
}

/** @param {Color} color */
function colorItem({ label, asked, painted, delta_e: deltaE }) {
  const item = copyOf("color-template");
  item.dataset.label = label;
  item.dataset.deltaE = rounded(deltaE);
  const swatches = item.querySelectorAll("i");
  [asked, painted].forEach((color, index) => swatches[index].style.setProperty("--color", color));
  within(item, "b", HTMLElement).textContent = label;
  within(item, ".values", HTMLElement).textContent = `asked ${asked}, painted ${painted}`;
  within(item, ".delta", HTMLElement).textContent = `ΔE ${rounded(deltaE)}`;
  const remark = within(item, ".remark", HTMLElement);
  remark.hidden = deltaE <= VISIBLE;
  remark.textContent = deltaE > ANOTHER
    ? "This is another color. Check on the map of the word that the model has found the object, or try another seed."
    : "The difference is visible. More steps or another seed may bring the color closer.";
  return item;
}

/**
 * Returns the figures of a guidance method, such as the words that competed with a phrase.
 * @param {string} name
 * @param {unknown} data
 */
function figures(name, data) {
  const isShort = (/** @type {unknown} */ value) => (JSON.stringify(value) ?? "").length <= SHORT;
  const entries = Object.entries(data ?? {}).filter(([, value]) => isShort(value));
  const text = JSON.stringify(Object.fromEntries(entries), null, 2);
  return create("details", {}, create("summary", {}, name), create("pre", {}, text));
}
