/** The audit log of an agent: which of the things that happen here become records, and what they say. */
import { existsSync } from 'node:fs';
import type { AuditLog, AuditStanding } from '../audit/audit-log.ts';
import { auditFiles, type FoundRecord, findIncident } from '../audit/find-incident.ts';
import { bodyOf, type RecordFields } from '../audit/format.ts';
import { openAudit } from '../audit/open-audit.ts';
import { RequestRecords } from '../audit/request-records.ts';
import type { Config } from '../config/config.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { KeyringEvent } from '../keyring/keyring-event.ts';
import type { AdminFields } from '../protocol/messages.ts';
import { readKeyFile } from '../providers/key-file.ts';
import type { Incidents } from '../telemetry/incidents.ts';
import type { Log } from '../telemetry/log.ts';
import type { Observer } from '../telemetry/observation.ts';
import { VERSION } from './version.ts';

/** Commands that change nothing and hand nothing out. */
const READING: ReadonlySet<string> = new Set(['status', 'why', 'list', 'show', 'policy', 'prove']);
/** What a record of a command repeats of it: names and numbers. Records, keys and tokens are not among them. */
const REPEATED = [
  'action',
  'name',
  'partition',
  'version',
  'purpose',
  'tenant',
  'service',
  'from',
  'to',
  'emergency',
  'acceptRollback',
  'thaw',
  'dryRun',
  'verify',
] as const;
const MAX_KIDS = 16;
const MAX_TEXT = 1024;

export interface AgentAuditOptions {
  readonly config: Config;
  readonly engine: Engine;
  readonly log: Log;
  readonly warn: (warning: string) => void;
}

export class AgentAudit {
  /** Whether nothing may be done that cannot be recorded. */
  readonly isStrict: boolean;
  readonly #log: AuditLog;
  readonly #settings: Config['audit'];
  readonly #engine: Engine;
  readonly #digestKey: KeyHandle;

  private constructor(log: AuditLog, settings: Config['audit'], engine: Engine, digestKey: KeyHandle) {
    this.#log = log;
    this.#settings = settings;
    this.#engine = engine;
    this.#digestKey = digestKey;
    this.isStrict = settings.strict;
  }

  /** Undefined where there is none. @throws INVALID_ARGUMENT with the remedy when its key or its file cannot be used */
  static open({ config, engine, log, warn }: AgentAuditOptions): AgentAudit | undefined {
    const settings = config.audit;
    if (settings.to === 'off') {
      return undefined;
    }
    const first = firstKey(config, engine);
    const opened = openAudit({
      settings,
      engine,
      first,
      state: config.state,
      agent: { agent: VERSION, node: config.node, service: config.service, pid: process.pid, uid: process.getuid!() },
      info: (message, anchor) => log.info(message, { anchor }),
      trouble: (message, reason) => log.warn(message, { reason }),
    });
    if (config.state !== undefined && first !== undefined) {
      warn(
        `the audit key is in the state folder now: take ${settings.keyFile} away from here, and keep it where the log is verified`,
      );
    }
    return new AgentAudit(opened.log, settings, engine, opened.digestKey);
  }

  /** Takes what is told of requests. */
  observer(incidents: Incidents): Observer {
    const { requests, sample } = this.#settings;
    return new RequestRecords({
      log: this.#log,
      engine: this.#engine,
      digestKey: this.#digestKey,
      requests,
      sample,
      reasonOf: (incident) => incidents.lookup(incident)?.reason,
    });
  }

  /** Something happened to a key, or to what keys hang under. */
  keyring(event: KeyringEvent): void {
    const { key, partition, version, kid, error } = event;
    const reason = event.reason ?? (error === undefined ? undefined : reasonOf(error));
    const fields = { key, partition: partition || undefined, version, kid, reason: reason?.slice(0, MAX_TEXT) };
    this.#log.append(bodyOf(Date.now(), event.event, fields));
  }

  /** Something happened to the agent. */
  event(name: string, fields: RecordFields): void {
    this.#log.record(name, fields);
  }

  /** A connection was refused before anybody could ask anything. */
  refused(error: DekdError, socket: string): void {
    const fields = { code: error.code, socket, reason: error.reason?.slice(0, MAX_TEXT) };
    this.#log.append(bodyOf(Date.now(), 'connection-refused', fields));
  }

