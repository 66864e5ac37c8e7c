import { byId, press } from "./dom.js";
import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { Recall } from "./recall.js";

/** @typedef {import("./history.js").Entry} Entry */

/** The finished pictures of this visit and of earlier ones, in the strip and in the browser, and their stars. */
export class Past {
  #star = byId("star", HTMLButtonElement);
  #onlyStarred = byId("only-starred", HTMLButtonElement);
  #older = byId("older", HTMLButtonElement);
  #listener;
  #history;
  #gallery;
  #recall;
  /** @type {Entry | null} the picture that is shown */
  #shown = null;

  /**
   * @param {object} listener
   * @param {(entry: Entry) => void} listener.chosen gets a picture that the user has chosen
   * @param {(entry: Entry) => void} listener.recalled gets the newest picture if none is shown
   * @param {(next: Entry | undefined, undo: () => void) => void} listener.removed gets the picture to show in place of one
   *   that the user has removed, and what puts that one back
   * @param {(error: unknown) => void} listener.failed called once if the browser cannot keep pictures
   * @param {(work: Promise<void>) => void} listener.attempt shows the error of work
   */
  constructor(listener) {
    this.#listener = listener;
    this.#history = new History(listener.chosen);
    this.#gallery = new Gallery({
      added: (entry) => {
        this.#history.add([entry]);
        this.#update();
      },
      starred: (key, isStarred) => this.#mark(key, isStarred),
      removed: (key) => {
        // The picture that is shown stays until the user shows another.
        if (this.#shown?.key !== key) this.#history.remove(key);
      },
      failed: listener.failed,
    });
    this.#recall = new Recall(this.#gallery, this.#history);
    this.#star.addEventListener("click", () => this.star());
    byId("remove", HTMLButtonElement).addEventListener("click", () => this.remove());
    this.#onlyStarred.addEventListener("click", () => listener.attempt(this.#filter()));
    this.#older.addEventListener("click", () => listener.attempt(this.#recall.more().then(() => this.#update())));
  }

  /**
   * Recalls the pictures of earlier visits: those of this browser, of the server's jobs, and of its folder.
   * @param {import("./api.js").Model} model
   * @param {import("./api.js").Job[]} jobs
   */
  async recall({ outputs }, jobs) {
    await this.#recall.begin(outputs);
    this.#update();
    await this.#recall.addJobs(jobs);
    await this.#recall.addOutputs();
    this.#update();
  }

  /**
   * Adds and keeps the pictures of a run.
   * @param {Entry[]} entries
   */
  add(entries) {
    this.#history.add(entries);
    this.#listener.attempt(this.#gallery.keep(entries));
    byId("past", HTMLElement).hidden = false;
  }

  /** @param {Entry} entry the picture that is shown */
  set shown(entry) {
    this.#shown = entry;
    this.#history.mark(entry);
    press(this.#star, entry.isStarred);
  }

  /**
   * Returns a picture's PNG.
   * @param {string} url the picture's blob URL
   */
  png(url) {
    return this.#history.png(url);
  }

  /**
   * Returns the pictures of the run from which a picture comes.
   * @param {Entry} entry
   */
  runOf(entry) {
    return this.#history.runOf(entry);
  }

  /** Gives the shown picture a star, or takes it away. */
  star() {
    const entry = this.#shown;
    if (!entry) return;
    this.#mark(entry.key, !entry.isStarred);
    this.#listener.attempt(this.#gallery.star(entry));
  }

  /** Removes the shown picture from the history of this browser. */
  remove() {
    const entry = this.#shown;
    if (!entry) return;
    this.#shown = null;
    const next = this.#history.remove(entry.key);
    byId("past", HTMLElement).hidden = !next;
    this.#listener.attempt(this.#gallery.remove(entry));
    this.#listener.removed(next, () => this.#putBack(entry));
  }

  /** @param {Entry} entry a picture that was removed */
  #putBack(entry) {
    const again = { ...entry, url: URL.createObjectURL(entry.png) };
    this.#history.add([again]);
    byId("past", HTMLElement).hidden = false;
    this.#listener.attempt(this.#gallery.putBack(again));
    this.#listener.chosen(again);
  }

  /**
   * @param {string} key
   * @param {boolean} isStarred
   */
  #mark(key, isStarred) {
    this.#history.star(key, isStarred);
    if (this.#shown?.key === key) press(this.#star, isStarred);
  }

  /** Shows only the pictures with a star, or all of them again. */
  async #filter() {
    const isOnly = this.#onlyStarred.ariaPressed !== "true";
    if (isOnly) await this.#recall.addStarred();
    this.#history.isOnlyStarred = isOnly;
    press(this.#onlyStarred, isOnly);
  }

  /** Shows whether there are older pictures, and the newest picture if none is shown. */
  #update() {
    const { newest } = this.#history;
    byId("past", HTMLElement).hidden = !newest;
    this.#older.hidden = !this.#recall.hasMore;
    if (newest && !this.#shown) this.#listener.recalled(newest);
  }
}
