import { byId } from "./dom.js";
import { TimeLeft } from "./timeleft.js";

/** The progress of a run, and the buttons that begin and end one. */
export class RunBar {
  #paint = byId("paint", HTMLButtonElement);
  #cancel = byId("cancel", HTMLButtonElement);
  #bar = byId("progress", HTMLProgressElement);
  #text = byId("progress-text", HTMLElement);
  #status = byId("status", HTMLElement);
  #timeLeft = new TimeLeft();
  /** Number of jobs of this page that follow the present one. */
  waiting = 0;

  /** @param {() => void} cancel */
  constructor(cancel) {
    this.#cancel.addEventListener("click", cancel);
  }

  get canPaint() {
    return !this.#paint.disabled;
  }

  /**
   * Shows that a run has begun.
   * @param {boolean} isReplaceable true if Paint can take the place of this run
   * @param {string} [status] what is done, for screen readers
   */
  begin(isReplaceable, status = "painting") {
    this.#paint.disabled = !isReplaceable;
    this.#cancel.disabled = false;
    this.#bar.value = 0;
    this.#text.textContent = "sending";
    this.#timeLeft = new TimeLeft();
    if (!isReplaceable) this.#status.textContent = status;
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

  /** @param {import("./jobs.js").Step} step */
  step({ part, parts, done, total }) {
    this.#bar.max = total;
    this.#bar.value = done;
    const share = (part - 1 + done / total) / Math.max(part, parts);
    const steps = `${part > 1 ? `part ${part}, ` : ""}step ${done} of ${total}`;
    const after = this.waiting > 0 ? `then ${this.waiting} more` : "";
    const told = [steps, this.#timeLeft.after(share, performance.now()), after];
    this.#text.textContent = told.filter(Boolean).join(", ");
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
