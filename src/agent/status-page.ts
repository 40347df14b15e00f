/**
 * The page at `/` of the admin listener: the figures of /status.json, read again each second. All of it is in one document
 * that loads nothing else, and its policy lets nothing else in. It only reads.
 */
import { createHash } from 'node:crypto';
import { liveRates } from '../telemetry/live-rates.ts';

const STYLE = `
:root {
  color-scheme: light dark;
  --ground: light-dark(#f4f5f7, #101318);
  --card: light-dark(#ffffff, #181c23);
  --line: light-dark(#e1e4ea, #2a303a);
  --text: light-dark(#1a1f29, #e6e9ef);
  --faint: light-dark(#5d6675, #98a2b3);
  --accent: light-dark(#2f6fde, #6ea3ff);
  --good: light-dark(#14804a, #4cc38a);
  --doubtful: light-dark(#9a6200, #f0b429);
  --bad: light-dark(#c02b3c, #ff6b78);
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 24px 28px 40px; background: var(--ground); color: var(--text);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1180px; margin: 0 auto; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 10px 16px; margin-bottom: 18px; }
h1 { font-size: 20px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 12px; font-weight: 600; margin: 0 0 10px; color: var(--faint); letter-spacing: 0.02em; }
.faint { color: var(--faint); }
.push { margin-left: auto; }
.pill { padding: 3px 12px; border-radius: 999px; font-weight: 600; border: 1px solid currentColor; }
.good { color: var(--good); } .doubtful { color: var(--doubtful); } .bad { color: var(--bad); }
.grid { display: grid; gap: 14px; grid-template-columns: repeat(12, minmax(0, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; min-width: 0; }
.w3 { grid-column: span 3; } .w4 { grid-column: span 4; } .w6 { grid-column: span 6; } .w12 { grid-column: span 12; }
@media (max-width: 900px) { .w3, .w4 { grid-column: span 6; } .w6 { grid-column: span 12; } }
@media (max-width: 560px) { body { padding: 16px; } .w3, .w4 { grid-column: span 12; } }
.big { font-size: 26px; font-weight: 600; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.unit { font-size: 13px; font-weight: 400; color: var(--faint); letter-spacing: 0; }
svg { display: block; width: 100%; height: 38px; margin-top: 6px; overflow: visible; }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 1.6; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
svg .below { fill: var(--accent); opacity: 0.12; stroke: none; }
svg.bad .curve { stroke: var(--bad); } svg.bad .below { fill: var(--bad); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 0 5px 14px; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 500; color: var(--faint); border-bottom: 1px solid var(--line); }
tbody tr + tr td { border-top: 1px solid var(--line); }
td .form { color: var(--faint); }
.gauge { height: 8px; border-radius: 4px; background: var(--line); overflow: hidden; margin: 8px 0 10px; }
.gauge i { display: block; height: 100%; background: var(--accent); border-radius: 4px; }
.gauge i.doubtful { background: var(--doubtful); }
dl { display: grid; grid-template-columns: 1fr auto; gap: 4px 12px; margin: 0; font-variant-numeric: tabular-nums; }
dt { color: var(--faint); } dd { margin: 0; text-align: right; }
.none { color: var(--faint); padding: 4px 0; }
.stale .grid { opacity: 0.45; }
footer { margin-top: 18px; color: var(--faint); font-size: 12px; }
`;

