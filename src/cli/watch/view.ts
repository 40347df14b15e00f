/** What `status --watch` shows, as lines of text. */
import type { LiveFigures } from '../../telemetry/live-figures.ts';
import type { LiveRates } from '../../telemetry/live-rates.ts';
import { printable } from '../../telemetry/printable.ts';
import { byteSize, count } from '../terminal.ts';

/** How a piece of a line looks; `plain` where there is no terminal. */
export type Paint = (text: string, look: 'bold' | 'dim' | 'good' | 'bad' | 'doubtful') => string;

const BAR_WIDTH = 24;
const MOST_FAILURES = 5;
const MOST_KEYS = 5;

/**
 * The view of one moment.
 * @param width columns there are; no line is longer
 * @param rows lines there are; what matters least is left out
 */
export function viewOf(
  figures: LiveFigures,
  rates: LiveRates,
  paint: Paint,
  { width, rows }: { readonly width: number; readonly rows: number },
): string[] {
  const sections = [
    headOf(figures, paint, width),
    operationsOf(rates, paint),
    keysOf(figures, rates, paint),
    rootsOf(figures, paint),
    callsOf(rates, paint),
    failuresOf(rates, paint),
    processOf(figures, rates, paint),
    namesOf(figures, paint),
  ].filter((lines) => lines.length > 0);
  const lines: string[] = [];
  for (const section of sections) {
    if (lines.length > 0 && lines.length + 1 + section.length > rows) {
      continue;
    }
    lines.push(...(lines.length === 0 ? section : ['', ...section]));
  }
  return lines;
}

function headOf(figures: LiveFigures, paint: Paint, width: number): string[] {
  const { agent, pid, uptimeSeconds, engine, lockLevel, ready, reasons } = figures;
  const left = `${agent}  pid ${pid}  up ${duration(uptimeSeconds * 1000)}  ${engine}, ${lockLevel}`;
  const word = ready ? 'ready' : 'not ready';
  const gap = ' '.repeat(Math.max(2, Math.min(width, 80) - left.length - word.length));
  return [
    `${paint(left, 'bold')}${gap}${paint(word, ready ? 'good' : 'bad')}`,
    ...reasons.map((reason) => paint(`  ${printable(reason)}`, ready ? 'doubtful' : 'bad')),
  ];
}

function operationsOf(rates: LiveRates, paint: Paint): string[] {
  const row = (cells: readonly string[]): string =>
    [cells[0]!.padEnd(22), ...cells.slice(1).map((cell) => cell.padStart(11))].join(' ');
  const lines = rates.requests.map(({ operation, form, perSecond, p50, p99 }) =>
    row([
      form === 'value' || form === 'command' ? operation : `${operation} ${form}`,
      rate(perSecond),
      took(p50),
      took(p99),
    ]),
  );
  const total = row(['all requests', rate(rates.requestsPerSecond), took(rates.p50), took(rates.p99)]);
  return [
    paint(row(['REQUESTS', 'a second', 'p50', 'p99']), 'dim'),
    ...lines,
    paint(total, 'bold'),
    `plaintext sealed ${byteSize(Math.round(rates.sealedPerSecond))}/s, opened ${byteSize(Math.round(rates.openedPerSecond))}/s`,
  ];
}

function keysOf({ keys, arena, traffic, counters }: LiveFigures, rates: LiveRates, paint: Paint): string[] {
  const share = arena.slots === 0 ? 0 : arena.used / arena.slots;
  const hits = rates.hitShare === undefined ? '-' : `${(rates.hitShare * 100).toFixed(1)} %`;
  const oldest = keys.oldestAgeMs === null ? '-' : duration(keys.oldestAgeMs);
  const frozen = keys.frozen > 0 ? paint(`  ${count(keys.frozen)} frozen`, 'doubtful') : '';
  return [
    `${paint('ARENA', 'dim')}    ${bar(share)} ${count(arena.used)} of ${count(arena.slots)} slots, ${rate(rates.evictionsPerSecond)} evictions/s`,
    `${paint('KEYS', 'dim')}     ${count(keys.loaded)} loaded of ${count(keys.known)} known, hits ${hits}, oldest ${oldest}${frozen}`,
    `${paint('SOCKETS', 'dim')}  ${count(traffic.data)} of ${count(traffic.limit)} connections, ${count(traffic.inFlight)} in flight, ${count(traffic.streams)} streams, ${count(counters.framesRefused)} frames refused`,
  ];
}

