import { byId, copyOf, create, press, within } from "./dom.js";
import { besideOf, figuresOf } from "./figures.js";
import { infotextOf } from "./infotext.js";
import { plotOf, stripOf } from "./plots.js";

/**
 * @typedef {import("./api.js").Color} Color
 * @typedef {import("./history.js").Entry} Entry
 */

/** ΔE (CIEDE2000) above which the page gives advice, and above which it speaks of another color. */
const VISIBLE = 3, ANOTHER = 10;
/** Largest ΔE of each judgement. The words are those of the report in HTML. */
const JUDGEMENTS = /** @type {[number, string][]} */ ([
  [1, "no visible difference"], [2, "visible to a trained eye, side by side"], [5, "visible side by side"],
  [ANOTHER, "visible at a glance"], [Infinity, "a different color"],
]);
/** Maximum number of characters of a figure that the details show. Longer figures are records of every step. */
const SHORT = 600;

/**
 * Returns ΔE with two decimals at most.
 * @param {number} deltaE
 */
export function rounded(deltaE) {
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
 * Shows the report of a picture: colors with their masks, what changed beside them, notes, and the figures of color
 * forces.
 * @param {Entry} entry
 * @param {(color: Color | null) => void} lay called to lay the mask of a color over the picture, or to take it away
 */
export function showReport(entry, lay) {
  const { seed, result } = entry;
  const colors = colorsOf(entry);
  lay(null);
  const seconds = `${Number(result.seconds.toFixed(result.seconds < 10 ? 1 : 0))} s`;
  // A picture from the server's folder has no time.
  const made = result.seconds > 0 ? `Seed ${seed}, ${seconds}.` : `Seed ${seed}.`;
  const differences = colors.map((color) => `${color.label} ΔE ${rounded(color.delta_e)}`).join(", ");
  byId("summary", HTMLElement).textContent = `${made} ${differences || "No colors were asked for"}.`;
  const seam = byId("seam", HTMLElement);
  const measured = result.seams[entry.image];
  seam.hidden = !measured;
  if (measured) {
    const [now, pasted] = [rounded(measured.result), rounded(measured.pasted)];
    seam.textContent = `Seam of the mask: ΔE ${now} (${pasted} without blending). Below ${VISIBLE} it is hardly seen.`;
  }
  byId("report", HTMLElement).replaceChildren(...colorItems(entry, colors, lay));
  byId("delta-e", HTMLElement).hidden = colors.length === 0;
  byId("notes", HTMLElement).replaceChildren(...result.notes.map((note) => create("li", {}, note)));
  const forces = result.reports.filter(({ name }) => name.startsWith("ColorForce"));
  const plots = forces.flatMap(({ name, curves = [] }) => {
    return curves.filter(({ image }) => image === null || image === entry.image).map((curve) => plotOf(name, curve));
  });
  const curves = byId("curves", HTMLDetailsElement);
  curves.hidden = plots.length === 0;
  within(curves, "div", HTMLElement).replaceChildren(...plots);
  const settings = byId("infotext", HTMLDetailsElement);
  infotextOf(entry.png).then((text) => {
    settings.hidden = text === null;
    within(settings, "pre", HTMLElement).textContent = text;
  });
  byId("figures", HTMLElement).replaceChildren(...forces.length > 0 ? [data(forces)] : []);
  byId("about", HTMLElement).hidden = false;
}

/**
 * Returns an item for each color. The mask of a color lies over the picture while the pointer or the focus is on the
 * item; a click lets the mask stay.
 * @param {Entry} entry
 * @param {Color[]} colors
 * @param {(color: Color | null) => void} lay
 */
function colorItems(entry, colors, lay) {
  /** @type {Color | null} the color whose mask stays */
  let pinned = null;
  /** @type {[HTMLButtonElement, Color][]} */
  const buttons = [];
  return colors.map((color) => {
    const item = colorItem(entry, color);
    const button = within(item, "button", HTMLButtonElement);
    button.disabled = color.mask === null;
    buttons.push([button, color]);
    item.addEventListener("pointerenter", () => lay(color));
    button.addEventListener("focus", () => lay(color));
    for (const [target, event] of [[item, "pointerleave"], [button, "blur"]]) {
      target.addEventListener(event, () => lay(pinned));
    }
    button.addEventListener("click", () => {
      pinned = pinned === color ? null : color;
      for (const [other, of] of buttons) press(other, of === pinned);
      lay(pinned);
    });
    return item;
  });
}

/**
 * @param {Entry} entry
 * @param {Color} color
 */
function colorItem(entry, color) {
  const { label, asked, painted, delta_e: deltaE, mask } = color;
  const item = copyOf("color-template");
  item.dataset.label = label;
  item.dataset.deltaE = rounded(deltaE);
  const swatches = item.querySelectorAll("i");
  [asked, painted].forEach((each, index) => swatches[index].style.setProperty("--color", each));
  const [picture, map] = item.querySelectorAll("img");
  picture.src = entry.url;
  if (mask) map.src = mask;
  map.hidden = !mask;
  within(item, "button", HTMLElement).ariaLabel = `${label}: show the mask of its color on the picture`;
  within(item, "b", HTMLElement).textContent = label;
  within(item, ".values", HTMLElement).textContent = `asked ${asked}, painted ${painted}`;
  const [, judgement] = JUDGEMENTS.find(([most]) => deltaE <= most) ?? JUDGEMENTS[0];
  within(item, ".delta", HTMLElement).textContent = `ΔE ${rounded(deltaE)}: ${judgement}`;
  const sentences = besideOf(figuresOf(color, entry.result));
  within(item, ".beside", HTMLElement).replaceChildren(...sentences.map((sentence) => create("li", {}, sentence)));
  const strips = entry.result.reports[color.report ?? -1]?.strips ?? [];
  const strip = strips.find(({ image }) => image === null || image === entry.image);
  if (strip) item.append(stripOf(strip));
  const remark = within(item, ".remark", HTMLElement);
  remark.hidden = deltaE <= VISIBLE;
  remark.textContent = deltaE > ANOTHER
    ? "Check on the mask that the model has found the object, or try another seed."
    : "More steps or another seed may bring the color closer.";
  return item;
}

/**
 * Returns the figures of guidance methods, such as the words that competed with a phrase, for readers of JSON.
 * @param {import("./api.js").Report[]} reports
 */
function data(reports) {
  const isShort = (/** @type {unknown} */ value) => (JSON.stringify(value) ?? "").length <= SHORT;
  const short = (/** @type {unknown} */ all) => Object.fromEntries(
    Object.entries(all ?? {}).filter(([, value]) => isShort(value)),
  );
  // Several color forces have one name.
  const text = JSON.stringify(reports.map(({ name, data: all }) => ({ [name]: short(all) })), null, 2);
  return create("details", {}, create("summary", {}, "data"), create("pre", {}, text));
}
