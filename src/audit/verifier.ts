/**
 * Verifies an audit log, line by line, in memory that does not grow with it: every number, every MAC, every transition from file to
 * file and from run to run, and the anchors. docs/audit.md says what this finds, and what nothing can find.
 */
import { hash } from 'node:crypto';
import { hex } from '../bytes.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Anchor } from './anchors.ts';
import { type ChainKey, runKey } from './chain-key.ts';
import { AUDIT_FORMAT, LINE_START, MAX_LINE, macOf, NO_MAC, textOf } from './format.ts';
import { generationKey } from './key-state.ts';
import type { FileLine } from './lines.ts';

/** Bytes of one block; what an agent writes is far below. */
const MAX_BLOCK = 128 * MAX_LINE;
const MAX_PROBLEMS = 100;
/** Runs under one key, blocks of one run: a number in a file does not keep the verifier at work for ever. */
const MAX_GENERATION = 1_000_000;
const MAX_SKIP = 50_000_000;

export interface AuditProblem {
  readonly file: string;
  /** From 1; 0 for the log as a whole. */
  readonly line: number;
  readonly message: string;
}

/** What verification came to. */
export interface AuditVerdict {
  readonly ok: boolean;
  readonly lines: number;
  readonly blocks: number;
  readonly runs: number;
  /** Anchors that were found in the log as they say. */
  readonly anchored: number;
  /** Records that agents themselves say were never written. */
  readonly lost: number;
  /** Time of the first and the last line. */
  readonly from: string;
  readonly to: string;
  /** The first MAX_PROBLEMS; none when it is ok. */
  readonly problems: readonly AuditProblem[];
  /** What is no proof of a change and should be known. */
  readonly notes: readonly string[];
}

export interface VerifierOptions {
  readonly engine: Engine;
  /** The first key; stays the caller's. */
  readonly key: KeyHandle;
  readonly anchors: readonly Anchor[];
  /** Lines of others are between those of the log, as on standard output. */
  readonly isMixed: boolean;
}

interface Run {
  readonly id: string;
  readonly generation: number;
  /** Undefined while other runs are read; see `#keyOf`. */
  key: ChainKey | undefined;
  previous: Uint8Array;
  /** Number of the last line. */
  seq: number;
  /** Number of the first line that is there. */
  readonly firstSeq: number;
  /** Number of the last line with a MAC, and the MAC as text. */
  sealedSeq: number;
  sealedMac: string;
  /** Blocks whose keys are behind. */
  blocks: number;
  /** Lines since the last MAC. */
  block: Buffer[];
  blockBytes: number;
  /** Whether its last record says that it ended. */
  isStopped: boolean;
  /** Nothing behind this can be verified. */
  isBroken: boolean;
  /** Where a line stands that is none: everything behind the last MAC is kept then, for the next run may know of it. */
  torn: { readonly file: string; readonly line: number } | undefined;
}

/** The last lines of a run said to be there by the run after it. */
interface Claim {
  readonly run: string;
  readonly seq: number;
  readonly mac: string;
  readonly file: string;
  readonly line: number;
  /** Whether nothing that was read came before the run that says it. */
  readonly isFirst: boolean;
}

/** Runs whose keys are kept at hand: a run and the one that took over from it may be read in turn. */
const MAX_KEYS = 32;

export class Verifier {
  readonly #options: VerifierOptions;
  readonly #keyId: string;
  readonly #anchors = new Map<string, Map<number, Anchor>>();
  readonly #runs = new Map<string, Run>();
  readonly #claims: Claim[] = [];
  readonly #problems: AuditProblem[] = [];
  readonly #notes: string[] = [];
  #count = 0;
  #file = '';
  #line = 0;
  /** The run of the file at hand. */
  #run: Run | undefined;
  #lines = 0;
  #blocks = 0;
  #anchored = 0;
  #lost = 0;
  #from = '';
  #to = '';
  /** The highest generation so far. */
  #generation: number | undefined;

  constructor(options: VerifierOptions) {
    this.#options = options;
    this.#keyId = hex(options.engine.kid(options.key));
    for (const anchor of options.anchors) {
      const ofRun = this.#anchors.get(anchor.run) ?? new Map<number, Anchor>();
      this.#anchors.set(anchor.run, ofRun);
      const before = ofRun.get(anchor.seq);
      if (before !== undefined && before.mac !== anchor.mac) {
        this.#problem(`two anchors of line ${anchor.seq} of run ${anchor.run} do not agree`);
      }
      ofRun.set(anchor.seq, anchor);
    }
  }

  /** The next file, in the order in which they were written. */
  begin(file: string): void {
    this.#leaveFile();
    this.#file = file;
    this.#line = 0;
  }

