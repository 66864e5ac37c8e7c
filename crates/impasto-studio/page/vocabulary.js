import { byId, create, moveByArrows } from "./dom.js";

/** Names of the models that have these words. */
const MODELS = ["the embedded model", "the embedded fast model", "the embedded flow model"];
/** Things that the models draw: parts of portraits, then objects of scenes. */
const THINGS = [
  "1girl", "eyes", "hair", "hair bow", "skin", "shirt", "mouth", "background", "house", "tree", "boat", "star", "fish",
  "flower", "moon", "sun", "car", "cup", "ground", "sky",
];
/** Hair styles, which stand before a thing like colors. */
const STYLES = ["long", "short", "bob", "ponytail", "twintails", "spiky"];
/** Colors before a thing, as the models paint them. */
const COLORS = {
  black: "#19191e", white: "#f5f5f5", gray: "#808080", red: "#d71423", tomato: "#ff6347", orange: "#ff8c00",
  gold: "#ffd700", yellow: "#fafa5a", lime: "#96e628", green: "#1e8c32", olive: "#787d1e", teal: "#008080",
  cyan: "#1edce6", azure: "#6eb9fa", blue: "#235ae6", navy: "#00008b", purple: "#7d1e96", lavender: "#be9bf0",
  magenta: "#e61ed2", pink: "#ff69b4", brown: "#7d481e", tan: "#d7af82", pale: "#fce4d0", maroon: "#6e0a23",
};

/**
 * Returns a prompt with one more word. A thing joins the colors before it; everything else begins a phrase.
 * @param {string} prompt
 * @param {string} word
 */
export function withWord(prompt, word) {
  const text = prompt.trimEnd();
  if (!text) return word;
  const last = text.slice(text.lastIndexOf(",") + 1).trim();
  const waits = last.split(/\s+/).every((part) => part in COLORS || STYLES.includes(part) || part.startsWith("#"));
  return /,$/.test(text) || waits ? `${text} ${word}` : `${text}, ${word}`;
}

/** The words that the embedded models know, as buttons that put them into the prompt. */
export class Vocabulary {
  #panel = byId("vocabulary", HTMLDetailsElement);

  /** @param {(word: string) => void} add */
  constructor(add) {
    const button = (/** @type {string} */ word, /** @type {string} */ className) => {
      const chip = create("button", { type: "button", className, title: word, tabIndex: -1 });
      chip.dataset.add = word;
      chip.addEventListener("click", () => add(word));
      return chip;
    };
    const texts = (/** @type {string[]} */ words) => words.map((word) => {
      const chip = button(word, "chip");
      chip.append(word);
      return chip;
    });
    const colors = Object.entries(COLORS).map(([name, color]) => {
      const chip = button(name, "chip dot");
      chip.ariaLabel = name;
      chip.append(create("span", { className: "swatch" }));
      chip.style.setProperty("--color", color);
      return chip;
    });
    const bars = { things: texts(THINGS), styles: texts(STYLES), colors };
    for (const [name, chips] of Object.entries(bars)) {
      const bar = byId(`vocabulary-${name}`, HTMLElement);
      bar.append(...chips);
      chips[0].tabIndex = 0;
      moveByArrows(bar);
    }
  }

  /** @param {import("./api.js").Model} model */
  setModel({ name }) {
    const hasWords = MODELS.includes(name);
    this.#panel.hidden = !hasWords;
    // The examples were chosen for the same models.
    byId("empty", HTMLElement).classList.toggle("plain", !hasWords);
    // On a phone the words would push the canvas out of sight.
    const isWide = matchMedia("(min-width: 700px)");
    isWide.addEventListener("change", () => (this.#panel.open = isWide.matches));
    this.#panel.open = isWide.matches;
  }
}
