/** The page of impasto studio: connects its parts, which each have a file. */

import { cancelJob, getDescription, getJobs, getModel, readRecipe, submit } from "./api.js";
import { AreaPanel } from "./areas.js";
import { CanvasView } from "./canvas.js";
import { ColorPopover } from "./color.js";
import { Comparison } from "./compare.js";
import { byId, create, within } from "./dom.js";
import { Download } from "./download.js";
import { keepDraft, keptDraft, tabName } from "./draft.js";
import { Drawing } from "./drawing.js";
import { FollowedPictures } from "./followed.js";
import { PictureGrid } from "./grid.js";
import { Painter } from "./jobs.js";
import { PromptLines } from "./lines.js";
import { offerLoras } from "./loras.js";
import { Messages } from "./messages.js";
import { ModelChoice } from "./models.js";
import { MoreSettings } from "./more.js";
import { Past } from "./past.js";
import { PictureView } from "./picture.js";
import { decoded, listenForPictures, PictureSlot } from "./pictures.js";
import { RunBar } from "./progress.js";
import { phrasesOf, PromptEditor } from "./prompt.js";
import { entriesOf } from "./recall.js";
import { showReport, summaryOf } from "./report.js";
import { forgetRun, notedRuns, noteRun } from "./runs.js";
import { joined, SavedPrompts } from "./saved.js";
import { Settings } from "./settings.js";
import { listenForShortcuts } from "./shortcuts.js";
import { Tabs } from "./tabs.js";
import { listenForTheme } from "./theme.js";
import { Toolbar } from "./toolbar.js";
import { Vocabulary, withWord } from "./vocabulary.js";

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./api.js").Request} Request
 * @typedef {import("./api.js").Job} Job
 * @typedef {import("./history.js").Entry} Entry
 * @typedef {import("./more.js").Description} Description
 */

/** Pause in typing, in milliseconds, after which a live view is painted. */
const TYPING_PAUSE = 300;

