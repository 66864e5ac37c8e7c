import { byId } from "./dom.js";

/** The progress of a run, and the buttons that begin and end one. */
export class RunBar {
  #paint = byId("paint", HTMLButtonElement);
  #cancel = byId("cancel", HTMLButtonElement);
  #bar = byId("progress", HTMLProgressElement);
  #text = byId("progress-text", HTMLElement);
  #status = byId("status", HTMLElement);

  /** @param {() => void} cancel */
  constructor(cancel) {
    this.#cancel.addEventListener("click", cancel);
  }

  get canPaint() {
    return !this.#paint.disabled;
  }

  /**
   * Shows that a run has begun.
   * @param {boolean} isLive true if Paint can take the place of this run
   */
  begin(isLive) {
    this.#paint.disabled = !isLive;
    this.#cancel.disabled = false;
    this.#bar.value = 0;
    this.#text.textContent = "sending";
    if (!isLive) this.#status.textContent = "painting";
  }

  /** @param {number} position number of jobs before this one */
  queued(position) {
    this.#text.textContent = position > 0 ? `waiting, ${position} before this one` : "waiting";
  }

  started() {
    this.#text.textContent = "starting";
  }

  disconnected() {
    this.#text.textContent = "connecting again";
  }

  /**
   * @param {number} part
   * @param {number} done
   * @param {number} total
   */
  step(part, done, total) {
    this.#bar.max = total;
    this.#bar.value = done;
    this.#text.textContent = `${part > 1 ? `part ${part}, ` : ""}step ${done} of ${total}`;
  }

  /**
   * Shows that no run is going on.
   * @param {string} text how the last run ended
   * @param {string} status the same for screen readers
   */
  end(text, status) {
    this.#paint.disabled = false;
    this.#cancel.disabled = true;
    this.#bar.value = 0;
    this.#text.textContent = text;
    this.#status.textContent = status;
  }
}