  /** The next line of the file. */
  take({ bytes, isWhole }: FileLine): void {
    this.#line += 1;
    if (this.#options.isMixed && bytes.toString('latin1', 0, LINE_START.length) !== LINE_START) {
      return;
    }
    this.#lines += 1;
    const record = isWhole ? recordOf(bytes) : undefined;
    if (record === undefined) {
      this.#torn(bytes, isWhole);
      return;
    }
    if (this.#from === '') {
      this.#from = record.time;
    }
    this.#to = record.time;
    if (record.event === 'start') {
      this.#start(record);
    } else if (record.event === 'continue') {
      this.#continue(record);
    }
    const run = this.#run;
    if (run === undefined) {
      this.#problem('the file does not begin with a record of start or continue: lines before this one are missing');
      return;
    }
    if (run.torn !== undefined) {
      this.#torn(bytes, true);
    } else if (!run.isBroken) {
      this.#chain(run, record, bytes);
    }
  }

  /** Everything has been taken. */
  end(): AuditVerdict {
    this.#leaveFile();
    this.#file = '';
    this.#line = 0;
    for (const run of this.#runs.values()) {
      if (run.torn !== undefined) {
        const { file, line } = run.torn;
        this.#problemAt(
          file,
          line,
          `this is no line of an audit log; behind line ${run.sealedSeq} of run ${run.id} nothing is verified`,
        );
      } else if (run.block.length > 0 && !run.isBroken) {
        this.#problem(
          `run ${run.id} ends with ${run.block.length} lines without a MAC: ${run.sealedSeq} is the last that is proved`,
        );
      }
      if (!run.isStopped) {
        this.#notes.push(
          `run ${run.id} ends at line ${run.seq} without a record of its stop: the agent still runs, was killed, or the end was cut off`,
        );
      }
    }
    this.#checkClaims();
    this.#checkAnchors();
    for (const run of this.#runs.values()) {
      run.key?.close();
    }
    return {
      ok: this.#count === 0,
      lines: this.#lines,
      blocks: this.#blocks,
      runs: this.#runs.size,
      anchored: this.#anchored,
      lost: this.#lost,
      from: this.#from,
      to: this.#to,
      problems: this.#problems,
      notes: this.#notes,
    };
  }

  /** A run has one file after the other; what it left open goes on in its next one. */
  #leaveFile(): void {
    this.#run = undefined;
  }

  #start(record: AuditRecord): void {
    const { run: id, generation, key, format } = record;
    this.#run = undefined;
    if (format !== AUDIT_FORMAT) {
      this.#problem(`format ${String(format)} is not known to this program; it knows ${AUDIT_FORMAT}`);
      return;
    }
    if (key !== this.#keyId) {
      this.#problem(`run ${String(id)} was made under the key ${String(key)}; the one given is ${this.#keyId}`);
      return;
    }
    if (typeof id !== 'string' || !isCount(generation, MAX_GENERATION) || this.#runs.has(id)) {
      this.#problem(
        this.#runs.has(String(id)) ? `run ${String(id)} begins again` : 'the record of the start is damaged',
      );
      return;
    }
    if (this.#generation !== undefined && generation > this.#generation + 1) {
      this.#problem(`between generation ${this.#generation} and ${generation} of the key a run is missing`);
    }
    this.#generation = Math.max(generation, this.#generation ?? 0);
    this.#run = this.#newRun(id, generation, 0, NO_MAC, 0);
    const { previous, torn } = record;
    if (isPlace(previous)) {
      const { seq, mac } = previous;
      const at = { file: this.#file, line: this.#line, isFirst: this.#runs.size === 1 };
      this.#claims.push({ run: String(previous.run), seq, mac, ...at });
      this.#checkTorn(this.#runs.get(String(previous.run)), torn);
    }
  }

  /** What a kill left of the run before is known to the one after it, byte for byte. */
  #checkTorn(before: Run | undefined, torn: unknown): void {
    if (before === undefined || before.block.length === 0) {
      return;
    }
    const bytes = Buffer.concat(before.block);
    const said = torn as { readonly bytes?: unknown; readonly sha256?: unknown } | undefined;
    if (said?.bytes === bytes.length && said.sha256 === hash('sha256', bytes, 'hex')) {
      this.#notes.push(
        `run ${before.id} was killed while it wrote: ${bytes.length} bytes behind line ${before.sealedSeq} are no proof of anything`,
      );
      before.block = [];
      before.blockBytes = 0;
      before.torn = undefined;
      before.isBroken = true;
    }
  }

  #continue(record: AuditRecord): void {
    const { run: id, generation, key, blocks, previous } = record;
    if (
      typeof id !== 'string' ||
      !isPlace(previous) ||
      !isCount(blocks, MAX_SKIP) ||
      !isCount(generation, MAX_GENERATION)
    ) {
      this.#problem('a record of continue is damaged');
      return;
    }
    const known = this.#runs.get(id);
    this.#run = known;
    if (known === undefined) {
      if (key !== this.#keyId) {
        this.#problem(`run ${id} was made under the key ${String(key)}; the one given is ${this.#keyId}`);
        return;
      }
      this.#generation = Math.max(generation, this.#generation ?? 0);
      this.#notes.push(`run ${id} begins at line ${previous.seq + 1}: what it wrote before is not among the files`);
      this.#run = this.#newRun(id, generation, previous.seq, Buffer.from(previous.mac, 'base64url'), blocks);
      return;
    }
    if (known.isBroken) {
      this.#resume(known, previous, blocks);
    } else if (known.seq !== previous.seq || known.sealedMac !== previous.mac || known.block.length > 0) {
      this.#problem(
        previous.seq > known.seq
          ? `lines ${known.seq + 1} to ${previous.seq} of run ${id} are missing`
          : `run ${id} continues behind line ${previous.seq}, and line ${known.seq} was read: files are missing, changed, twice or in another order`,
      );
      this.#resume(known, previous, blocks);
    }
  }

  /** Goes on behind what is missing or was changed: a record of continue says where in the chain it is, and its own MAC proves it. */
  #resume(run: Run, previous: { readonly seq: number; readonly mac: string }, blocks: number): void {
    if (blocks < run.blocks || previous.seq < run.seq || run.torn !== undefined) {
      run.isBroken = true;
      return;
    }
    this.#keyOf(run).skip(blocks - run.blocks);
    run.blocks = blocks;
    run.seq = previous.seq;
    run.previous = Buffer.from(previous.mac, 'base64url');
    run.block = [];
    run.blockBytes = 0;
    run.isBroken = false;
  }

  #newRun(id: string, generation: number, seq: number, previous: Uint8Array, blocks: number): Run {
    const run: Run = {
      id,
      generation,
      key: undefined,
      previous,
      seq,
      firstSeq: seq + 1,
      sealedSeq: seq,
      sealedMac: seq === 0 ? '' : textOf(previous),
      blocks,
      block: [],
      blockBytes: 0,
      isStopped: false,
      isBroken: false,
      torn: undefined,
    };
    this.#runs.set(id, run);
    return run;
  }

  /** The key of the next block of a run. */
  #keyOf(run: Run): ChainKey {
    if (run.key === undefined) {
      const holders = [...this.#runs.values()].filter(({ key }) => key !== undefined);
      if (holders.length >= MAX_KEYS) {
        holders[0]!.key!.close();
        holders[0]!.key = undefined;
      }
      const { engine, key: first } = this.#options;
      const own = run.generation === 0 ? first : generationKey(engine, first, run.generation);
      run.key = runKey(engine, own, run.id);
      if (own !== first) {
        engine.destroyKey(own);
      }
      run.key.skip(run.blocks);
    }
    return run.key;
  }

  #chain(run: Run, record: AuditRecord, bytes: Buffer): void {
    if (record.audit !== run.seq + 1) {
      this.#broken(
        run,
        record.audit > run.seq + 1
          ? `lines ${run.seq + 1} to ${record.audit - 1} of run ${run.id} are missing`
          : `line ${record.audit} of run ${run.id} stands behind line ${run.seq}: it is there twice, or in another order`,
      );
      return;
    }
    run.seq = record.audit;
    run.isStopped = record.event === 'stop';
    if (record.event === 'gap' && isCount(record.lost, Number.MAX_SAFE_INTEGER)) {
      this.#lost += record.lost;
      this.#notes.push(
        `line ${run.seq} of run ${run.id}: ${record.lost} records were never written, because the log failed`,
      );
    }
    const sealed = macOf(bytes);
    run.block.push(
      Buffer.concat([
        sealed === undefined ? bytes : bytes.subarray(0, sealed.end),
        sealed === undefined ? LINE_FEED : NOTHING,
      ]),
    );
    run.blockBytes += bytes.length + 1;
    if (sealed === undefined) {
      if (run.blockBytes > MAX_BLOCK) {
        this.#broken(run, `run ${run.id} has ${run.block.length} lines without a MAC, which no agent writes`);
      }
      return;
    }
    const mac = this.#keyOf(run).mac(Buffer.concat([run.previous, ...run.block]));
    const first = run.sealedSeq + 1;
    run.block = [];
    run.blockBytes = 0;
    run.blocks += 1;
    this.#blocks += 1;
    if (textOf(mac) !== sealed.mac) {
      this.#broken(
        run,
        first === run.seq
          ? `line ${run.seq} of run ${run.id} is not what was written`
          : `lines ${first} to ${run.seq} of run ${run.id} are not what was written`,
      );
      return;
    }
    run.previous = mac;
    run.sealedSeq = run.seq;
    run.sealedMac = sealed.mac;
    const ofRun = this.#anchors.get(run.id);
    const anchor = ofRun?.get(run.seq);
    if (anchor !== undefined) {
      ofRun!.delete(run.seq);
      if (anchor.mac === sealed.mac) {
        this.#anchored += 1;
      } else {
        this.#problem(`the anchor of line ${run.seq} of run ${run.id} has another MAC than the line`);
      }
    }
  }

  #torn(bytes: Buffer, isWhole: boolean): void {
    const run = this.#run;
    if (run === undefined || (run.isBroken && run.torn === undefined)) {
      this.#problem('this is no line of an audit log');
      return;
    }
    // A kill can leave such a line, and then it is the last of its run: what the next run says of it decides.
    run.block.push(Buffer.from(bytes), isWhole ? LINE_FEED : NOTHING);
    run.blockBytes += bytes.length + 1;
    run.torn ??= { file: this.#file, line: this.#line };
    if (run.blockBytes > MAX_BLOCK) {
      run.torn = undefined;
      this.#broken(run, `run ${run.id} has lines that are none of an audit log`);
    }
  }

  /** What one run says of the one before must be so. */
  #checkClaims(): void {
    for (const claim of this.#claims) {
      const run = this.#runs.get(claim.run);
      if (run === undefined) {
        if (!claim.isFirst) {
          this.#problemAt(claim.file, claim.line, `run ${claim.run}, which came before this one, is missing`);
        } else {
          this.#notes.push(`run ${claim.run}, which came before, is not among the files`);
        }
      } else if (claim.seq > run.sealedSeq && !run.isBroken) {
        this.#problemAt(
          claim.file,
          claim.line,
          `run ${claim.run} was there up to line ${claim.seq}; now it ends at ${run.sealedSeq}`,
        );
      } else if (claim.seq === run.sealedSeq && claim.mac !== run.sealedMac) {
        this.#problemAt(
          claim.file,
          claim.line,
          `line ${claim.seq} of run ${claim.run} was another one when the next run began`,
        );
      }
    }
  }

  #checkAnchors(): void {
    for (const [id, ofRun] of this.#anchors) {
      const run = this.#runs.get(id);
      const missing: Anchor[] = [];
      for (const anchor of ofRun.values()) {
        if (run === undefined) {
          missing.push(anchor);
        } else if (anchor.seq > run.sealedSeq) {
          missing.push(anchor);
        } else if (anchor.seq >= run.firstSeq && !run.isBroken) {
          this.#problem(`an anchor says that line ${anchor.seq} of run ${id} ends a block, and it does not`);
        }
      }
      const last = missing.at(-1);
      if (last === undefined) {
        continue;
      }
      if (run !== undefined) {
        this.#problem(
          `the log is cut off: an anchor says line ${last.seq} of run ${id}, and ${run.sealedSeq} is the last that is proved`,
        );
      } else if (last.time === '' || this.#from === '' || last.time >= this.#from) {
        this.#problem(`an anchor says line ${last.seq} of run ${id}, and nothing of that run is among the files`);
      } else {
        this.#notes.push(`anchors of run ${id} are older than the files`);
      }
    }
  }

  #broken(run: Run, message: string): void {
    run.isBroken = true;
    run.block = [];
    this.#problem(`${message}; nothing behind it in this file is verified`);
  }

  #problem(message: string): void {
    this.#problemAt(this.#file, this.#line, message);
  }

  #problemAt(file: string, line: number, message: string): void {
    this.#count += 1;
    if (this.#problems.length < MAX_PROBLEMS) {
      this.#problems.push({ file, line, message });
    }
  }
}

const LINE_FEED = Buffer.from('\n');
const NOTHING = Buffer.alloc(0);

interface AuditRecord {
  readonly audit: number;
  readonly time: string;
  readonly event: string;
  readonly [name: string]: unknown;
}

function recordOf(bytes: Buffer): AuditRecord | undefined {
  let read: unknown;
  try {
    read = JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
  const record = read as AuditRecord | null;
  return typeof record === 'object' && isCount(record?.audit, Number.MAX_SAFE_INTEGER) ? record : undefined;
}

function isCount(value: unknown, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
}

function isPlace(value: unknown): value is { readonly run?: unknown; readonly seq: number; readonly mac: string } {
  const place = value as { readonly seq?: unknown; readonly mac?: unknown } | undefined;
  return isCount(place?.seq, Number.MAX_SAFE_INTEGER) && typeof place.mac === 'string' && /^[\w-]{43}$/.test(place.mac);
}
