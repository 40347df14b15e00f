/**
 * The trace of the request that is being worked on, carried to whoever calls a service for it. Nothing is kept for requests
 * that say none.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

/** Emptied when the request is over: timers that were begun for it go on, and work for nobody in particular. */
interface Carried {
  traceparent: string;
}

const storage = new AsyncLocalStorage<Carried>();

/** `traceparent` of the request that this code runs for; undefined without one. */
export function currentTraceparent(): string | undefined {
  return storage.getStore()?.traceparent || undefined;
}

/** Runs `work` for a request with this `traceparent`, empty for none, until what it returns has settled. */
export function withTraceparent<T extends undefined | Promise<unknown>>(traceparent: string, work: () => T): T {
  if (traceparent === '') {
    return work();
  }
  const carried: Carried = { traceparent };
  const over = () => {
    carried.traceparent = '';
  };
  const done = storage.run(carried, work);
  if (done === undefined) {
    over();
  } else {
    done.then(over, over);
  }
  return done;
}