/** Writes text into elements, never markup: names come from configurations and codes of errors. */
const SCRIPT = `
'use strict';
${liveRates}
const INTERVAL = 1000, LOOKS = 6, POINTS = 60;
const looks = [], history = { requests: [], p99: [], failures: [], busy: [] };
const by = (id) => document.getElementById(id);
const put = (id, text, look) => {
  const element = by(id);
  if (element.textContent !== text) element.textContent = text;
  if (look !== undefined) element.className = look;
};
const number = (value) => Math.round(value).toLocaleString('en-US');
const rate = (value) => value === 0 ? '0' : value < 10 ? value.toFixed(1) : number(value);
const short = (value) => value < 10 ? value.toFixed(1) : String(Math.round(value));
const took = (seconds) => seconds === undefined ? '\\u2013'
  : seconds < 0.001 ? Math.round(seconds * 1e6) + ' \\u00b5s' : seconds < 1 ? short(seconds * 1e3) + ' ms' : short(seconds) + ' s';
const ago = (ms) => {
  if (ms === null || ms === undefined) return '\\u2013';
  const s = ms / 1000;
  return s < 120 ? Math.round(s) + ' s' : s < 7200 ? Math.round(s / 60) + ' min' : s < 172800 ? Math.round(s / 3600) + ' h' : Math.round(s / 86400) + ' d';
};
const size = (bytes) => {
  let unit = 0;
  while (bytes >= 1024 && unit < 4) { bytes /= 1024; unit++; }
  return (unit === 0 ? Math.round(bytes) : bytes.toFixed(bytes < 10 ? 1 : 0)) + ' ' + ['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit];
};
const cell = (value) => {
  const td = document.createElement('td');
  if (Array.isArray(value)) {
    td.append(value[0]);
    const span = document.createElement('span');
    span.className = value[2] ?? 'form';
    span.textContent = value[1];
    td.append(span);
  } else td.textContent = value;
  return td;
};
const rows = (id, lines, nothing) => {
  const body = by(id);
  body.replaceChildren(...lines.map((line) => {
    const tr = document.createElement('tr');
    tr.append(...line.map(cell));
    return tr;
  }));
  by(id + '-table').hidden = lines.length === 0;
  put(id + '-none', lines.length === 0 ? nothing : '');
};
const pairs = (id, list) => {
  by(id).replaceChildren(...list.flatMap(([name, value, look]) => {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = name; dd.textContent = value; if (look) dd.className = look;
    return [dt, dd];
  }));
};
const curve = (id, values) => {
  const top = Math.max(...values, 1e-9), step = 100 / (POINTS - 1), from = POINTS - values.length;
  const points = values.map((value, at) => ((from + at) * step).toFixed(2) + ' ' + (30 - 28 * value / top).toFixed(2));
  by(id).querySelector('.curve').setAttribute('d', 'M' + points.join('L'));
  by(id).querySelector('.below').setAttribute('d', 'M' + (from * step).toFixed(2) + ' 30L' + points.join('L') + 'L100 30Z');
};
const keep = (list, value) => { list.push(value); if (list.length > POINTS) list.shift(); };
function show(now) {
  looks.push(now);
  while (looks.length > LOOKS || looks[0].pid !== now.pid) looks.shift();
  const r = liveRates(looks[0], now);
  put('agent', now.agent);
  put('engine', now.engine + ', ' + now.lockLevel + ', pid ' + now.pid + ', up ' + ago(now.uptimeSeconds * 1000));
  put('ready', now.ready ? 'ready' : 'not ready', 'pill push ' + (now.ready ? (now.reasons.length ? 'doubtful' : 'good') : 'bad'));
  put('reasons', now.reasons.join('. '), now.ready ? 'doubtful' : 'bad');
  put('requests', rate(r.requestsPerSecond)); put('p99', took(r.p99)); put('p50', 'p50 ' + took(r.p50));
  put('failed', rate(r.failuresPerSecond), 'big' + (r.failuresPerSecond > 0 ? ' bad' : ''));
  put('busy', Math.round(r.busyShare * 100) + ' %'); put('late', 'late p99 ' + took(r.loopDelayP99));
  put('items', rate(r.itemsPerSecond) + ' values/s');
  keep(history.requests, r.requestsPerSecond); keep(history.p99, r.p99 ?? 0);
  keep(history.failures, r.failuresPerSecond); keep(history.busy, r.busyShare);
  curve('requests-curve', history.requests); curve('p99-curve', history.p99);
  curve('failed-curve', history.failures); curve('busy-curve', history.busy);
  by('failed-curve').classList.toggle('bad', history.failures.some((value) => value > 0));
  rows('operations', r.requests.map((one) => [
    [one.operation, one.form === 'value' || one.form === 'command' ? '' : ' ' + one.form], rate(one.perSecond), took(one.p50), took(one.p99),
  ]), 'No request yet.');
  rows('failures', r.failures.map((one) => [[one.operation + ' ', one.code, one.perSecond > 0 ? 'bad' : 'form'], rate(one.perSecond), number(one.total)]),
    'None since the start.');
  rows('roots', now.roots.map((root) => [
    [root.name, (root.default ? ' default' : '')], root.provider,
    ['', root.breaker, root.breaker === 'closed' ? 'good' : root.breaker === 'open' ? 'bad' : 'doubtful'],
    root.answerAgeMs === null ? '\\u2013' : ago(root.answerAgeMs) + ' ago', root.proofAgeMs === null ? '\\u2013' : ago(root.proofAgeMs) + ' ago',
  ]), 'None.');
  rows('calls', r.calls.filter((one) => one.total > 0).sort((a, b) => b.total - a.total).map((one) => [
    [one.target + ' ', one.operation], rate(one.perSecond), took(one.p99), number(one.total), ['', number(one.failed), one.failed > 0 ? 'bad' : 'form'],
  ]), 'None yet.');
  const share = now.arena.slots ? now.arena.used / now.arena.slots : 0;
  by('arena-level').style.setProperty('width', (share * 100).toFixed(1) + '%');
  by('arena-level').className = share > 0.9 ? 'doubtful' : '';
  put('arena-text', number(now.arena.used) + ' of ' + number(now.arena.slots) + ' slots');
  pairs('arena', [['Evictions', rate(r.evictionsPerSecond) + '/s'], ['Reloads', rate(r.reloadsPerSecond) + '/s'],
    ['Keys loaded', number(now.keys.loaded)], ['Keys known', number(now.keys.known)],
    ['Hits', r.hitShare === undefined ? '\\u2013' : (r.hitShare * 100).toFixed(1) + ' %'], ['Oldest version that seals', ago(now.keys.oldestAgeMs)],
    ['Freezes', number(now.keys.frozen), now.keys.frozen ? 'doubtful' : '']]);
  pairs('sockets', [['Connections', number(now.traffic.data) + ' of ' + number(now.traffic.limit)], ['In flight', number(now.traffic.inFlight)],
    ['Streams', number(now.traffic.streams)], ['Plaintext sealed', size(r.sealedPerSecond) + '/s'], ['Plaintext opened', size(r.openedPerSecond) + '/s'],
    ['Frames refused', number(now.counters.framesRefused), now.counters.framesRefused ? 'doubtful' : ''],
    ['Connections refused', number(now.counters.connectionsRefused), now.counters.connectionsRefused ? 'doubtful' : '']]);
  pairs('process', [['CPU', Math.round(r.cores * 100) + ' %'], ['Resident memory', size(now.process.residentBytes)],
    ['Open files', now.process.openFiles === null ? '\\u2013' : number(now.process.openFiles)],
    ['Threads', number(now.pool.threads) + ' of ' + number(now.pool.workers)], ['Slices waiting', number(now.pool.waiting)],
    ['Held by large requests', size(now.pool.heldBytes)],
    ...now.custodians.map((one) => ['Custodian, ' + one.role, one.up ? 'up' : 'resting', one.crashes ? 'doubtful' : ''])]);
  put('when', 'Rates of the last ' + Math.max(1, Math.round(r.seconds)) + ' s.');
}
async function again() {
  try {
    const answer = await fetch('status.json', { cache: 'no-store' });
    if (!answer.ok) throw new Error();
    show(await answer.json());
    document.body.className = '';
  } catch {
    document.body.className = 'stale';
    put('ready', 'no answer', 'pill push bad');
  }
  setTimeout(again, INTERVAL);
}
again();
`;

