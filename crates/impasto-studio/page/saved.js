import { byId, copyOf, within } from "./dom.js";

/** @typedef {{prompt: string, negative: string}} Saved */

/** Key of the saved prompts in the browser's storage, which all tabs share. */
const KEY = "impasto-studio-prompts";
/** Maximum number of saved prompts. */
const MOST = 100;

/** The prompts that the user has saved, to take the place of the prompt or, as a style, to follow it. */
export class SavedPrompts {
  #list = byId("saved-prompts", HTMLUListElement);
  #listener;

  /**
   * @param {object} listener
   * @param {() => Saved} listener.current returns what the page shows
   * @param {(saved: Saved) => void} listener.use puts a saved prompt in place of the prompt
   * @param {(saved: Saved) => void} listener.add adds a saved prompt to the prompt
   */
  constructor(listener) {
    this.#listener = listener;
    byId("save-prompt", HTMLButtonElement).addEventListener("click", () => this.#save(listener.current()));
    addEventListener("storage", ({ key }) => {
      if (key === KEY) this.#render();
    });
    this.#render();
  }

  /** @returns {Saved[]} */
  get #saved() {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]");
  }

  /** @param {Saved[]} saved */
  #put(saved) {
    localStorage.setItem(KEY, JSON.stringify(saved.slice(0, MOST)));
    this.#render();
  }

  /** @param {Saved} current */
  #save(current) {
    const isSame = (/** @type {Saved} */ { prompt, negative }) =>
      prompt === current.prompt && negative === current.negative;
    if (current.prompt.trim() || current.negative.trim()) {
      this.#put([current, ...this.#saved.filter((saved) => !isSame(saved))]);
    }
  }

  #render() {
    const items = this.#saved.map((saved, index) => {
      const item = copyOf("saved-template");
      const [use, add, remove] = [".use", ".add", ".remove"].map((name) => within(item, name, HTMLButtonElement));
      const text = [saved.prompt, saved.negative && `negative: ${saved.negative}`].filter(Boolean).join("; ");
      Object.assign(use, { textContent: text, title: `Use: ${text}` });
      use.addEventListener("click", () => this.#listener.use(saved));
      add.addEventListener("click", () => this.#listener.add(saved));
      remove.addEventListener("click", () => this.#put(this.#saved.filter((_, at) => at !== index)));
      return item;
    });
    this.#list.replaceChildren(...items);
  }
}

/**
 * Returns a text with another one after it.
 * @param {string} text
 * @param {string} added
 */
export function joined(text, added) {
  const before = text.trimEnd().replace(/,$/, "");
  return [before, added.trim()].filter(Boolean).join(", ");
}
