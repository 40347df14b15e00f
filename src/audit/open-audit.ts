/** Opens the audit log of a run as the configuration says. */
import { randomBytes } from 'node:crypto';
import type { Config } from '../config/config.ts';
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import { standardLogOutput } from '../telemetry/log-output.ts';
import { Anchors } from './anchors.ts';
import { AuditLog } from './audit-log.ts';
import { Chain } from './chain.ts';
import { runKey } from './chain-key.ts';
import { FileSink } from './file-sink.ts';
import { AUDIT_FORMAT, type RecordFields } from './format.ts';
import { openAuditKeys } from './key-state.ts';
import { OutputSink } from './output-sink.ts';
import { tailOf } from './tail.ts';

export interface OpenedAudit {
  readonly log: AuditLog;
  /** Of digests of contexts. */
  readonly digestKey: KeyHandle;
  readonly run: string;
  readonly keyId: string;
}

export interface AuditOptions {
  readonly settings: Config['audit'];
  readonly engine: Engine;
  /** The key in `audit.keyFile`, taken over; undefined where there is none. */
  readonly first: KeyHandle | undefined;
  /** State folder of the agent. */
  readonly state: string | undefined;
  /** What the record of the start says of the agent. */
  readonly agent: RecordFields;
  readonly info: (message: string, anchor: string) => void;
  readonly trouble: (message: string, reason: string) => void;
}

/**
 * Opens it and writes the record of the start.
 * @throws INVALID_ARGUMENT with the remedy, when key or file cannot be used
 */
export function openAudit(options: AuditOptions): OpenedAudit {
  const { settings, engine, first, state, agent, info, trouble } = options;
  const keys = openAuditKeys(engine, first, state);
  try {
    const run = randomBytes(12).toString('base64url');
    const path = settings.file;
    const before = settings.to === 'file' && path !== undefined ? tailOf(path) : {};
    const sink =
      settings.to === 'file' && path !== undefined
        ? new FileSink({
            path,
            maxBytes: settings.rotate.size,
            maxAgeMs: settings.rotate.age,
            fsync: settings.fsync,
          })
        : new OutputSink(standardLogOutput());
    const anchors = new Anchors({
      run,
      lines: settings.anchors.lines,
      intervalMs: settings.anchors.interval,
      file: settings.anchors.file,
      log: (anchor) => info('audit anchor', anchor),
      failed: (reason) => trouble('audit anchor not written', reason),
    });
    const identity = { format: AUDIT_FORMAT, run, key: keys.keyId, generation: keys.generation };
    const log = new AuditLog({
      sink,
      chain: new Chain(runKey(engine, keys.key, run)),
      anchors,
      strict: settings.strict,
      identity,
      trouble,
    });
    const { requests, sample, strict, fsync } = settings;
    log.record('start', { ...identity, ...agent, settings: { requests, sample, strict, fsync }, ...before });
    try {
      // Only now: a run that wrote nothing leaves no gap between generations.
      keys.advance();
    } catch (error) {
      log.close();
      throw error;
    }
    return { log, digestKey: keys.digestKey, run, keyId: keys.keyId };
  } catch (error) {
    keys.close();
    throw error;
  }
}
