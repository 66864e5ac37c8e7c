import { inTable } from "./database.js";

/**
 * A job of this browser that has not ended.
 * @typedef {object} Run
 * @property {string} key
 * @property {number} id number of the job
 * @property {number} started time at which the server was started; job numbers begin anew with every start
 * @property {string} tab the tab that has submitted the request
 * @property {import("./api.js").Request} request
 */

/**
 * @param {number} started
 * @param {number} id
 */
const keyOf = (started, id) => `${started}-${id}`;

/**
 * Notes a job that the server has accepted, so that other tabs and a reloaded page know of it.
 * @param {Omit<Run, "key">} run
 */
export async function noteRun(run) {
  const put = inTable("runs", "readwrite", (table) => table.put({ ...run, key: keyOf(run.started, run.id) }));
  await put.catch(() => {}); // A browser that stores nothing has other tabs that know nothing.
}

/**
 * Forgets a job that has ended.
 * @param {number} started
 * @param {number} id
 */
export async function forgetRun(started, id) {
  await inTable("runs", "readwrite", (table) => table.delete(keyOf(started, id))).catch(() => {});
}

/**
 * Returns the noted jobs, the oldest first.
 * @returns {Promise<Run[]>}
 */
export async function notedRuns() {
  const runs = await inTable("runs", "readonly", (table) => table.getAll()).catch(() => []);
  return (runs ?? []).sort((a, b) => a.started - b.started || a.id - b.id);
}
