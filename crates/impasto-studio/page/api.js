/**
 * The studio's JSON API. `/api/openapi.json` describes it. A request has further fields, which the page does not set. The
 * server takes texts where it answers with objects: the size as width and height, and things by their phrases.
 *
 * @typedef {{side: number, steps: number, images: number, body: number, queue: number}} Limits
 * @typedef {{name: string, choice: string | null, choices: string[], width: number, height: number, multiple: number, steps: number, guidance_scale: number,
 *   live_steps: number | null, samplers: string[], loras: string[], colorizes: boolean, draws: boolean,
 *   nets: {name: string, union: boolean}[], ip_adapter: boolean, outputs: boolean, started: number, limits: Limits}} Model
 * @typedef {{phrase: string, strength: number, mask: string}} AreaRequest
 * @typedef {string | {thing: {named?: {phrase: string}}}} Detail
 * @typedef {{net: string, picture: string, scale?: number | null, control_type?: string | null}} Follow
 * @typedef {{picture: string, phrase?: string | null, strength?: number}} Like
 * @typedef {object} Request
 * @property {string} prompt
 * @property {string} negative
 * @property {number | null} seed
 * @property {number} images
 * @property {number | null} steps
 * @property {string | null} sampler
 * @property {number | null} guidance_scale
 * @property {number} [width]
 * @property {number} [height]
 * @property {{width: number, height: number} | null} [size]
 * @property {string | null} line_art data URL, like all pictures
 * @property {string | null} strokes
 * @property {boolean} exact_strokes
 * @property {AreaRequest[]} areas
 * @property {string | null} start
 * @property {number | null} strength
 * @property {string | null} mask
 * @property {string | {phrase: string} | null} mask_where thing in the start picture that is repainted, in place of a mask
 * @property {number | null} soften
 * @property {boolean} keep_colors
 * @property {Detail[]} details
 * @property {{scale: number, strength: number} | null} hires
 * @property {string} seamless
 * @property {string | null} reference
 * @property {string | null} palette_of picture whose main colors become those of the whole picture
 * @property {Follow[]} controls
 * @property {Like[]} ip_adapter_pictures
 * @property {number | null} ip_adapter_strength
 * @property {string | null} model name of the model among the models to choose from
 * @property {string | null} live
 * @typedef {{url: string, seed: number, width: number, height: number}} Painted
 * @typedef {{label: string, image: number | null, asked: string, painted: string, delta_e: number, report?: number,
 *   mask: string | null}} Color
 * @typedef {{word: string, image: number, map: string}} Word
 * @typedef {{smooth: number, given: number, pasted: number, result: number}} Seam
 * @typedef {{label: string, image: number | null, points: [number, number | null][]}} Curve
 * @typedef {{label: string, image: number | null, colors: [number, string][]}} Strip
 * @typedef {{name: string, data: any, curves?: Curve[], strips?: Strip[]}} Report
 * @typedef {{pictures: Painted[], colors: Color[], words: Word[], seams: Seam[], reports: Report[], notes: string[],
 *   time: number, seconds: number}} Result
 * @typedef {{id: number, state: "queued" | "running" | "finished" | "loaded" | "failed" | "cancelled", prompt: string,
 *   live: string | null, position?: number, error?: string, result?: Result}} Job
 * @typedef {{request: Partial<Request>, notes: string[]}} Restored
 * @typedef {{file: string, url: string, time: number, image: number, seed: number | null}} Output
 */

/** A refusal by the server. The message is the sentence that the server sent. */
export class Refusal extends Error {
  /**
   * @param {number} status status code of HTTP
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Calls the server. Throws a `Refusal` for every answer but success.
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function call(path, options) {
  const answer = await fetch(path, options).catch(() => {
    throw new Refusal(0, "The server does not answer. Check that impasto studio still runs.");
  });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, body.error ?? `The server answered ${answer.status} to ${path}.`);
}

/**
 * Returns the description of the API in the OpenAPI format.
 * @returns {Promise<import("./more.js").Description>}
 */
export async function getDescription() {
  return (await call("/api/openapi.json")).json();
}

/** @returns {Promise<Model>} */
export async function getModel() {
  return (await call("/api/model")).json();
}

/**
 * Asks the server to load another model, as a job.
 * @param {string} name
 * @returns {Promise<{id: number, position: number}>}
 */
export async function loadModel(name) {
  const headers = { "content-type": "application/json" };
  return (await call("/api/model", { method: "POST", headers, body: JSON.stringify({ name }) })).json();
}

/**
 * Submits a request.
 * @param {Request} request
 * @returns {Promise<{id: number, position: number}>}
 */
export async function submit(request) {
  const headers = { "content-type": "application/json" };
  return (await call("/api/jobs", { method: "POST", headers, body: JSON.stringify(request) })).json();
}

/**
 * Returns the jobs that the server knows, the oldest first, without their results.
 * @returns {Promise<Job[]>}
 */
export async function getJobs() {
  return (await call("/api/jobs")).json();
}

/**
 * @param {number} id
 * @returns {Promise<Job>}
 */
export async function getJob(id) {
  return (await call(`/api/jobs/${id}`)).json();
}

/** @param {number} id */
export async function cancelJob(id) {
  await call(`/api/jobs/${id}`, { method: "DELETE" });
}

/**
 * Downloads a finished picture.
 * @param {string} url
 */
export async function getPicture(url) {
  return (await call(url)).blob();
}

/**
 * Lists pictures of the server's folder, the newest first.
 * @param {string} before file before which the pictures were painted; "" for the newest ones
 * @returns {Promise<{pictures: Output[], most: number}>}
 */
export async function getOutputs(before) {
  return (await call(before ? `/api/outputs?before=${before}` : "/api/outputs")).json();
}

/**
 * Returns the prompt and the report of a picture of the server's folder.
 * @param {string} url address of the picture
 * @returns {Promise<{prompt: string, report: (Result & {image: number}) | null}>}
 */
export async function getOutputReport(url) {
  return (await call(`${url}/report`)).json();
}

/** Types of pictures that may hold a request. */
const WITH_RECIPE = ["image/png", "image/jpeg", "image/webp"];

/**
 * Reads the request out of a picture. Returns null for a picture without one, and for one that is too large to be
 * searched.
 * @param {Blob} picture
 * @returns {Promise<Restored | null>}
 */
export async function readRecipe(picture) {
  if (!WITH_RECIPE.includes(picture.type)) return null;
  try {
    const headers = { "content-type": picture.type };
    return await (await call("/api/recipes", { method: "POST", headers, body: picture })).json();
  } catch (error) {
    if (error instanceof Refusal && [400, 413].includes(error.status)) return null;
    throw error;
  }
}
