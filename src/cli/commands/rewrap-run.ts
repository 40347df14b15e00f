import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError } from '../../errors.ts';
import type { RewrapFailure, RewrapPage } from '../../keyring/rewrap.ts';
import { AdminClient } from '../admin.ts';
import { CommandError, EXIT } from '../exit.ts';
import { type CommandLine, count, printResult, warn } from '../terminal.ts';

/** Records of one page: what an interruption waits for. */
const PAGE = 50;
/** Pages that move nothing are only read. */
const READ_PAGE = 500;
/** A provider, a keystore or the agent that does not answer is waited for this long in all, at growing intervals. */
const PATIENCE_MS = 60_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000;
const SHOWN_FAILURES = 20;
const PROGRESS_MS = 500;

/** What is to be moved. */
export interface RewrapFields {
  readonly from?: string;
  readonly to?: string;
  readonly name?: string;
  readonly partition?: string;
}

export type Pass = 'dry-run' | 'move' | 'verify';

export interface PassResult {
  examined: number;
  moved: number;
  done: number;
  left: number;
  failed: RewrapFailure[];
}

/**
 * Passes over the records, a page at a time, with progress. A page may be run twice without harm, so what does not answer is
 * asked again, also an agent that was restarted; an interruption ends after the page, and the same command goes on from there.
 */
