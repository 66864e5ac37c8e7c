import { create } from "./dom.js";

/** Width and height of a plot in its own units. The page stretches plots. */
const WIDTH = 240, HEIGHT = 56;
/** Space around a curve, so that its ends are not cut. */
const MARGIN = 3;

/**
 * Creates an element of SVG.
 * @param {string} name
 * @param {Record<string, string>} attributes
 * @param {...Node} content
 */
function drawn(name, attributes, ...content) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...content);
  return element;
}

/**
 * Draws a curve of a guidance method from its first step to its last. The vertical axis covers 0 and all values.
 * @param {string} name name of the method
 * @param {import("./api.js").Curve} curve
 */
export function plotOf(name, { label, points }) {
  const finite = points.flatMap(([step, value]) => (value === null ? [] : [{ step, value }]));
  const values = finite.map(({ value }) => value);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const [first, last] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
  const x = (/** @type {number} */ step) => MARGIN + ((WIDTH - 2 * MARGIN) * (step - first)) / (last - first || 1);
  const unit = (HEIGHT - 2 * MARGIN) / (high - low || 1);
  const y = (/** @type {number} */ value) => HEIGHT - MARGIN - unit * (value - low);
  const line = finite.map(({ step, value }) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const axis = drawn("path", { class: "axis", d: `M0 ${y(0)}H${WIDTH}` });
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const view = drawn("svg", box, axis, drawn("polyline", { points: line }));
  const range = values.length > 0 ? `${short(Math.min(...values))} to ${short(Math.max(...values))}` : "no value";
  const text = `${name}, ${label}: ${range}, steps ${first + 1} to ${last + 1}`;
  const figure = create("figure", { className: "plot" }, create("figcaption", {}, text));
  figure.prepend(view);
  return figure;
}

/**
 * Draws the colors of a strip from left to right.
 * @param {import("./api.js").Strip} strip
 */
export function stripOf({ label, colors }) {
  const steps = colors.map(([step, color]) => {
    const mark = create("i", { title: `step ${step + 1}: ${color}` });
    mark.style.setProperty("--color", color);
    return mark;
  });
  const caption = create("figcaption", {}, `${label}, step by step`);
  return create("figure", { className: "strip" }, create("div", {}, ...steps), caption);
}

/**
 * Returns a number with three digits.
 * @param {number} value
 */
function short(value) {
  return String(Number(value.toPrecision(3)));
}