const curve = (id: string): string =>
  `<svg id="${id}" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true"><path class="below"/><path class="curve"/></svg>`;

const tableOf = (id: string, heads: readonly string[]): string =>
  `<div class="scroll"><table id="${id}-table" hidden><thead><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join('')}</tr></thead>` +
  `<tbody id="${id}"></tbody></table></div><div id="${id}-none" class="none"></div>`;

const BODY = `
<main>
<header><h1 id="agent">dekd</h1><span id="engine" class="faint"></span><span id="ready" class="pill push" role="status">…</span></header>
<p id="reasons"></p>
<div class="grid">
<section class="card w3"><h2>Requests</h2><div><span class="big" id="requests">–</span> <span class="unit">a second, <span id="items"></span></span></div>${curve('requests-curve')}</section>
<section class="card w3"><h2>Latency, p99</h2><div><span class="big" id="p99">–</span> <span class="unit" id="p50"></span></div>${curve('p99-curve')}</section>
<section class="card w3"><h2>Failures</h2><div><span class="big" id="failed">–</span> <span class="unit">a second</span></div>${curve('failed-curve')}</section>
<section class="card w3"><h2>Event loop</h2><div><span class="big" id="busy">–</span> <span class="unit">busy, <span id="late"></span></span></div>${curve('busy-curve')}</section>
<section class="card w6"><h2>Requests by operation</h2>${tableOf('operations', ['Operation', 'a second', 'p50', 'p99'])}</section>
<section class="card w6"><h2>Failures since the start</h2>${tableOf('failures', ['Operation and code', 'a second', 'all'])}</section>
<section class="card w12"><h2>Roots</h2>${tableOf('roots', ['Root', 'Provider', 'Breaker', 'Answered', 'Keys proved'])}</section>
<section class="card w4"><h2>Key table</h2><div id="arena-text"></div><div class="gauge"><i id="arena-level"></i></div><dl id="arena"></dl></section>
<section class="card w4"><h2>Sockets</h2><dl id="sockets"></dl></section>
<section class="card w4"><h2>Process</h2><dl id="process"></dl></section>
<section class="card w12"><h2>Calls to providers and keystores</h2>${tableOf('calls', ['Call', 'a second', 'p99', 'all', 'failed'])}</section>
</div>
<footer><span id="when"></span> Read-only; nothing secret and no name of a key is shown. The same in a terminal: dekd status --watch.</footer>
</main>`;

/** The document. */
export const STATUS_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>dekd</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>${BODY}
<script>${SCRIPT}</script>
</body>
</html>
`;

/** Its Content-Security-Policy: this style, this script, figures of this address, and nothing else. */
export const STATUS_PAGE_POLICY = [
  "default-src 'none'",
  `style-src '${digestOf(STYLE)}'`,
  `script-src '${digestOf(SCRIPT)}'`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function digestOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
