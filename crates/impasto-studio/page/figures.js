/**
 * The figures of a painted color, as the report of a color force has them. Shares are from 0 to 1. A figure is null if
 * there was nothing to compare with.
 * @typedef {object} Figures
 * @property {number} image
 * @property {number} area share of the picture that the color's region covers
 * @property {number} coverage share of the region that has the color
 * @property {number | null} remainder pixels beside the region that kept the old color, as a share of the region
 * @property {number | null} lines_kept share of the lines that are still there
 * @property {number | null} grown pixels around the region that took the color, as a share of the region
 * @property {number | null} worst_neighbor largest ΔE of another thing beside the region
 * @property {boolean} redrawn
 */

/** ΔE below which a change is hardly seen, and shares from which a person sees a change. */
const SEEN = 3, CUT = 0.1, GROWN = 0.105;

/**
 * Returns the figures of a color; null for a color that was measured only.
 * @param {import("./api.js").Color} color
 * @param {import("./api.js").Result} result
 * @returns {Figures | null}
 */
export function figuresOf({ report, image, painted }, { reports }) {
  /** @type {(Figures & {color: string})[]} */
  const all = reports[report ?? -1]?.data?.painted ?? [];
  return all.find((figures) => figures.image === (image ?? 0) && figures.color === painted) ?? null;
}

/**
 * Says where a color was painted, and what changed beside it, in sentences.
 * @param {Figures | null} figures
 */
export function besideOf(figures) {
  if (!figures) return [];
  const { area, coverage, remainder, lines_kept: lines, grown, worst_neighbor: neighbor, redrawn } = figures;
  const sentences = [`It covers ${percent(area)} of the picture, and ${percent(coverage)} of it has the color.`];
  if (neighbor !== null) {
    sentences.push(neighbor <= SEEN
      ? "Nothing beside it changed visibly."
      : `Beside it, something changed by ΔE ${Number(neighbor.toFixed(1))}.`);
  }
  if (lines !== null) sentences.push(`${percent(lines)} of its lines are kept.`);
  if (grown !== null && grown > GROWN) {
    sentences.push(`The color went beyond its border by ${percent(grown)} of its area.`);
  }
  if (remainder !== null && remainder > CUT) {
    sentences.push(`Beside the mask, ${percent(remainder)} kept the old color.`);
  }
  if (redrawn) sentences.push("The model drew it anew.");
  return sentences;
}

/**
 * Returns a share as text. Small shares have a decimal.
 * @param {number} share
 */
function percent(share) {
  return `${Number((100 * share).toFixed(share < 0.1 ? 1 : 0))} %`;
}
