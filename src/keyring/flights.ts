/** Work that is done once however many ask for it at the same time. */
export class Flights<T> {
  readonly #running = new Map<string, Promise<T>>();

  /** The work in progress under `id`, or `start` when there is none. */
  run(id: string, start: () => Promise<T>): Promise<T> {
    let flight = this.#running.get(id);
    if (flight === undefined) {
      flight = start().finally(() => this.#running.delete(id));
      this.#running.set(id, flight);
    }
    return flight;
  }

  /** Resolves when nothing is in progress, whatever came of it. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.allSettled(this.#running.values());
    }
  }
}
