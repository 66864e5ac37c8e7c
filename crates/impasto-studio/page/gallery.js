import { inTable } from "./database.js";

/**
 * @typedef {import("./history.js").Entry} Entry
 *
 * A picture as the database keeps it.
 * @typedef {Omit<Entry, "url" | "isStarred"> & {starred: 0 | 1}} Kept
 */

/** Maximum number of pictures without a star that the browser keeps. */
const MOST = 200;

/**
 * Returns the key of a picture: the time of its run, and its index.
 * @param {number} time
 * @param {number} image
 */
export function keyOf(time, image) {
  return `${time}-${image}`;
}

/**
 * Orders keys by age, the newest run first, and the pictures of a run by their indices.
 * @param {string} a
 * @param {string} b
 */
export function byAge(a, b) {
  const [[time, image], [other, otherImage]] = [a, b].map((key) => key.split("-").map(Number));
  return other - time || image - otherImage;
}

/** The pictures that the browser keeps. Every tab hears of the pictures and stars of the others. */
export class Gallery {
  #channel = new BroadcastChannel("impasto-studio");
  #failed;

  /**
   * @param {object} listener
   * @param {(entry: Entry) => void} listener.added gets a picture of another tab
   * @param {(key: string, isStarred: boolean) => void} listener.starred
   * @param {(key: string) => void} listener.removed gets the key of a picture that the user has removed in another tab
   * @param {(error: unknown) => void} listener.failed called once if the browser cannot keep pictures
   */
  constructor({ added, starred, removed, failed }) {
    this.#failed = (/** @type {unknown} */ error) => {
      this.#failed = () => {};
      failed(error);
    };
    this.#channel.addEventListener("message", async ({ data }) => {
      if ("isStarred" in data) return starred(data.key, data.isStarred);
      if ("isRemoved" in data) return removed(data.key);
      const entry = await this.read(data.key);
      if (entry) added(entry);
    });
  }

  /**
   * Returns the keys of the kept pictures, the newest first.
   * @param {boolean} [onlyStarred]
   */
  async keys(onlyStarred = false) {
    const all = inTable("pictures", "readonly", (table) =>
      onlyStarred ? table.index("starred").getAllKeys(1) : table.getAllKeys());
    const keys = await all.catch(() => []); // The first picture that cannot be kept says so.
    return (keys ?? []).map(String).sort(byAge);
  }

  /**
   * Returns a kept picture; null for one that is not kept.
   * @param {string} key
   * @returns {Promise<Entry | null>}
   */
  async read(key) {
    const kept = await inTable("pictures", "readonly", (table) => table.get(key)).catch(() => null);
    return kept ? { ...kept, isStarred: kept.starred === 1, url: URL.createObjectURL(kept.png) } : null;
  }

  /**
   * Keeps new pictures. A picture of a live view takes the place of the former one. The oldest pictures without a star
   * make room for new ones.
   * @param {Entry[]} entries
   */
  async keep(entries) {
    try {
      await inTable("pictures", "readwrite", (table) => {
        const live = entries[0]?.live;
        if (live) each(table.index("live").getAllKeys(live), (key) => table.delete(key));
        let left = entries.length;
        for (const entry of entries) {
          // Another tab may have kept the picture, and given it a star.
          const found = table.count(entry.key);
          found.addEventListener("success", () => {
            if (!found.result) table.put(keptOf(entry));
            left -= 1;
            if (left === 0) each(table.index("starred").getAllKeys(0), (key) => table.delete(key), MOST);
          });
        }
      });
      for (const { key } of entries) this.#channel.postMessage({ key });
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * Keeps a picture with or without a star.
   * @param {Entry} entry
   */
  async star(entry) {
    this.#channel.postMessage({ key: entry.key, isStarred: entry.isStarred });
    try {
      await inTable("pictures", "readwrite", (table) => table.put(keptOf(entry)));
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * Forgets a picture that the user has removed. The pictures of the server are left out by their keys from then on.
   * @param {Entry} entry
   */
  async remove({ key }) {
    this.#channel.postMessage({ key, isRemoved: true });
    try {
      await inTable("removed", "readwrite", (table) => table.put({ key }));
      await inTable("pictures", "readwrite", (table) => table.delete(key));
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * Keeps a picture that was removed.
   * @param {Entry} entry
   */
  async putBack(entry) {
    try {
      await inTable("removed", "readwrite", (table) => table.delete(entry.key));
      await inTable("pictures", "readwrite", (table) => table.put(keptOf(entry)));
      this.#channel.postMessage({ key: entry.key });
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Returns the keys of the pictures that the user has removed. */
  async removedKeys() {
    const keys = await inTable("removed", "readonly", (table) => table.getAllKeys()).catch(() => []);
    return (keys ?? []).map(String);
  }
}

/**
 * Calls `act` with the keys that a request finds, in order, but not with the last ones.
 * @param {IDBRequest<IDBValidKey[]>} request
 * @param {(key: IDBValidKey) => void} act
 * @param {number} [last] number of the keys at the end that are left out
 */
function each(request, act, last = 0) {
  request.addEventListener("success", () => {
    request.result.slice(0, Math.max(0, request.result.length - last)).forEach(act);
  });
}

/**
 * @param {Entry} entry
 * @returns {Kept}
 */
function keptOf({ key, png, seed, image, prompt, live, result, isStarred }) {
  return { key, png, seed, image, prompt, live, result, starred: isStarred ? 1 : 0 };
}
