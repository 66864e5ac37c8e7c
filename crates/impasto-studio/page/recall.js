import { getJob, getOutputReport, getOutputs, getPicture } from "./api.js";
import { keyOf } from "./gallery.js";

/**
 * @typedef {import("./api.js").Job} Job
 * @typedef {import("./history.js").Entry} Entry
 */

/** Number of kept pictures that are recalled at a time. */
const BATCH = 40;

/** The pictures of earlier runs: those that this browser keeps, those of the server's jobs, and those of its folder. */
export class Recall {
  #gallery;
  #history;
  /** @type {string[]} keys of the kept pictures that are not in the history yet */
  #kept = [];
  /** @type {Set<string>} keys of the pictures that the user has removed */
  #removed = new Set();
  /** The last file of the folder that was listed; "" before the first one; null after the oldest one. */
  #file = /** @type {string | null} */ (null);

  /**
   * @param {import("./gallery.js").Gallery} gallery
   * @param {import("./history.js").History} history
   */
  constructor(gallery, history) {
    this.#gallery = gallery;
    this.#history = history;
  }

  /** True if there are older pictures. */
  get hasMore() {
    return this.#kept.length > 0 || this.#file !== null;
  }

  /**
   * Puts the newest pictures that this browser keeps into the history.
   * @param {boolean} hasFolder true if the server writes pictures into a folder
   */
  async begin(hasFolder) {
    this.#kept = await this.#gallery.keys();
    this.#removed = new Set(await this.#gallery.removedKeys());
    if (hasFolder) this.#file = "";
    await this.#addKept();
  }

  /**
   * Adds the pictures of the server's finished jobs. The server forgets them sooner or later, so the browser keeps
   * them.
   * @param {Job[]} jobs the oldest first
   */
  async addJobs(jobs) {
    const views = new Set();
    for (const { id, state, live } of [...jobs].reverse()) {
      // Only the newest picture of a live view is kept.
      if (state !== "finished" || (live && views.has(live))) continue;
      views.add(live);
      try {
        const job = await getJob(id);
        const { time = 0, pictures = [] } = job.result ?? {};
        if (pictures.every((_, image) => this.#isKnown(keyOf(time, image)))) continue;
        const entries = await entriesOf(job);
        await this.#gallery.keep(entries);
        this.#history.add(entries);
      } catch {
        return; // The server forgets the oldest jobs for new ones.
      }
    }
  }

  /** Adds older pictures, of this browser and of the server's folder. */
  async more() {
    await this.#addKept();
    await this.addOutputs();
  }

  /** Adds the next pictures of the server's folder. */
  async addOutputs() {
    if (this.#file === null) return;
    const { pictures, most } = await getOutputs(this.#file);
    this.#file = pictures.length === most ? pictures[most - 1].file : null;
    for (const { url, time, image, seed } of pictures) {
      const key = keyOf(time, image);
      if (this.#isKnown(key)) continue;
      try {
        const [png, { prompt, report }] = await Promise.all([getPicture(url), getOutputReport(url)]);
        const result = { ...NO_REPORT, time, ...report };
        const entry = { key, png, url: URL.createObjectURL(png), seed: seed ?? 0, image, prompt, live: null, result };
        this.#history.add([{ ...entry, isStarred: false }]);
      } catch {
        // The picture was removed from the folder.
      }
    }
  }

  /** Adds all pictures with a star. */
  async addStarred() {
    await this.#addAll(await this.#gallery.keys(true));
  }

  #addKept() {
    return this.#addAll(this.#kept.splice(0, BATCH));
  }

  /** @param {string[]} keys */
  async #addAll(keys) {
    const entries = await Promise.all(keys.map((key) => (this.#history.has(key) ? null : this.#gallery.read(key))));
    for (const entry of entries) if (entry) this.#history.add([entry]);
  }

  /** @param {string} key */
  #isKnown(key) {
    return this.#history.has(key) || this.#kept.includes(key) || this.#removed.has(key);
  }
}

/** The report of a picture without one. */
const NO_REPORT = { pictures: [], colors: [], words: [], seams: [], reports: [], notes: [], seconds: 0 };

/**
 * Fetches the pictures of a finished job.
 * @param {Job} job
 * @returns {Promise<Entry[]>}
 */
export async function entriesOf({ result, prompt, live }) {
  if (!result) return [];
  return Promise.all(result.pictures.map(async ({ url, seed }, image) => {
    const [png, key] = [await getPicture(url), keyOf(result.time, image)];
    return { key, png, url: URL.createObjectURL(png), seed, image, prompt, live, result, isStarred: false };
  }));
}