export class RewrapRun implements AsyncDisposable {
  readonly #line: CommandLine;
  readonly #fields: RewrapFields;
  /** Records a second; Infinity for no limit. */
  readonly #rate: number;
  #admin: AdminClient | undefined;
  #isInterrupted = false;
  readonly #interrupt = (): void => {
    this.#isInterrupted = true;
    warn('stopping after this page; press it again to stop at once');
  };

  private constructor(line: CommandLine, fields: RewrapFields, rate: number, admin: AdminClient) {
    this.#line = line;
    this.#fields = fields;
    this.#rate = rate;
    this.#admin = admin;
    process.once('SIGINT', this.#interrupt);
    process.once('SIGTERM', this.#interrupt);
  }

  /** @throws as `AdminClient.open` does */
  static async open(line: CommandLine, fields: RewrapFields, options: Record<string, unknown>): Promise<RewrapRun> {
    const rate = (options.rate as number | undefined) ?? Number.POSITIVE_INFINITY;
    return new RewrapRun(line, fields, rate, await AdminClient.open(line));
  }

  /** @param expected how many records it will move, where that is known: for the time that is left */
  async pass(kind: Pass, expected = 0): Promise<PassResult> {
    const total: PassResult = { examined: 0, moved: 0, done: 0, left: 0, failed: [] };
    const progress = new Progress(kind, expected, this.#line.json);
    let cursor = '';
    do {
      const started = performance.now();
      const page = await this.#page(kind, cursor);
      total.examined += page.examined;
      total.moved += page.moved;
      total.done += page.done;
      total.left += page.left;
      total.failed.push(...page.failed);
      cursor = page.cursor ?? '';
      progress.show(total, cursor === '');
      this.#checkWorthwhile(kind, total);
      if (kind === 'move' && cursor !== '') {
        await this.#keepRate(page.moved, started);
      }
      if (cursor !== '' || kind !== 'move') {
        this.#checkInterrupted(kind, total);
      }
    } while (cursor !== '');
    return total;
  }

  /** Prints the result. @returns the exit code: failed when a record did, or when it is not `isGood`. */
  finish(document: Record<string, unknown>, isGood: boolean, text: string): number {
    const failed = Object.values(document)
      .filter((value) => typeof value === 'object' && value !== null && 'failed' in value)
      .flatMap((value) => (value as PassResult).failed);
    if (!this.#line.json) {
      for (const { kid, name, partition, version, reason } of failed.slice(0, SHOWN_FAILURES)) {
        warn(`failed ${name}${partition === '' ? '' : ` of ${partition}`} version ${version} (${kid}): ${reason}`);
      }
      if (failed.length > SHOWN_FAILURES) {
        warn(`and ${count(failed.length - SHOWN_FAILURES)} more; --json lists them all`);
      }
    }
    printResult(this.#line, document, failed.length === 0 ? text : `${text}, ${count(failed.length)} failed`);
    return isGood && failed.length === 0 ? EXIT.ok : EXIT.failed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('SIGINT', this.#interrupt);
    process.off('SIGTERM', this.#interrupt);
    this.#admin?.[Symbol.dispose]();
  }

  async #page(kind: Pass, cursor: string): Promise<RewrapPage> {
    const limit = kind === 'dry-run' ? READ_PAGE : Math.max(1, Math.floor(Math.min(PAGE, this.#rate)));
    const rewrap = { ...this.#fields, cursor, limit, dryRun: kind === 'dry-run', verify: kind === 'verify' };
    let wait = FIRST_WAIT_MS;
    const until = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        this.#admin ??= await AdminClient.open(this.#line);
        return (await this.#admin.send({ rewrap })) as RewrapPage;
      } catch (error) {
        if (!DekdError.is(error) || !error.retryable || performance.now() > until || this.#isInterrupted) {
          throw this.#told(error);
        }
        this.#admin?.[Symbol.dispose]();
        this.#admin = undefined;
        warn(`${error.message}; trying again`);
        await sleep(Math.max(wait, error.retryAfterMs ?? 0));
        wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      }
    }
  }

  /** When nothing moves at all there is one reason, and it is no use to meet it for every record. */
  #checkWorthwhile(kind: Pass, { examined, failed }: PassResult): void {
    if (kind === 'move' && failed.length >= PAGE && failed.length === examined) {
      throw new CommandError(EXIT.failed, 'KMS_DENIED', `no record can be moved: ${failed[0]!.reason}`, GO_ON);
    }
  }

  #checkInterrupted(kind: Pass, { moved, examined }: PassResult): void {
    if (this.#isInterrupted) {
      const done = kind === 'move' ? `${count(moved)} records were moved` : `${count(examined)} records were looked at`;
      throw new CommandError(EXIT.failed, 'CANCELLED', `interrupted: ${done}`, GO_ON);
    }
  }

  /** Waits out the time of the page that began at `started`. Time that a stall took is not caught up: the rate is what the provider allows. */
  async #keepRate(moved: number, started: number): Promise<void> {
    const due = started + (moved / this.#rate) * 1000;
    const wait = due - performance.now();
    if (wait > 0) {
      await sleep(wait);
    }
  }

  #told(error: unknown): unknown {
    if (!DekdError.is(error) || !error.retryable) {
      return error;
    }
    return new CommandError(
      error.code === 'AGENT_UNAVAILABLE' ? EXIT.unreachable : EXIT.failed,
      error.code,
      error.message,
      GO_ON,
    );
  }
}

const GO_ON = 'run the same command again: it goes on where it stopped';

/** Lines on standard error: one that is written over at a terminal, one a line in JSON. */
class Progress {
  readonly #kind: Pass;
  readonly #expected: number;
  readonly #json: boolean;
  readonly #started = performance.now();
  #shownAt = 0;

  constructor(kind: Pass, expected: number, json: boolean) {
    this.#kind = kind;
    this.#expected = expected;
    this.#json = json;
  }

  show(result: PassResult, isLast: boolean): void {
    const now = performance.now();
    if (this.#kind === 'dry-run' || (!isLast && now - this.#shownAt < PROGRESS_MS)) {
      return;
    }
    this.#shownAt = now;
    const seconds = Math.max((now - this.#started) / 1000, 0.001);
    const handled = this.#kind === 'move' ? result.moved : result.examined;
    const rate = handled / seconds;
    const secondsLeft = rate > 0 ? Math.max(0, this.#expected - handled) / rate : undefined;
    if (this.#json) {
      const { examined, moved, done, left, failed } = result;
      const progress = { pass: this.#kind, examined, moved, done, left, failed: failed.length, rate, secondsLeft };
      process.stderr.write(`${JSON.stringify({ progress })}\n`);
    } else if (process.stderr.isTTY) {
      process.stderr.write(`\r\u001b[K${this.#text(handled, rate, secondsLeft)}${isLast ? '\n' : ''}`);
    }
  }

  #text(handled: number, rate: number, secondsLeft: number | undefined): string {
    const verb = this.#kind === 'move' ? 'moved' : 'verified';
    const of = this.#expected > 0 ? ` of ${count(this.#expected)}` : '';
    const left = this.#expected > 0 && secondsLeft !== undefined ? `, ${timeLeft(secondsLeft)} left` : '';
    return `${verb} ${count(handled)}${of}, ${count(rate)} a second${left}`;
  }
}

function timeLeft(seconds: number): string {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
