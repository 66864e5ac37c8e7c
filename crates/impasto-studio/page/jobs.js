import { cancelJob, getJob, Refusal, submit } from "./api.js";

/**
 * @typedef {import("./api.js").Request} Request
 * @typedef {import("./api.js").Job} Job
 *
 * Callbacks that a painter calls about the newest request. Exactly one of `finished`, `failed` and `cancelled` ends a
 * request, unless a newer request takes its place.
 * @typedef {object} Listener
 * @property {(position: number) => void} queued
 * @property {() => void} started
 * @property {(part: number, done: number, total: number, picture: string) => void} step `part` counts the runs of a
 *   request with details or a second run, from 1
 * @property {(job: Job) => void} finished called with a job that has a result
 * @property {() => void} disconnected called when the connection is lost; the browser connects again
 * @property {(error: string) => void} failed
 * @property {() => void} cancelled
 */

/** Submits requests and follows the newest one. */
export class Painter {
  #listener;
  /** @type {Request | null} the request that is sent as soon as the server has answered the one before */
  #next = null;
  /** @type {Pick<Request, "live"> | null} the newest request, until it ends */
  #request = null;
  /** @type {number | null} job of the newest request, once it is accepted */
  #id = null;
  /** @type {EventSource | null} */
  #events = null;
  #isPosting = false;

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
  }

  /** True while the newest request has not ended. */
  get isBusy() {
    return this.#request !== null;
  }

  /** Job of the newest request, once it is accepted and until it ends. */
  get job() {
    return this.#id;
  }

  /** True while the newest request is of a live view. */
  get isLive() {
    return Boolean(this.#request?.live);
  }

  /**
   * Paints a request. The former request is no longer followed.
   *
   * Requests are sent one after the other. Two requests at once could reach the server in the wrong order.
   * @param {Request} request
   */
  async paint(request) {
    // Any other request would wait for the former job.
    if (this.#id !== null && !replaces(request, this.#request)) cancelJob(this.#id).catch(() => {});
    this.#leave();
    this.#request = this.#next = request;
    if (this.#isPosting) return;
    this.#isPosting = true;
    while (this.#next) await this.#send(this.#next);
    this.#isPosting = false;
  }

  /**
   * Follows a job that this page has submitted before a reload.
   * @param {Job} job
   */
  attach({ id, live }) {
    this.#leave();
    this.#request = { live };
    this.#follow(id);
  }

  /** Cancels the newest request. */
  async cancel() {
    const id = this.#id;
    // A request that the server has not accepted yet is cancelled by `#send`, as it is no longer the newest one.
    if (id === null) return this.#end(() => this.#listener.cancelled());
    try {
      await cancelJob(id);
    } catch (error) {
      if (this.#id === id) this.#fail(error);
    }
  }

  /** @param {Request} request */
  async #send(request) {
    this.#next = null;
    try {
      const { id, position } = await submit(request);
      if (this.#request !== request) {
        if (!replaces(this.#request, request)) await cancelJob(id);
        return;
      }
      this.#listener.queued(position);
      this.#follow(id);
    } catch (error) {
      if (this.#request === request) this.#fail(error);
    }
  }

  /** @param {number} id */
  #follow(id) {
    const events = new EventSource(`/api/jobs/${id}/events`);
    this.#id = id;
    this.#events = events;
    /** @param {string} name @param {(data: any) => void} act */
    const on = (name, act) => events.addEventListener(name, (event) => act(event.data ? JSON.parse(event.data) : {}));
    on("queued", ({ position }) => this.#listener.queued(position));
    on("started", () => this.#listener.started());
    on("step", ({ part, done, total, picture }) => this.#listener.step(part, done, total, picture));
    on("finished", (job) => this.#end(() => this.#listener.finished(job)));
    on("failed", ({ error }) => this.#end(() => this.#listener.failed(error)));
    on("cancelled", () => this.#end(() => this.#listener.cancelled()));
    // The browser itself connects again. It gives up only if the server refuses.
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CONNECTING) this.#listener.disconnected();
      else if (this.#events === events) this.#ask(id);
    });
  }

  /**
   * Asks the server how a job ended, after its events can no longer be received.
   * @param {number} id
   */
  async #ask(id) {
    try {
      const job = await getJob(id);
      if (this.#id !== id) return;
      const { result, error, state } = job;
      if (result) this.#end(() => this.#listener.finished(job));
      else if (state === "cancelled") this.#end(() => this.#listener.cancelled());
      else this.#fail(new Refusal(0, error ?? "The connection to the server was lost. Paint again."));
    } catch (error) {
      if (this.#id === id) this.#fail(error);
    }
  }

  /** Stops following the newest request. */
  #leave() {
    this.#events?.close();
    this.#events = this.#id = this.#request = this.#next = null;
  }

  /**
   * Tells the listener that the newest request has ended.
   * @param {() => void} tell
   */
  #end(tell) {
    this.#leave();
    tell();
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#end(() => this.#listener.failed(error instanceof Error ? error.message : String(error)));
  }
}

/**
 * Returns true if the server cancels the former request for the newer one, because both are of one live view.
 * @param {Pick<Request, "live"> | null} newer
 * @param {Pick<Request, "live"> | null} former
 */
function replaces(newer, former) {
  return Boolean(newer?.live) && newer?.live === former?.live;
}
