import { cancelJob, getJob, getModel, loadModel, submit } from "./api.js";

/**
 * @typedef {import("./api.js").Request} Request
 * @typedef {import("./api.js").Job} Job
 *
 * Callbacks that a painter calls about the newest request. Exactly one of `finished`, `loaded`, `failed`, `cancelled` and
 * `lost` ends a request, unless a newer request takes its place.
 * @typedef {object} Listener
 * @property {(id: number, request: Request) => void} accepted called with the number of the new job
 * @property {(position: number) => void} queued
 * @property {() => void} started
 * @property {(step: Step) => void} step
 * @property {(job: Job) => void} finished called with a job that has a result
 * @property {() => void} loaded called after another model was loaded
 * @property {() => void} disconnected called when the connection is lost; the browser connects again
 * @property {(error: string) => void} failed
 * @property {() => void} cancelled
 * @property {() => void} lost called if the server was restarted, which ends every job
 * @property {(id: number) => void} ended called before `finished`, `failed` and `cancelled` with the number of the job
 *
 * A step of a job. `part` counts the runs of a request with details or a second run, from 1 to `parts` or more.
 * @typedef {{part: number, parts: number, done: number, total: number, picture: string}} Step
 */

/** Pause in milliseconds after which a lost job is followed again. */
const PAUSE = 1000;

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
  /** True while the newest job is one that another tab has submitted. */
  #isWatched = false;
  /** Ends once the server has answered the newest request. */
  settled = Promise.resolve();
  /** Time at which the server was started. */
  started = 0;

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
  }

  /** True while the newest request has not ended. */
  get isBusy() {
    return this.#request !== null;
  }

  /** Job that this tab has submitted and follows. */
  get job() {
    return this.#isWatched ? null : this.#id;
  }

  /** True if a new request can take the place of the newest one. */
  get isReplaceable() {
    return this.isLive || this.#isWatched;
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
    // Any other request would wait for the former job. The job of another tab is left to that tab.
    if (this.job !== null && !replaces(request, this.#request)) cancelJob(this.job).catch(() => {});
    this.#leave();
    this.#request = this.#next = request;
    if (this.#isPosting) return;
    this.#isPosting = true;
    this.settled = this.#sendAll();
    await this.settled;
  }

  /** Sends the newest request, until there is no newer one. */
  async #sendAll() {
    while (this.#next) await this.#send(this.#next);
    this.#isPosting = false;
  }

  /**
   * Follows a job that this tab has submitted before a reload, or that another tab has submitted.
   * @param {Job} job
   * @param {boolean} isOwn
   */
  attach({ id, live }, isOwn) {
    this.#leave();
    this.#request = { live };
    this.#isWatched = !isOwn;
    this.#follow(id);
  }

  /**
   * Loads another model, after the jobs that wait. The former request is no longer followed.
   * @param {string} name
   */
  async load(name) {
    this.#leave();
    const request = (this.#request = { live: null });
    try {
      const { id, position } = await loadModel(name);
      if (this.#request !== request) return;
      this.#listener.queued(position);
      this.#follow(id);
    } catch (error) {
      if (this.#request === request) this.#fail(error);
    }
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
      this.#listener.accepted(id, request);
      this.#listener.queued(position);
      this.#follow(id);
    } catch (error) {
      if (this.#request === request) this.#fail(error);
    }
  }

  /**
   * @param {number} id
   * @param {boolean} [isAgain] true if the connection was lost, after which the server may be another
   */
  #follow(id, isAgain = false) {
    const events = new EventSource(`/api/jobs/${id}/events`);
    this.#id = id;
    this.#events = events;
    let isLost = isAgain;
    // Events wait until it is known that the server was not restarted.
    let verified = Promise.resolve(true);
    /** @param {string} name @param {(data: any) => void} act */
    const on = (name, act) => events.addEventListener(name, async (event) => {
      await verified;
      if (this.#events === events) act(event.data ? JSON.parse(event.data) : {});
    });
    on("queued", ({ position }) => this.#listener.queued(position));
    on("started", () => this.#listener.started());
    on("step", (step) => this.#listener.step(step));
    on("finished", (job) => this.#end(() => this.#listener.finished(job)));
    on("loaded", () => this.#end(() => this.#listener.loaded()));
    on("failed", ({ error }) => this.#end(() => this.#listener.failed(error)));
    on("cancelled", ({ closing }) => {
      if (closing) this.#followLater(id);
      else this.#end(() => this.#listener.cancelled());
    });
    // The browser itself connects again. It gives up only if the server refuses.
    events.addEventListener("error", () => {
      isLost = true;
      if (this.#events !== events) return;
      if (events.readyState === EventSource.CONNECTING) this.#listener.disconnected();
      else this.#ask(id);
    });
    // A server that was restarted may have another job of this number.
    events.addEventListener("open", () => {
      if (isLost) verified = this.#verify(id);
    });
  }

  /**
   * Asks the server how a job ended, after its events can no longer be received.
   * @param {number} id
   */
  async #ask(id) {
    const isThere = await this.#verify(id);
    if (this.#id !== id) return;
    if (!isThere) return this.#followLater(id);
    try {
      const job = await getJob(id);
      if (this.#id !== id) return;
      const { result, error, state } = job;
      if (result) this.#end(() => this.#listener.finished(job));
      else if (state === "loaded") this.#end(() => this.#listener.loaded());
      else if (state === "cancelled") this.#end(() => this.#listener.cancelled());
      else if (error) this.#end(() => this.#listener.failed(error));
      else this.#followLater(id);
    } catch (error) {
      if (this.#id === id) this.#fail(error);
    }
  }

  /**
   * Follows a job again after a pause, because the server cannot be reached or has no room for another listener.
   * @param {number} id
   */
  #followLater(id) {
    this.#events?.close();
    this.#listener.disconnected();
    setTimeout(() => {
      if (this.#id === id) this.#follow(id, true);
    }, PAUSE);
  }

  /**
   * Gives a job up if the server was restarted. Returns true if the server answers.
   * @param {number} id
   */
  async #verify(id) {
    const model = await getModel().catch(() => null);
    if (model && model.started !== this.started && this.#id === id) this.#lose();
    return model !== null;
  }

  /** Stops following the newest request. */
  #leave() {
    this.#events?.close();
    this.#events = this.#id = this.#request = this.#next = null;
    this.#isWatched = false;
  }

  /**
   * Tells the listener that the newest request has ended.
   * @param {() => void} tell
   */
  #end(tell) {
    const id = this.#id;
    this.#leave();
    if (id !== null) this.#listener.ended(id);
    tell();
  }

  /** Tells the listener that the newest request was lost. */
  #lose() {
    this.#leave();
    this.#listener.lost();
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
