/** Name of the database of this browser. All tabs of the page share it. */
const NAME = "impasto-studio";

/** @typedef {"pictures" | "runs" | "drafts" | "removed"} TableName */

/** Time in milliseconds for which the page waits for the database, twice. Without it, the page works as a new one. */
const PATIENCE = 500;
/** A frozen page is only ended by a message if it listens. */
const channel = new BroadcastChannel(`${NAME}-database`);
channel.addEventListener("message", () => {});

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 2);
    request.addEventListener("upgradeneeded", ({ oldVersion }) => {
      if (oldVersion < 1) {
        const pictures = request.result.createObjectStore("pictures", { keyPath: "key" });
        pictures.createIndex("starred", "starred");
        pictures.createIndex("live", "live");
        request.result.createObjectStore("runs", { keyPath: "key" });
        request.result.createObjectStore("drafts", { keyPath: "key" });
      }
      request.result.createObjectStore("removed", { keyPath: "key" });
    });
    request.addEventListener("success", () => {
      // A page of a later version can then change the tables.
      request.result.addEventListener("versionchange", () => {
        request.result.close();
        opened = null;
      });
      resolve(request.result);
    });
    request.addEventListener("error", () => reject(request.error));
  });
}

/**
 * Waits for the database, but not for long.
 * @returns {Promise<IDBDatabase>}
 */
async function database() {
  opened ??= open();
  const isLate = (/** @type {number} */ time) =>
    new Promise((/** @type {(isLate: true) => void} */ resolve) => setTimeout(() => resolve(true), time));
  let result = await Promise.race([opened, isLate(PATIENCE)]);
  if (result !== true) return result;
  // A page that the browser froze while it was opening the database keeps all others from opening it. The browser ends
  // a frozen page that is sent a message.
  channel.postMessage("open");
  result = await Promise.race([opened, isLate(PATIENCE)]);
  if (result !== true) return result;
  throw new Error("The browser's database does not answer.");
}

/**
 * Runs a transaction on a table, and returns the result of the request that `act` returns. Throws if the browser stores
 * nothing, or has no room.
 * @template T
 * @param {TableName} name
 * @param {IDBTransactionMode} mode
 * @param {(table: IDBObjectStore) => IDBRequest<T> | void} act
 * @returns {Promise<T | undefined>}
 */
export async function inTable(name, mode, act) {
  const tables = await database();
  return new Promise((resolve, reject) => {
    const transaction = tables.transaction(name, mode);
    const request = act(transaction.objectStore(name));
    transaction.addEventListener("complete", () => resolve(request?.result));
    transaction.addEventListener("abort", () => reject(transaction.error));
  });
}