class Studio {
  #messages = new Messages();
  #picture = new PictureView();
  #comparison = new Comparison();
  #download = new Download((work) => this.#attempt(work));
  #grid = new PictureGrid((entry) => this.#show(entry));
  #tabs = new Tabs();
  #past = new Past({
    chosen: (entry) => {
      this.#show(entry);
      this.#tabs.choose("picture");
    },
    recalled: (entry) => this.#show(entry),
    removed: (next, undo) => this.#showInstead(next, undo),
    failed: (error) => this.#messages.fail(withoutRoom(error)),
    attempt: (work) => this.#attempt(work),
  });
  #run = new RunBar(() => this.#cancel());
  #painter = new Painter({
    accepted: (id, request) => {
      // A live view is painted again in any case.
      if (!request.live) this.#note(id, request);
      this.#keepDraft();
    },
    queued: (position) => this.#run.queued(position),
    started: () => this.#run.started(),
    step: (step) => {
      this.#run.step(step);
      if (step.picture) this.#picture.preview(step.picture);
    },
    disconnected: () => this.#run.disconnected(),
    finished: (job) => this.#finish(job),
    loaded: () => this.#attempt(this.#takeModel()),
    failed: (error) => {
      this.#messages.fail(error);
      this.#end("failed");
      this.#loaded?.();
    },
    cancelled: () => {
      this.#end("cancelled");
      this.#loaded?.();
    },
    ended: (id) => forgetRun(this.#painter.started, id),
    lost: () => this.#attempt(this.#lose()),
  });
  #drawing = new Drawing({
    changed: () => this.#repaint(),
    updated: () => this.#update(),
    phrase: () => this.#nextPhrase(),
  });
  #toolbar = new Toolbar(this.#drawing);
  #canvas = new CanvasView(this.#drawing, {
    picked: (color) => this.#pick(color),
    begun: () => this.#keepSeed(),
  });
  #areas = new AreaPanel(this.#drawing);
  #prompt = new PromptEditor(new ColorPopover(), {
    typed: () => {
      this.#offerPhrases();
      this.#repaint(TYPING_PAUSE);
    },
    colored: () => this.#repaint(),
    looked: (word) => this.#picture.look(word),
    repaint: (word) => this.#attempt(this.#repaintWord(word)),
  });
  #vocabulary = new Vocabulary((word) => this.#setPrompt(withWord(this.#prompt.text, word)));
  #lines = new PromptLines();
  /** @type {number[]} jobs of this page that follow the present one */
  #waiting = [];
  #negative = byId("negative", HTMLTextAreaElement);
  #start = new PictureSlot("start", () => {
    this.#updateStart();
    this.#repaint();
  });
  #reference = new PictureSlot("reference", () => this.#repaint());
  #palette = new PictureSlot("palette", () => this.#repaint());
  #settings = new Settings({ changed: () => this.#repaint(), resized: () => this.#resize() });
  #followed = new FollowedPictures(this.#settings.numbers, {
    changed: () => this.#repaint(),
    opened: (file) => this.#attempt(this.#followPicture(file)),
  });
  #more = new MoreSettings(this.#settings.numbers, () => this.#repaint());
  #models = new ModelChoice((name) => this.#attempt(this.#chooseModel(name)));
  /** @type {Description | null} */
  #description = null;
  /** @type {(() => void) | null} called when the model that was asked for is loaded, or cannot be loaded */
  #loaded = null;
  #repaints = byId("repaints", HTMLElement);
  /** @type {string | null} the thing in the start picture that is repainted */
  #maskWhere = null;
  #live = byId("live", HTMLInputElement);
  /** Name of the live view. Without HTTPS, browsers have no `crypto.randomUUID`. */
  #view = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
  /** True if the live view must be painted again as soon as the current run, which is not live, has ended. */
  #isStale = false;
  #timer = 0;
  /** Longest side of a picture. */
  #side = Infinity;

  constructor() {
    new SavedPrompts({
      current: () => ({ prompt: this.#prompt.text, negative: this.#negative.value }),
      use: ({ prompt, negative }) => this.#setPrompt(prompt, negative),
      add: ({ prompt, negative }) =>
        this.#setPrompt(joined(this.#prompt.text, prompt), joined(this.#negative.value, negative)),
    });
    this.#negative.addEventListener("input", () => this.#repaint(TYPING_PAUSE));
    this.#live.addEventListener("change", () => {
      this.#settings.isLive = this.#live.checked;
      this.#repaint();
    });
    byId("settings", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#paint();
    });
    within(this.#repaints, "button", HTMLButtonElement).addEventListener("click", () => {
      this.#setMaskWhere(null);
      this.#repaint();
    });
    for (const card of document.querySelectorAll(".card")) {
      if (card instanceof HTMLElement) card.addEventListener("click", () => this.#paintExample(card.dataset));
    }
    byId("restore", HTMLButtonElement).addEventListener("click", () => this.#restoreShown());
    byId("use", HTMLButtonElement).addEventListener("click", () => {
      if (this.#picture.entry) this.#attempt(this.#use(this.#picture.entry.png));
    });
    byId("picture", HTMLImageElement).addEventListener("click", (event) => {
      if (event.altKey || this.#drawing.tool === "pipette") this.#pick(this.#picture.colorAt(event));
    });
    listenForPictures((file) => this.#attempt(this.#open(file)), (url) => this.#past.png(url));
    listenForShortcuts({
      paint: () => this.#paint(),
      cancel: () => this.#cancel(),
      undo: () => this.#drawing.undo(),
      redo: () => this.#drawing.redo(),
      keys: {
        b: () => this.#toolbar.chooseTool("brush"),
        e: () => this.#toolbar.chooseTool("eraser"),
        l: () => this.#toolbar.chooseTool("lasso"),
        i: () => this.#toolbar.chooseTool("pipette"),
        h: () => this.#toolbar.chooseTool("hand"),
        s: () => this.#past.star(),
        Delete: () => this.#past.remove(),
        "+": () => this.#canvas.zoom.change(1),
        "-": () => this.#canvas.zoom.change(-1),
        0: () => this.#canvas.zoom.reset(),
        "[": () => this.#toolbar.changeSize(-1),
        "]": () => this.#toolbar.changeSize(1),
        1: () => this.#toolbar.chooseLayer("line-art"),
        2: () => this.#toolbar.chooseLayer("strokes"),
        3: () => this.#toolbar.chooseLayer("areas"),
        4: () => this.#toolbar.chooseLayer("mask"),
      },
    });
    this.#attempt(this.#begin());
  }

  /** Asks the server for the model and its jobs, and lets the user paint. */
  async #begin() {
    const [jobs, description] = await Promise.all([getJobs(), getDescription()]);
    const model = await getModel(); // after the jobs, one of which may load another model
    this.#description = description;
    this.#more.setDescription(description);
    this.#setModel(model);
    this.#painter.started = model.started;
    const draft = await keptDraft();
    // Another tab may have loaded another model.
    if (draft) await this.#put({ ...draft.request, model: null }, draft.hold);
    addEventListener("pagehide", () => this.#keepDraft());
    // A phone may end a hidden page without a word.
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.#keepDraft();
    });
    this.#run.end("", "");
    const own = draft?.started === model.started ? draft.job : null;
    await this.#rejoin(jobs, own);
    await this.#past.recall(model, jobs);
  }

  /**
   * Fills in what depends on the model.
   * @param {Model} model
   */
  #setModel(model) {
    this.#side = model.limits.side;
    this.#lines.most = model.limits.queue + 1;
    this.#toolbar.followsLineArt = model.draws || model.colorizes;
    this.#models.setModel(model);
    this.#vocabulary.setModel(model);
    this.#settings.setModel(model);
    if (this.#description) this.#followed.setModel(model, this.#description);
    offerLoras(model.loras, (phrase) => this.#setPrompt(joined(this.#prompt.text, phrase)));
  }

  /** Shows the model that was loaded. */
  async #takeModel() {
    try {
      this.#setModel(await getModel());
      this.#end("the model is loaded");
    } finally {
      this.#loaded?.();
    }
  }

  /**
   * Loads another model, and waits until it is there or cannot be loaded.
   * @param {string} name
   */
  async #chooseModel(name) {
    if (!this.#run.canPaint) throw new Error("A picture is being painted. Choose a model when it is finished.");
    this.#messages.clear();
    this.#run.begin(false, "loading the model");
    this.#models.isLocked = true;
    await new Promise((/** @type {(value: void) => void} */ resolve) => {
      this.#loaded = resolve;
      this.#attempt(this.#painter.load(name));
    });
    this.#loaded = null;
    this.#models.isLocked = false;
  }

  /**
   * Follows the jobs of this tab that have not ended, or else one of another tab of this browser. The jobs of other
   * browsers and programs are left to them. Offers to paint again what a restarted server has lost.
   * @param {Job[]} jobs
   * @param {number | null} own the job that this tab has followed before a reload
   */
  async #rejoin(jobs, own) {
    const runs = await notedRuns();
    const active = jobs.filter(({ state }) => state === "queued" || state === "running");
    /** @type {{job: Job, isOwn: boolean}[]} */
    const noted = [];
    for (const { id, started, tab } of runs.filter((run) => run.started === this.#painter.started)) {
      const job = active.find((one) => one.id === id);
      if (job) noted.push({ job, isOwn: tab === tabName() });
      else forgetRun(started, id);
    }
    const live = active.find(({ id }) => id === own);
    const owned = noted.filter(({ isOwn }) => isOwn).map(({ job }) => job);
    const [first = live, ...rest] = owned;
    const job = first ?? noted.at(-1)?.job;
    if (job) this.#follow(job, job === first);
    this.#waiting = rest.map(({ id }) => id);
    this.#offerLost(runs);
  }

  /**
   * Shows the progress of a job that this page has not submitted since it was loaded.
   * @param {Pick<Job, "id" | "live">} job
   * @param {boolean} isOwn true if this tab has submitted the job
   */
  #follow(job, isOwn) {
    this.#painter.attach(job, isOwn);
    this.#run.begin(this.#painter.isReplaceable);
  }

  /**
   * Offers to paint again the newest request that a former start of the server has not finished.
   * @param {import("./runs.js").Run[]} runs
   */
  #offerLost(runs) {
    const lost = runs.filter(({ started }) => started !== this.#painter.started);
    for (const { id, started } of lost) forgetRun(started, id);
    const { request } = lost.at(-1) ?? {};
    if (!request) return;
    this.#messages.tell("The server was restarted before a picture was finished.", {
      "Paint it again": () => this.#submit({ ...request, model: this.#models.chosen }),
    });
  }

  /** Notes that the server was restarted, which has ended all jobs. */
  async #lose() {
    this.#waiting = [];
    this.#end("");
    const model = await getModel();
    this.#painter.started = model.started;
    this.#models.setModel(model);
    this.#loaded?.();
    this.#offerLost(await notedRuns());
  }

  /** Keeps the page's request and the number of its job. */
  #keepDraft() {
    const { job, started } = this.#painter;
    keepDraft({ request: this.#request(), job, started, hold: this.#settings.seed.hold });
  }

  /** Paints the page's request. */
  #paint() {
    if (!this.#run.canPaint || !this.#numbersAreAllowed()) return;
    const prompts = this.#lines.promptsOf(this.#prompt.text);
    if (prompts.length > this.#lines.most) {
      this.#messages.fail(`The prompt has ${prompts.length} lines. Paint at most ${this.#lines.most} at a time.`);
      return;
    }
    this.#tabs.choose("picture");
    const requests = prompts.map((prompt) => {
      if (!this.#settings.seed.isLocked) this.#settings.seed.roll();
      return { ...this.#request(), prompt };
    });
    this.#submit(requests[0]);
    this.#attempt(this.#submitAfter(requests.slice(1)));
  }

  /**
   * Submits requests that wait for the present one.
   * @param {Request[]} requests
   */
  async #submitAfter(requests) {
    for (const request of requests) {
      await this.#painter.settled;
      if (!this.#painter.isBusy) return; // The user has cancelled, or the server refuses.
      const { id } = await submit(request);
      this.#note(id, request);
      this.#waiting.push(id);
      this.#run.waiting = this.#waiting.length;
    }
  }

  /**
   * Notes a job of this tab.
   * @param {number} id
   * @param {Request} request
   */
  #note(id, request) {
    noteRun({ id, request, started: this.#painter.started, tab: tabName() });
  }

  /**
   * Paints the prompt of a card with its seed.
   * @param {DOMStringMap} card
   */
  #paintExample({ prompt = "", seed }) {
    if (!this.#run.canPaint || !this.#numbersAreAllowed()) return;
    this.#prompt.text = prompt;
    this.#offerPhrases();
    this.#submit({ ...this.#request(), seed: Number(seed) });
  }

  /** Returns true if every number is allowed. Otherwise shows what is wrong with the first one that is not. */
  #numbersAreAllowed() {
    const wrong = this.#settings.numbers.check();
    if (!wrong) return true;
    this.#messages.fail(wrong.problem);
    wrong.field.addEventListener("input", () => this.#messages.clear(), { once: true });
    wrong.field.closest("details")?.toggleAttribute("open", true);
    wrong.field.focus();
    return false;
  }

  /** @param {Request} request */
  #submit(request) {
    this.#messages.clear();
    if (request.areas.some(({ phrase }) => !phrase)) {
      this.#messages.fail("An area has no phrase. Type a phrase of the prompt into its field, or remove the area.");
      return;
    }
    this.#run.begin(request.live !== null);
    this.#grid.close();
    this.#comparison.reset();
    this.#attempt(this.#painter.paint(request));
  }

  #cancel() {
    this.#isStale = false;
    clearTimeout(this.#timer);
    for (const id of this.#waiting.splice(0)) {
      this.#attempt(cancelJob(id));
      forgetRun(this.#painter.started, id);
    }
    if (this.#painter.isBusy) this.#attempt(this.#painter.cancel());
  }

  /**
   * Paints the live view again after a pause, unless a newer change comes before. Does nothing while not live.
   * @param {number} [pause] in milliseconds
   */
  #repaint(pause = 0) {
    clearTimeout(this.#timer);
    // A field with a number that is not allowed says so itself.
    if (!this.#live.checked || this.#settings.numbers.check()) return;
    this.#timer = setTimeout(() => {
      // A full run is not cancelled for a live view.
      this.#isStale = this.#painter.isBusy && !this.#painter.isLive;
      if (this.#isStale) return;
      this.#submit({ ...this.#request(), ...this.#settings.liveRequest(), live: this.#view });
    }, pause);
  }

  /** @returns {Request} */
  #request() {
    const drawn = this.#drawing.request();
    const settings = this.#settings.request();
    const start = this.#drawing.start?.toDataURL("image/png") ?? null;
    const maskWhere = start ? this.#maskWhere : null;
    const isMasked = maskWhere || drawn.mask || settings.details.length > 0;
    return {
      prompt: this.#prompt.text,
      negative: this.#negative.value,
      ...settings,
      ...drawn,
      ...this.#more.request(),
      ...this.#followed.request(this.#side),
      model: this.#models.chosen,
      // The server refuses a setting without what it acts on.
      exact_strokes: settings.exact_strokes && drawn.strokes !== null,
      strength: start ? settings.strength : null,
      keep_colors: settings.keep_colors && start !== null,
      mask: maskWhere ? null : drawn.mask,
      mask_where: maskWhere,
      soften: isMasked ? drawn.soften : null,
      start,
      reference: this.#reference.within(this.#side),
      palette_of: this.#palette.within(this.#side),
      live: null,
    };
  }

  /**
   * Fetches the pictures of a run before the server forgets them, and shows the first one.
   * @param {Job} job
   */
  async #finish(job) {
    try {
      const entries = await entriesOf(job);
      this.#past.add(entries);
      // If another run has begun, the pictures of this run are in the history only.
      if (this.#painter.isBusy) return;
      this.#show(entries[0]);
      this.#grid.open();
      this.#end(`finished in ${Number(entries[0].result.seconds.toFixed(1))} s`, summaryOf(entries[0]));
    } catch (error) {
      this.#messages.fail(error);
      if (!this.#painter.isBusy) this.#end("failed");
    }
  }

  /**
   * Shows the end of a run, if no other run has begun.
   * @param {string} text
   * @param {string} [status] the text for screen readers, if it says more
   */
  #end(text, status = text) {
    this.#run.end(text, status);
    this.#picture.reset();
    const next = this.#waiting.shift();
    this.#run.waiting = this.#waiting.length;
    if (next !== undefined) this.#follow({ id: next, live: null }, true);
    else if (this.#isStale) this.#repaint();
  }

  /** @param {Entry} entry */
  #show(entry) {
    const { entry: before } = this.#picture;
    if (before && before !== entry) this.#comparison.offer(before);
    this.#picture.show(entry);
    this.#download.entry = entry;
    this.#grid.offer(this.#past.runOf(entry));
    this.#attempt(this.#layBelow(entry));
    this.#past.shown = entry;
    showReport(entry, (color) => this.#picture.lay(color));
  }

  /**
   * Shows the next picture in place of one that was removed, and offers to put that one back.
   * @param {Entry | undefined} next
   * @param {() => void} undo
   */
  #showInstead(next, undo) {
    this.#picture.clear();
    this.#grid.offer([]);
    this.#comparison.clear();
    byId("about", HTMLElement).hidden = true;
    this.#drawing.last = null;
    this.#drawing.update();
    if (next) this.#show(next);
    this.#messages.tell("The picture is removed from the history of this browser.", { Undo: undo });
  }

  /**
   * Lays a picture below the drawing, so that the user sees what to paint on.
   * @param {Entry} entry
   */
  async #layBelow(entry) {
    const picture = await decoded(entry.url);
    if (this.#picture.entry !== entry) return;
    this.#drawing.last = picture;
    this.#drawing.update();
  }

  /** Keeps the seed of the picture below the first stroke, so that the next picture is the same scene. */
  #keepSeed() {
    const { entry } = this.#picture;
    if (entry) this.#settings.seed.keep(entry.seed, "Kept since your first stroke, so that the scene stays.");
  }

  /** @param {string} color */
  #pick(color) {
    this.#toolbar.chooseColor(color);
    byId("canvas-status", HTMLElement).textContent = `Color ${color}`;
  }

  /** Shows the current state of the drawing in every part of the page. */
  #update() {
    this.#canvas.update();
    this.#toolbar.update();
    this.#areas.update();
  }

  #resize() {
    const { size } = this.#settings;
    if (!size) return;
    const { width, height } = size;
    byId("stage", HTMLElement).style.setProperty("--ratio", String(width / height));
    this.#drawing.resize(width, height);
    this.#updateStart();
    this.#repaint();
  }

  /** Lays the start picture below the drawing. */
  #updateStart() {
    const { width, height } = this.#drawing;
    this.#drawing.start = this.#start.covering(width, height);
    byId("strength-field", HTMLElement).hidden = !this.#start.picture;
    if (!this.#start.picture) this.#setMaskWhere(null);
    this.#drawing.update();
  }

  /** @param {string | null} word the thing in the start picture that is repainted; null for the whole picture */
  #setMaskWhere(word) {
    this.#maskWhere = word;
    this.#repaints.hidden = !word;
    within(this.#repaints, "b", HTMLElement).textContent = word ?? "";
  }

  /**
   * Repaints the thing of a word alone: in the start picture, or else in the picture that is shown.
   * @param {string} word
   */
  async #repaintWord(word) {
    if (!this.#start.picture) {
      if (!this.#picture.entry) throw new Error("There is no picture to repaint. Paint one, or open one.");
      this.#start.set(await decoded(URL.createObjectURL(this.#picture.entry.png)));
    }
    this.#setMaskWhere(word);
    this.#updateStart();
    this.#messages.tell(`Only “${word}” of the start picture is repainted. Give it a color, or change the prompt, and paint.`, {});
    this.#repaint();
  }

  /**
   * Returns the first phrase of the prompt that has no area yet.
   * @returns {string}
   */
  #nextPhrase() {
    const taken = this.#drawing.areas.map((area) => area.phrase);
    return phrasesOf(this.#prompt.text).find((phrase) => !taken.includes(phrase)) ?? "";
  }

  /**
   * Changes the prompt, as typing does.
   * @param {string} prompt
   * @param {string} [negative]
   */
  #setPrompt(prompt, negative = this.#negative.value) {
    this.#prompt.text = prompt;
    this.#negative.value = negative;
    this.#negative.closest("details")?.toggleAttribute("open", negative !== "");
    this.#offerPhrases();
    this.#repaint(TYPING_PAUSE);
  }

  /** Offers the prompt's phrases to the areas, and its lines to be painted one by one. */
  #offerPhrases() {
    this.#lines.update();
    const options = phrasesOf(this.#prompt.text).map((phrase) => create("option", { value: phrase }));
    byId("phrases", HTMLDataListElement).replaceChildren(...options);
  }

  /**
   * Opens a picture. A picture with a recipe restores the page; for any other picture the user is asked.
   * @param {Blob} file
   */
  async #open(file) {
    this.#messages.clear();
    const restored = await readRecipe(file);
    if (!restored) return this.#use(file);
    await this.#restore(restored, file);
  }

  /** Restores the settings of the picture that is shown. */
  #restoreShown() {
    if (this.#picture.entry) this.#attempt(this.#open(this.#picture.entry.png));
  }

  /**
   * Shows a picture's request in the page, with notes on what the request lacks, and offers to undo that.
   * @param {import("./api.js").Restored} restored
   * @param {Blob} picture the picture that the request comes from
   */
  async #restore({ request, notes }, picture) {
    const before = this.#request();
    const { hold } = this.#settings.seed;
    await this.#put(request);
    const all = ["The settings of the picture are restored.", ...notes.map(sentence), ...this.#followed.missing(request)];
    this.#messages.tell(all.join(" "), {
      Undo: () => this.#attempt(this.#put(before, hold)),
      "Use the picture instead…": () => this.#attempt(this.#put(before, hold).then(() => this.#use(picture))),
    });
  }

  /**
   * Shows a request in the page.
   * @param {Partial<Request>} request
   * @param {import("./seed.js").Hold} [hold] whether the seed stays; without this, a seed of the request is kept
   */
  async #put(request, hold) {
    if (request.model && this.#models.offers(request.model)) await this.#chooseModel(request.model);
    const load = async (/** @type {string | null | undefined} */ url) => (url ? decoded(url) : null);
    const { line_art, strokes, mask, start, reference, palette_of: palette, areas = [] } = request;
    const pictures = await Promise.all([line_art, strokes, mask, start, reference, palette].map(load));
    const masks = await Promise.all(areas.map((area) => decoded(area.mask)));
    this.#prompt.text = request.prompt ?? "";
    this.#negative.value = request.negative ?? "";
    this.#negative.closest("details")?.toggleAttribute("open", this.#negative.value !== "");
    this.#start.set(pictures[3]);
    this.#reference.set(pictures[4]);
    this.#palette.set(pictures[5]);
    const { mask_where: thing = null } = request;
    this.#setMaskWhere(request.start ? (typeof thing === "string" ? thing : (thing?.phrase ?? null)) : null);
    this.#settings.restore(request);
    if (hold) this.#settings.seed.hold = hold;
    this.#more.restore(request);
    await this.#followed.restore(request);
    const painted = areas.map(({ phrase, strength }, index) => ({ phrase, strength, mask: masks[index] }));
    const [lineArt, strokesDrawn, maskDrawn] = pictures;
    const soften = request.soften ?? 0;
    this.#drawing.restore({ lineArt, strokes: strokesDrawn, mask: maskDrawn, soften, areas: painted });
    this.#offerPhrases();
  }

  /**
   * Asks the user how to use a picture, and uses it in this way.
   * @param {Blob} file
   */
  async #use(file) {
    const picture = await decoded(URL.createObjectURL(file));
    const use = await chosenUse(picture.src);
    if (use === "line-art") {
      this.#drawing.loadLineArt(picture);
      this.#toolbar.chooseLayer("line-art");
    } else if (use === "start") {
      this.#start.set(picture);
      this.#updateStart();
    } else if (use === "reference") {
      this.#reference.set(picture);
    } else if (use === "palette") {
      this.#palette.set(picture);
    } else if (use === "followed") {
      this.#followed.add(picture);
    }
    // Slots show the picture, and free it when they get another one.
    if (!["start", "reference", "palette", "followed"].includes(use)) URL.revokeObjectURL(picture.src);
    this.#repaint();
  }

  /** @param {Blob} file a picture to follow, or to draw like */
  async #followPicture(file) {
    this.#followed.add(await decoded(URL.createObjectURL(file)));
    this.#repaint();
  }

  /**
   * Shows the error of work that the page does not wait for.
   * @param {Promise<unknown>} work
   */
  #attempt(work) {
    work.catch((error) => this.#messages.fail(error));
  }
}

/**
 * Says why the browser keeps no pictures, and what to do.
 * @param {unknown} error
 */
function withoutRoom(error) {
  const isFull = error instanceof DOMException && error.name === "QuotaExceededError";
  const why = isFull ? "This browser has no room for more pictures." : "This browser keeps no pictures now.";
  return `${why} Download what you need, because new pictures are gone with the page.`;
}

/**
 * Returns a note as a sentence.
 * @param {string} note
 */
function sentence(note) {
  return `${note.charAt(0).toUpperCase()}${note.slice(1)}.`;
}

/**
 * Asks the user how to use a picture. Returns the chosen button's value, or "" if the user has closed the dialog.
 * @param {string} url
 * @returns {Promise<string>}
 */
function chosenUse(url) {
  const dialog = byId("choose", HTMLDialogElement);
  within(dialog, "img", HTMLImageElement).src = url;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

listenForTheme();
new Studio();
