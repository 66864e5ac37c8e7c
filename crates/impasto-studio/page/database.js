/** Name of the database of this browser. All tabs of the page share it. */
const NAME = "impasto-studio";

/** @typedef {"pictures" | "runs" | "drafts"} TableName */

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.addEventListener("upgradeneeded", () => {
      const pictures = request.result.createObjectStore("pictures", { keyPath: "key" });
      pictures.createIndex("starred", "starred");
      pictures.createIndex("live", "live");
      request.result.createObjectStore("runs", { keyPath: "key" });
      request.result.createObjectStore("drafts", { keyPath: "key" });
    });
    request.addEventListener("success", () => {
      // A page of a later version can then change the tables.
      request.result.addEventListener("versionchange", () => request.result.close());
      resolve(request.result);
    });
    request.addEventListener("error", () => reject(request.error));
  });
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
  const database = await (opened ??= open());
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(name, mode);
    const request = act(transaction.objectStore(name));
    transaction.addEventListener("complete", () => resolve(request?.result));
    transaction.addEventListener("abort", () => reject(transaction.error));
  });
}
