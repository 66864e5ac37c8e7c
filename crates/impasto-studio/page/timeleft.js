/** Time in milliseconds, and share of a run, after which the rest of the run is estimated. */
const ENOUGH = 1500, MUCH = 0.05;

/** The time that a run still takes, by the pace of the part that was seen. */
export class TimeLeft {
  /** @type {{share: number, time: number} | null} the first step that was seen */
  #first = null;

  /**
   * Returns the time left as text; "" while it cannot be told.
   * @param {number} share share of the run that is done
   * @param {number} now time in milliseconds
   */
  after(share, now) {
    this.#first ??= { share, time: now };
    const [elapsed, done] = [now - this.#first.time, share - this.#first.share];
    if (elapsed < ENOUGH || done < MUCH) return "";
    const seconds = ((1 - share) * elapsed) / done / 1000;
    if (seconds < 1) return "";
    return seconds < 90 ? `about ${Math.ceil(seconds)} s left` : `about ${Math.ceil(seconds / 60)} min left`;
  }
}
