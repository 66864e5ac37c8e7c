import { cssColor } from "./color.js";
import { byId, create, moveByArrows } from "./dom.js";

/**
 * @typedef {{start: number, end: number, value: string}} ColorInPrompt place and `#rrggbb` of a color in a prompt
 *
 * @typedef {object} WordInPrompt
 * @property {string} text
 * @property {number} start
 * @property {number} end
 * @property {boolean} isFirst true for the first word of a phrase between commas
 * @property {ColorInPrompt | null} color the color directly before the word
 * @property {string | null} phraseColor the color of the phrase that the word belongs to
 */

/** Digits of a color that spell no word, as the library reads them: `#fab` and `#decade` are words. */
const DIGITS =
  String.raw`(?:(?!accede|beaded|bedded|dabbed|decade|deeded|deface|efface|facade)[0-9a-f]{6}` +
  String.raw`|(?=[a-f]*\d|(?<letter>[a-f])\k<letter>{2})[0-9a-f]{3})`;

/**
 * The parts of a prompt, in the order in which they are searched for: colors (`#ffd700`, `{gold}`, `oklch(…)`), markup
 * such as `<lora:…>` and the `:1.2` of a weight, words, and characters that end a phrase.
 */
const TOKEN = new RegExp(
  [
    String.raw`(?<color>(?<![\p{L}\p{N}\\#])(?:#${DIGITS}(?![\p{L}\p{N}])|\{[^{}]*\}` +
      String.raw`|(?:rgba?|hsla?|hwb|oklch|oklab|lch|lab)\([^()]*\)))`,
    String.raw`<[^<>]*>|:\s*[\d.]+(?=\s*\))`,
    String.raw`(?<word>[\p{L}\p{N}]+(?:[-'’_][\p{L}\p{N}]+)*)`,
    String.raw`(?<end>[,.;()[\]\n])`,
  ].join("|"),
  "giu",
);

/**
 * Returns the words of a prompt with their colors.
 * @param {string} prompt
 * @returns {WordInPrompt[]}
 */
export function wordsOf(prompt) {
  /** @type {WordInPrompt[]} */
  const words = [];
  /** @type {ColorInPrompt | null} */
  let color = null;
  /** @type {string | null} */
  let phraseColor = null;
  let isFirst = true;
  for (const { index: start, 0: text, groups } of prompt.matchAll(TOKEN)) {
    const end = start + text.length;
    const value = groups?.color ? cssColor(text.replace(/^\{(.*)\}$/s, (_, name) => name.replace(/\s/g, ""))) : null;
    if (value) {
      color = { start, end, value };
      phraseColor = value;
    } else if (groups?.word && text !== "BREAK") {
      words.push({ text, start, end, isFirst, color, phraseColor });
      color = null;
      isFirst = false;
    } else if (groups?.end || text === "BREAK") {
      color = phraseColor = null;
      isFirst = true;
    }
  }
  return words;
}

/**
 * Returns the phrases of a prompt between punctuation, without colors and markup, each once.
 * @param {string} prompt
 */
export function phrasesOf(prompt) {
  /** @type {string[]} */
  const phrases = [];
  for (const { text, isFirst } of wordsOf(prompt)) {
    if (isFirst) phrases.push(text);
    else phrases.push(`${phrases.pop()} ${text}`);
  }
  return [...new Set(phrases)];
}

/**
 * Returns the edit of a prompt that gives a word a color, or takes its color away.
 * @param {WordInPrompt} word
 * @param {string | null} color
 * @returns {{start: number, end: number, text: string}}
 */
export function colorEdit(word, color) {
  if (!word.color) return { start: word.start, end: word.start, text: color ? `${color} ` : "" };
  return color
    ? { start: word.color.start, end: word.color.end, text: color }
    : { start: word.color.start, end: word.start, text: "" };
}

/** The prompt's text, and below it a button for each of its words. */
export class PromptEditor {
  #text = byId("prompt", HTMLTextAreaElement);
  #bar = byId("words", HTMLElement);
  #hint = byId("words-hint", HTMLElement);
  #popover;
  #listener;

  /**
   * @param {import("./color.js").ColorPopover} popover
   * @param {{typed: () => void, colored: () => void, looked: (word: string | null) => void,
   *   repaint: (word: string) => void}} listener
   *   `looked` gets the word under the pointer or with the focus, or null
   */
  constructor(popover, listener) {
    this.#popover = popover;
    this.#listener = listener;
    moveByArrows(this.#bar);
    this.#text.addEventListener("input", () => {
      this.#render();
      listener.typed();
    });
    this.#render();
  }

  get text() {
    return this.#text.value;
  }

  set text(text) {
    this.#text.value = text;
    this.#render();
  }

  #render() {
    const words = wordsOf(this.text);
    this.#bar.replaceChildren(...words.map((word, index) => this.#button(word, index)));
    this.#bar.hidden = words.length === 0;
    this.#hint.hidden = words.length > 0;
  }

  /**
   * @param {WordInPrompt} word
   * @param {number} index
   */
  #button(word, index) {
    const button = create("button", { type: "button", className: "word", tabIndex: index === 0 ? 0 : -1 }, word.text);
    button.dataset.word = word.text;
    button.ariaHasPopup = "dialog";
    button.classList.toggle("first", word.isFirst);
    if (word.phraseColor) {
      button.style.setProperty("--color", word.phraseColor);
      button.classList.add("colored");
    }
    if (word.color) {
      button.prepend(create("span", { className: "swatch" }));
      button.ariaLabel = `${word.text}, ${word.color.value}`;
      button.title = word.color.value;
    }
    button.addEventListener("click", () => this.#open(button, word, index));
    for (const event of ["pointerenter", "focus"]) {
      button.addEventListener(event, () => this.#listener.looked(word.text));
    }
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => this.#listener.looked(null));
    return button;
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {WordInPrompt} word
   * @param {number} index
   */
  #open(button, word, index) {
    const choose = (/** @type {string | null} */ color) => {
      const { start, end, text } = colorEdit(word, color);
      this.#text.setRangeText(text, start, end, "preserve");
      this.#render();
      this.#bar.querySelectorAll("button")[index]?.focus();
      // A user who has just chosen a color looks at the picture, not at the map of the word.
      this.#listener.looked(null);
      this.#listener.colored();
    };
    const repaint = () => this.#listener.repaint(word.text);
    this.#popover.open(button, { word: word.text, color: word.color?.value ?? word.phraseColor, choose, repaint });
  }
}