function rootsOf({ roots }: LiveFigures, paint: Paint): string[] {
  return roots.map((root, index) => {
    const name = `${printable(root.name).slice(0, 13)}${root.default ? ' default' : ''}`.padEnd(22);
    const ages = [
      ...(root.answerAgeMs === null ? [] : [`answer ${duration(root.answerAgeMs)}`]),
      ...(root.proofAgeMs === null ? [] : [`proof ${duration(root.proofAgeMs)}`]),
    ].join(', ');
    const look = root.breaker === 'closed' ? 'good' : root.breaker === 'open' ? 'bad' : 'doubtful';
    const head = index === 0 ? `${paint('ROOTS', 'dim')}  ` : '       ';
    return `${head}${name} ${root.provider.padEnd(13)} ${paint(root.breaker, look)}${ages === '' ? '' : ` ${ages}`}`;
  });
}

function callsOf({ calls }: LiveRates, paint: Paint): string[] {
  const used = calls.filter(({ total }) => total > 0).sort((a, b) => b.perSecond - a.perSecond || b.total - a.total);
  if (used.length === 0) {
    return [];
  }
  const row = (cells: readonly string[]): string =>
    [cells[0]!.slice(0, 30).padEnd(30), ...cells.slice(1).map((cell) => cell.padStart(10))].join(' ');
  return [
    paint(row(['CALLS BEHIND THE AGENT', 'a second', 'p99', 'all', 'failed']), 'dim'),
    ...used
      .slice(0, 6)
      .map(({ target, operation, perSecond, p99, total, failed }) =>
        row([printable(`${target} ${operation}`), rate(perSecond), took(p99), count(total), count(failed)]),
      ),
  ];
}

function failuresOf({ failures }: LiveRates, paint: Paint): string[] {
  if (failures.length === 0) {
    return [];
  }
  const row = (cells: readonly string[]): string =>
    [cells[0]!.padEnd(30), ...cells.slice(1).map((cell) => cell.padStart(10))].join(' ');
  return [
    paint(row(['FAILURES', 'a second', 'all']), 'dim'),
    ...failures.slice(0, MOST_FAILURES).map(({ operation, code, total, perSecond }) => {
      const line = row([`${operation} ${code}`, rate(perSecond), count(total)]);
      return perSecond > 0 ? paint(line, 'bad') : line;
    }),
  ];
}

function processOf({ process, pool, custodians }: LiveFigures, rates: LiveRates, paint: Paint): string[] {
  const files = process.openFiles === null ? '' : `, ${count(process.openFiles)} files`;
  const held = custodians.map(({ role, up, crashes }) => `${role} ${up ? 'up' : 'resting'}, ${count(crashes)} crashes`);
  return [
    `${paint('PROCESS', 'dim')}  cpu ${percent(rates.cores)}, ${byteSize(process.residentBytes)}${files}, loop busy ${percent(rates.busyShare)}, late p99 ${took(rates.loopDelayP99)}`,
    `${paint('POOL', 'dim')}     ${count(pool.threads)} of ${count(pool.workers)} threads, ${count(pool.waiting)} waiting, ${byteSize(pool.heldBytes)} held`,
    ...(held.length === 0 ? [] : [`${paint('CUSTODY', 'dim')}  ${held.join('; ')}`]),
  ];
}

function namesOf({ keys: { names = [] } }: LiveFigures, paint: Paint): string[] {
  return names.length === 0
    ? []
    : [
        paint('OLDEST KEYS', 'dim'),
        ...names
          .slice(0, MOST_KEYS)
          .map(({ name, ageMs }) => `${printable(name).slice(0, 50).padEnd(50)} ${duration(ageMs)}`),
      ];
}

/** `[██████░░░░]` */
function bar(share: number): string {
  const full = Math.min(BAR_WIDTH, Math.round(share * BAR_WIDTH));
  return `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}`;
}

function rate(perSecond: number): string {
  return perSecond === 0 ? '0' : perSecond < 10 ? perSecond.toFixed(1) : count(perSecond);
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** Seconds as a person reads them: `18 µs`, `2.4 ms`, `1.2 s`. */
export function took(seconds: number | undefined): string {
  if (seconds === undefined) {
    return '-';
  }
  if (seconds < 0.001) {
    return `${Math.round(seconds * 1e6)} µs`;
  }
  return seconds < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`;
}

function short(value: number): string {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

/** `42 s`, `3 min`, `5 h`, `12 d`. */
export function duration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  return seconds < 120
    ? `${Math.round(seconds)} s`
    : seconds < 7200
      ? `${Math.round(seconds / 60)} min`
      : seconds < 172_800
        ? `${Math.round(seconds / 3600)} h`
        : `${Math.round(seconds / 86_400)} d`;
}
