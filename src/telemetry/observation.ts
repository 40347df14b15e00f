/**
 * What is told of a request when it has been answered. The agent tells it in one place (src/agent/reporter.ts); metrics and
 * whatever else wants to know listen.
 */
import type { ErrorCode } from '../errors.ts';
import type { CountedOperation, Outcome } from './counters.ts';

/** How what was asked travelled. `command` is whatever works on no value: keyInfo, ping, admin and their like. */
export const REQUEST_FORMS = ['value', 'batch', 'stream', 'lane', 'file', 'command'] as const;
export type RequestForm = (typeof REQUEST_FORMS)[number];

/** The version of a key that did the work. */
export interface UsedKey {
  readonly kid: Uint8Array;
  readonly name: string;
  readonly partition: string;
  readonly version: number;
}

/**
 * One request and how it ended. The object and what it refers to are used again: all of it is valid during the call only,
 * so copy what is kept. Nothing of it is secret but the context.
 */
export interface Observation {
  readonly operation: CountedOperation;
  readonly form: RequestForm;
  /** Who asked, e.g. `uid:1000`. */
  readonly caller: string;
  /** Primary group of who asked, and the socket: data or admin. */
  readonly gid: number | undefined;
  readonly socket: string | undefined;
  /** What the client calls itself. */
  readonly client: string;
  /** As the request named them; empty where it named none. Names in a batch's items are not told. */
  readonly key: string;
  readonly partition: string;
  /** Undefined when it failed, for direct keys, and where several did the work of a message; of a batch, that of its first item. */
  readonly used: UsedKey | undefined;
  /** Why the request failed. A batch that was answered is `ok`, whatever became of its items. */
  readonly outcome: Outcome;
  /** 1, or the items of a batch. */
  readonly items: number;
  /** Items of an answered batch that failed; the code of the first of them. */
  readonly failed: number;
  readonly failure: ErrorCode | undefined;
  /** What `dekd why` takes: of the failure, or of the first failed item; empty without one. */
  readonly incident: string;
  /** Bytes of data that came: a plaintext or a token, the frame of a batch, the input of a stream or of a lane call; 0 of files. */
  readonly bytes: number;
  /** The encoded context of the request, a view. Of requests that had to wait it is there only for who `wantsContexts`. */
  readonly context: Uint8Array;
  /** `traceparent` of the client, as W3C Trace Context has it; empty without one. */
  readonly traceparent: string;
  /** When the frame had arrived whole, in milliseconds of `performance.now()`. */
  readonly arrived: number;
}

export interface Observer {
  /** Whether contexts of requests that had to wait are to be kept for it, which copies each. */
  readonly wantsContexts: boolean;
  /** Takes what is told. It must not throw, and takes no clock for each request where `left` will do. */
  answered(observation: Observation): void;
  /** Everything that was told since the last call of this, and had not to wait, leaves now: requests of one chunk together. */
  left(): void;
}

/** Tells several. Undefined when there is none. */
export function observers(all: readonly Observer[]): Observer | undefined {
  if (all.length < 2) {
    return all[0];
  }
  return {
    wantsContexts: all.some(({ wantsContexts }) => wantsContexts),
    answered: (observation) => {
      for (const one of all) {
        one.answered(observation);
      }
    },
    left: () => {
      for (const one of all) {
        one.left();
      }
    },
  };
}
