import { inTable } from "./database.js";

/**
 * What the page shows before anything is painted from it.
 * @typedef {object} Draft
 * @property {import("./api.js").Request} request
 * @property {import("./seed.js").Hold} hold whether the seed stays
 * @property {number | null} job the job that this tab has submitted and follows
 * @property {number} started time at which the job's server was started
 */

/** Key of this tab's draft in the session's storage, and of the tab's name in the database. */
const KEY = "impasto-studio", TAB = "impasto-studio-tab";
/** Number of drafts that the database keeps, each of another tab. */
const MOST = 8;

/** Returns the name of this tab, which a reload keeps. */
export function tabName() {
  const name = sessionStorage.getItem(TAB) ?? crypto.getRandomValues(new Uint32Array(2)).join("-");
  sessionStorage.setItem(TAB, name);
  return name;
}

/**
 * Keeps the draft of this tab.
 * @param {Draft} draft
 */
export function keepDraft(draft) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(draft));
  } catch {
    // Browsers store about five megabytes there, which pictures can exceed. The database has room for them.
    sessionStorage.removeItem(KEY);
  }
  inTable("drafts", "readwrite", (table) => {
    table.put({ ...draft, key: tabName(), time: Date.now() });
    const all = table.getAll();
    all.addEventListener("success", () => {
      const oldest = all.result.sort((a, b) => b.time - a.time).slice(MOST);
      for (const { key } of oldest) table.delete(key);
    });
  }).catch(() => {});
}

/**
 * Returns the draft of this tab, or else the newest one of another tab, without its job.
 * @returns {Promise<Draft | null>}
 */
export async function keptDraft() {
  const own = sessionStorage.getItem(KEY);
  if (own) return JSON.parse(own);
  const all = (await inTable("drafts", "readonly", (table) => table.getAll()).catch(() => [])) ?? [];
  const ofTab = all.find(({ key }) => key === tabName());
  if (ofTab) return ofTab;
  const [newest] = all.sort((a, b) => b.time - a.time);
  return newest ? { ...newest, job: null } : null;
}
