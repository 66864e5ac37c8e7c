import { byId } from "./dom.js";

/** The choice to paint each line of the prompt as a picture of its own. */
export class PromptLines {
  #prompt = byId("prompt", HTMLTextAreaElement);
  #field = byId("lines-field", HTMLElement);
  #box = byId("lines", HTMLInputElement);
  #paint = byId("paint", HTMLButtonElement);
  /** Maximum number of lines: one that runs, and those that wait. */
  most = Infinity;

  constructor() {
    this.#box.addEventListener("change", () => this.update());
  }

  /** Shows the choice while the prompt has several lines. */
  update() {
    const { length } = linesOf(this.#prompt.value);
    this.#field.hidden = length < 2;
    this.#paint.textContent = length > 1 && this.#box.checked ? `Paint ${length}` : "Paint";
  }

  /**
   * Returns the prompts to paint: the lines of a text, or the whole text.
   * @param {string} text
   */
  promptsOf(text) {
    const lines = linesOf(text);
    return lines.length > 1 && this.#box.checked ? lines : [text];
  }
}

/**
 * Returns the lines of a text that are not blank.
 * @param {string} text
 */
function linesOf(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}
