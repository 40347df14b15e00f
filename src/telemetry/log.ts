/**
 * The log: one line an event, on standard output, with fields from a closed list. Keys, plaintexts, tokens and context
 * values have no field, so they cannot be logged by handing over the wrong object.
 *
 * `error` means a defect of dekd or of its surroundings that somebody must look at; a refused caller is `warn`.
 */
import { standardLogOutput } from './log-output.ts';
import { printableLines } from './printable.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Every field a line may have. */
export interface LogFields {
  readonly code?: string | undefined;
  /** Operator-only detail of an error, the remedy of a denial. */
  readonly reason?: string | undefined;
  readonly incident?: string | undefined;
  /** Id of the caller's trace, 32 hex digits. */
  readonly trace?: string | undefined;
  readonly operation?: string | undefined;
  readonly key?: string | undefined;
  readonly partition?: string | undefined;
  readonly version?: number | undefined;
  /** Hex. */
  readonly kid?: string | undefined;
  readonly state?: string | undefined;
  readonly caller?: string | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly client?: string | undefined;
  readonly connection?: number | undefined;
  readonly connections?: number | undefined;
  readonly path?: string | undefined;
  readonly socket?: string | undefined;
  readonly engine?: string | undefined;
  readonly library?: string | undefined;
  readonly lockLevel?: string | undefined;
  readonly root?: string | undefined;
  readonly resolvedId?: string | undefined;
  readonly provider?: string | undefined;
  readonly keystore?: string | undefined;
  readonly rule?: string | undefined;
  readonly warning?: string | undefined;
  readonly signal?: string | undefined;
  readonly agent?: string | undefined;
  readonly pid?: number | undefined;
  readonly count?: number | undefined;
  readonly bytes?: number | undefined;
  readonly limit?: number | undefined;
  readonly milliseconds?: number | undefined;
  /** Of the audit log: RUN.SEQ.MAC. */
  readonly anchor?: string | undefined;
  /** Lines of the same level that were not written, because there were too many. */
  readonly suppressed?: number | undefined;
}

const FIELD_NAMES: ReadonlySet<string> = new Set<keyof LogFields>([
  'code',
  'reason',
  'incident',
  'trace',
  'operation',
  'key',
  'partition',
  'version',
  'kid',
  'state',
  'caller',
  'uid',
  'gid',
  'client',
  'connection',
  'connections',
  'path',
  'socket',
  'engine',
  'library',
  'lockLevel',
  'root',
  'resolvedId',
  'provider',
  'keystore',
  'rule',
  'warning',
  'signal',
  'agent',
  'pid',
  'count',
  'bytes',
  'limit',
  'milliseconds',
  'anchor',
  'suppressed',
]);

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Writes out what is buffered, synchronously; also done when the process exits. */
  flush(): void;
}

/** What of a log can change while it is written. */
export interface LogSettings {
  readonly level: LogLevel | 'silent';
  readonly format: 'json' | 'text';
}

export interface LogOptions extends LogSettings {
  /** Takes whole lines; default standard output. */
  readonly destination?: { write(line: string): void };
}

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
const REDACTED = '[redacted]';
const MAX_TEXT = 4096;

/** A root key file's line inside another text: 32 bytes in base64. */
const KEY_LINE = /(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43}=/g;

/** A log whose settings can be replaced. */
export interface AdjustableLog extends Log {
  adjust(settings: LogSettings): void;
}

export function createLog({ level, format, destination }: LogOptions): AdjustableLog {
  const own = destination === undefined ? standardLogOutput() : undefined;
  const output = destination ?? own!;
  let threshold = thresholdOf(level);
  let isText = format === 'text';
  if (own !== undefined) {
    process.on('exit', () => own.flushSync());
  }
  const write =
    (name: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      if (LEVELS.indexOf(name) < threshold) {
        return;
      }
      const time = new Date().toISOString();
      const line = `${JSON.stringify({ level: name, time, ...admitted(fields), message: clean(message) })}\n`;
      output.write(isText ? textLine(line) : line);
    };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    flush: () => own?.flushSync(),
    adjust(settings) {
      threshold = thresholdOf(settings.level);
      isText = settings.format === 'text';
    },
  };
}

function thresholdOf(level: LogSettings['level']): number {
  return level === 'silent' ? LEVELS.length : LEVELS.indexOf(level);
}

/** The fields that may be written: known names with plain values; anything else shows that it was there. */
function admitted(fields: LogFields): Record<string, string | number | boolean> {
  const written: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(fields) as [string, unknown][]) {
    if (value === undefined) {
      continue;
    }
    if (!FIELD_NAMES.has(name)) {
      written.redacted = REDACTED;
    } else if (typeof value === 'string') {
      written[name] = clean(value);
    } else {
      written[name] = typeof value === 'number' || typeof value === 'boolean' ? value : REDACTED;
    }
  }
  return written;
}

function clean(textValue: string): string {
  const short = textValue.length > MAX_TEXT ? `${textValue.slice(0, MAX_TEXT)}…` : textValue;
  return short.replace(KEY_LINE, REDACTED);
}

/** `12:00:00.000 warn message key=value …`, control characters escaped; the lines of a longer field follow below. */
function textLine(json: string): string {
  const { time, level, message, ...fields } = JSON.parse(json) as Record<string, string | number | boolean>;
  const short: string[] = [];
  let long = '';
  for (const [name, value] of Object.entries(fields)) {
    const shown = printableLines(String(value), '    ');
    if (shown.includes('\n')) {
      long += `\n    ${name}: ${shown}`;
    } else {
      short.push(`${name}=${/[\s"=]/.test(shown) || shown === '' ? JSON.stringify(shown) : shown}`);
    }
  }
  const head = `${String(time).slice(11, 23)} ${String(level).padEnd(5)} ${printableLines(String(message), '    ')}`;
  return `${[head, ...short].join(' ')}${long}\n`;
}

/**
 * `log` with at most `perSecond` lines of debug, info and warn each; the next line written after that says how many were
 * left out. Callers can cause such lines, and must not be able to fill the disk with them.
 */
export function limitedLog(log: Log, perSecond: number, now: () => number = () => performance.now()): Log {
  const limited = (name: 'debug' | 'info' | 'warn') => {
    let allowance = perSecond;
    let last = now();
    let suppressed = 0;
    return (message: string, fields?: LogFields): void => {
      const time = now();
      allowance = Math.min(perSecond, allowance + ((time - last) / 1000) * perSecond);
      last = time;
      if (allowance < 1) {
        suppressed++;
        return;
      }
      allowance--;
      log[name](message, suppressed === 0 ? fields : { ...fields, suppressed });
      suppressed = 0;
    };
  };
  return {
    debug: limited('debug'),
    info: limited('info'),
    warn: limited('warn'),
    error: (message, fields) => log.error(message, fields),
    flush: () => log.flush(),
  };
}