  /**
   * Runs a command of an operator, and records it with what came of it.
   * @throws RESOURCE_EXHAUSTED with `strict`, before anything was done, and what `run` throws
   */
  async command(command: AdminFields, caller: string, run: () => Promise<unknown>): Promise<unknown> {
    const [name, asked] = commandOf(command);
    if (!this.isRecorded(command)) {
      return await run();
    }
    this.#log.admit();
    const said: RecordFields = { caller, command: name, ...repeatedOf(asked) };
    try {
      const document = await run();
      this.#log.record('admin', { ...said, outcome: 'ok', ...resultOf(document) });
      return document;
    } catch (error) {
      const { code, reason, message } = DekdError.from(error);
      this.#log.record('admin', { ...said, outcome: code, reason: (reason ?? message).slice(0, MAX_TEXT) });
      throw error;
    }
  }

  /** Whether a command is recorded: it changes something, or hands records out. `roots list`, `freeze --list` do not. */
  isRecorded(command: AdminFields): boolean {
    const [name, asked] = commandOf(command);
    const { action, list } = asked as { readonly action?: unknown; readonly list?: unknown };
    return !READING.has(name) && action !== 'list' && list !== true;
  }

  /** With `strict`, before a request: see AuditLog. @throws RESOURCE_EXHAUSTED */
  admit(): void {
    this.#log.admit();
  }

  /** With `strict`, before the bytes of a stream leave, which is before its end is told. */
  streamBegins(operation: string, caller: string, key: string, partition: string): void {
    if (this.isStrict) {
      const fields = { operation, caller, key: key || undefined, partition: partition || undefined };
      this.#log.append(bodyOf(Date.now(), 'stream', fields));
    }
  }

  /** Whether nothing is done at the moment, because it could not be recorded. */
  get isBlocked(): boolean {
    return this.isStrict && this.#log.standing().failure !== null;
  }

  /** Records so far that must be written before what they are of may leave. */
  get owed(): number {
    return this.#log.owed;
  }

  commit(): boolean {
    return this.#log.commit();
  }

  withheld(): DekdError {
    return this.#log.withheld();
  }

  standing(): AuditStanding {
    return this.#log.standing();
  }

  /** Looks an incident up in the files; undefined when it is in none, or when there are none. */
  async lookUp(incident: string): Promise<FoundRecord | undefined> {
    const { to, file } = this.#settings;
    return to === 'file' && file !== undefined ? await findIncident(auditFiles(file), incident) : undefined;
  }

  close(): void {
    this.#log.close();
    this.#engine.destroyKey(this.#digestKey);
  }
}

/** The key in the file; undefined where the file was taken away, as it should be once there is a state. */
function firstKey({ audit: { keyFile }, state }: Config, engine: Engine): KeyHandle | undefined {
  if (keyFile === undefined || (state !== undefined && !existsSync(keyFile))) {
    return undefined;
  }
  return readKeyFile(engine, keyFile, 'audit key file');
}

/** Name and fields of a command. */
function commandOf(command: AdminFields): readonly [string, unknown] {
  return Object.entries(command).find(([, value]) => typeof value === 'object' && value !== null) ?? ['none', {}];
}

function repeatedOf(asked: unknown): RecordFields {
  const said = asked as Readonly<Record<string, unknown>>;
  const repeated: Record<string, string | number | boolean> = {};
  for (const name of REPEATED) {
    // What a message does not say is on its prototype.
    const value = Object.hasOwn(said, name) ? said[name] : undefined;
    if (typeof value === 'string' && value !== '') {
      repeated[name] = value.slice(0, MAX_TEXT);
    } else if (typeof value === 'number' || typeof value === 'boolean') {
      repeated[name] = value;
    }
  }
  return repeated;
}

/** Which versions of which keys a command has changed or made. */
function resultOf(document: unknown): RecordFields {
  const { keys } = (document ?? {}) as { readonly keys?: unknown };
  if (!Array.isArray(keys)) {
    return {};
  }
  const kids = keys.flatMap((key: { readonly kid?: unknown }) => (typeof key?.kid === 'string' ? [key.kid] : []));
  return { count: keys.length, kids: kids.slice(0, MAX_KIDS) };
}

function reasonOf(error: unknown): string {
  const { reason, message } = DekdError.from(error);
  return reason ?? message;
}
