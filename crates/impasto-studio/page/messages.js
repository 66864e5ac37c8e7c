import { byId, create } from "./dom.js";

/** The messages above the page: the error of the last run, and a notice with actions. */
export class Messages {
  #failure = byId("failure", HTMLElement);
  #error = byId("error", HTMLElement);
  #notice = byId("notice", HTMLElement);
  #text = byId("notice-text", HTMLElement);
  #actions = byId("notice-actions", HTMLElement);

  constructor() {
    byId("error-close", HTMLButtonElement).addEventListener("click", () => this.clear());
  }

  /** @param {unknown} error */
  fail(error) {
    this.#failure.hidden = false;
    this.#error.textContent = error instanceof Error ? error.message : String(error);
  }

  clear() {
    this.#failure.hidden = this.#notice.hidden = true;
    this.#error.textContent = this.#text.textContent = "";
  }

  /**
   * Shows a notice with a button for each action.
   * @param {string} text
   * @param {Record<string, () => void>} actions by the texts of their buttons
   */
  tell(text, actions) {
    const buttons = Object.entries({ ...actions, Close: () => {} }).map(([label, act]) => {
      const button = create("button", { type: "button" }, label);
      button.addEventListener("click", () => {
        this.#notice.hidden = true;
        act();
      });
      return button;
    });
    this.#actions.replaceChildren(...buttons);
    this.#notice.hidden = false;
    this.#text.textContent = text;
  }
}
