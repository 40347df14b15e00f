/** What one connection of the data socket has in the bulk lane. */
import type { Region, SharedRange } from '../crypto/lane.ts';
import type { FilePass } from '../crypto/lane-files.ts';
import { DekdError } from '../errors.ts';
import type { LanePlace } from '../operations/lane.ts';
import type { HelloReplyFields } from '../protocol/messages.ts';
import type { WireRange } from '../protocol/request-reader.ts';
import type { Lane } from './lane.ts';

/** Regions of one connection. */
const MAX_REGIONS = 16;
/** Files of one connection that no call has named yet. */
const MAX_FILES = 4;

interface Held {
  readonly region: Region;
  readonly size: number;
}

export class LaneSeat {
  /** On whose account regions are. */
  readonly share: string;
  readonly uid: number;
  /** What joins it next; the lane's to set. */
  token = '';
  readonly #lane: Lane;
  /** By the handle that requests name them with; a region's number means nothing to another connection. */
  readonly #regions = new Map<number, Held>();
  readonly #files = new Map<number, { readonly files: FilePass; readonly timer: NodeJS.Timeout }>();
  #lastHandle = 0;
  #left = false;

  constructor(lane: Lane, share: string, uid: number) {
    this.#lane = lane;
    this.share = share;
    this.uid = uid;
  }

  /** What the connection is greeted with. */
  offer(): HelloReplyFields {
    return this.#lane.offer(this);
  }

  /** @throws RESOURCE_EXHAUSTED when there are as many regions as there may be */
  checkRoom(): void {
    if (this.#regions.size >= MAX_REGIONS) {
      throw new DekdError('RESOURCE_EXHAUSTED', `the connection has ${MAX_REGIONS} regions, and more it may not have`);
    }
  }

  /** @returns the handle of a region that is the seat's from here on */
  add(held: Held): number {
    this.#lastHandle += 1;
    this.#regions.set(this.#lastHandle, held);
    return this.#lastHandle;
  }

  /**
   * @param timeoutMs in which a call must name them, or they are let go of
   * @returns the handle of files that are the seat's from here on. @throws RESOURCE_EXHAUSTED
   */
  addFiles(files: FilePass, timeoutMs: number): number {
    if (this.#left) {
      files.close();
      throw new DekdError('CANCELLED', 'the connection was closed');
    }
    if (this.#files.size >= MAX_FILES) {
      files.close();
      throw new DekdError(
        'RESOURCE_EXHAUSTED',
        `the connection has passed ${MAX_FILES} files that no call has named yet`,
      );
    }
    this.#lastHandle += 1;
    const handle = this.#lastHandle;
    const timer = setTimeout(() => this.takeFiles(handle)?.close(), timeoutMs);
    timer.unref();
    this.#files.set(handle, { files, timer });
    this.#lane.countPassed(this.share, 1);
    return handle;
  }

  /** The files are the caller's from here on; undefined when there are none of this handle, or no more. */
  takeFiles(handle: number): FilePass | undefined {
    const held = this.#files.get(handle);
    if (held !== undefined) {
      clearTimeout(held.timer);
      this.#files.delete(handle);
      this.#lane.countPassed(this.share, -1);
    }
    return held?.files;
  }

  /** Where a request's bytes lie. @throws INVALID_ARGUMENT unless both ranges are inside of regions of this seat, and apart */
  place(input: WireRange, result: WireRange): LanePlace {
    const place = { input: this.#range('input', input), result: this.#range('result', result) };
    if (
      place.input.region === place.result.region &&
      input.offset < result.offset + result.length &&
      result.offset < input.offset + input.length
    ) {
      throw new DekdError('INVALID_ARGUMENT', 'the result would overlap the input');
    }
    return place;
  }

  /** The connection is gone. */
  leave(): void {
    if (!this.#left) {
      this.#left = true;
      this.#lane.leave(this, this.#regions.values());
      this.#regions.clear();
      for (const handle of [...this.#files.keys()]) {
        this.takeFiles(handle)?.close();
      }
    }
  }

  #range(name: string, { handle, offset, length }: WireRange): SharedRange {
    const held = this.#regions.get(handle);
    if (held === undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `the ${name} is in region ${handle}, which this connection does not share`,
      );
    }
    if (offset > held.size || length > held.size - offset) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `the ${name}, ${length} bytes at ${offset}, is outside of its region of ${held.size} bytes`,
      );
    }
    return { region: held.region, offset, length };
  }
}
