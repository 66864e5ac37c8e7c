import { byId, copyOf, create, press, within } from "./dom.js";

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
 * @param {(color: Color | null) => void} lay called to lay the mask of a color over the picture, or to take it away
 */
export function showReport(entry, lay) {
  const { seed, result } = entry;
  const colors = colorsOf(entry);
  lay(null);
  const seconds = `${Number(result.seconds.toFixed(result.seconds < 10 ? 1 : 0))} s`;
  const differences = colors.map((color) => `${color.label} ΔE ${rounded(color.delta_e)}`).join(", ");
  byId("summary", HTMLElement).textContent = `Seed ${seed}, ${seconds}. ${differences || "No colors were asked for"}.`;
  const seam = byId("seam", HTMLElement);
  const measured = result.seams[entry.image];
  seam.hidden = !measured;
  if (measured) {
    const [now, pasted] = [rounded(measured.result), rounded(measured.pasted)];
    seam.textContent = `Seam of the mask: ΔE ${now} (${pasted} without blending). Below ${VISIBLE} it is hardly seen.`;
  }
  byId("report", HTMLElement).replaceChildren(...colorItems(colors, lay));
  byId("notes", HTMLElement).replaceChildren(...result.notes.map((note) => create("li", {}, note)));
  const forces = result.reports.filter(({ name }) => name.startsWith("ColorForce"));
  byId("figures", HTMLElement).replaceChildren(...forces.length > 0 ? [figures(forces)] : []);
}

/**
 * Returns an item for each color. The mask of a color lies over the picture while the pointer or the focus is on the
 * item; a click lets the mask stay.
 * @param {Color[]} colors
 * @param {(color: Color | null) => void} lay
 */
function colorItems(colors, lay) {
  /** @type {Color | null} the color whose mask stays */
  let pinned = null;
  /** @type {[HTMLButtonElement, Color][]} */
  const buttons = [];
  return colors.map((color) => {
    const item = colorItem(color);
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

/** @param {Color} color */
function colorItem({ label, asked, painted, delta_e: deltaE }) {
  const item = copyOf("color-template");
  item.dataset.label = label;
  item.dataset.deltaE = rounded(deltaE);
  const swatches = item.querySelectorAll("i");
  [asked, painted].forEach((color, index) => swatches[index].style.setProperty("--color", color));
  within(item, "button", HTMLElement).textContent = label;
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
 * Returns the figures of guidance methods, such as the words that competed with a phrase, for readers of JSON.
 * @param {import("./api.js").Report[]} reports
 */
function figures(reports) {
  const isShort = (/** @type {unknown} */ value) => (JSON.stringify(value) ?? "").length <= SHORT;
  const short = (/** @type {unknown} */ data) => Object.fromEntries(
    Object.entries(data ?? {}).filter(([, value]) => isShort(value)),
  );
  // Several color forces have one name.
  const text = JSON.stringify(reports.map(({ name, data }) => ({ [name]: short(data) })), null, 2);
  return create("details", {}, create("summary", {}, "data"), create("pre", {}, text));
}
