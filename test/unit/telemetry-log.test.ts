import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createLog, type LogFields, type LogOptions, limitedLog } from '../../src/telemetry/log.ts';
import { LogOutput } from '../../src/telemetry/log-output.ts';

/** Descriptors of the two ends of a pipe, neither of which blocks. */
function pipe(): [reader: number, writer: number] {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-log-'));
  try {
    const path = join(folder, 'pipe');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return [reader, openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function capture(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const log = createLog({
    level: 'debug',
    format: 'json',
    ...options,
    destination: { write: (line) => lines.push(line) },
  });
  return { log, lines, last: () => JSON.parse(lines.at(-1)!) as Record<string, unknown> };
}

describe('the log', () => {
  it('writes one JSON object a line, with time, level, message and fields', () => {
    const { log, lines, last } = capture();
    log.warn('denied', { code: 'PERMISSION_DENIED', key: 'a\nb', uid: 5, incident: undefined });
    expect(lines).toHaveLength(1);
    expect(lines[0]!.indexOf('\n')).toBe(lines[0]!.length - 1);
    expect(last()).toEqual({
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      level: 'warn',
      message: 'denied',
      code: 'PERMISSION_DENIED',
      key: 'a\nb',
      uid: 5,
    });
  });

  it('writes nothing below its level', () => {
    const { log, lines } = capture({ level: 'warn' });
    log.debug('a');
    log.info('b');
    log.error('c');
    expect(lines).toHaveLength(1);
    const silent = capture({ level: 'silent' });
    silent.log.error('d');
    expect(silent.lines).toEqual([]);
  });

  it('does not write fields it does not know, bytes or objects', () => {
    const { log, lines } = capture();
    const secret = Buffer.from('topsecret');
    log.info('x', {
      plaintext: 'topsecret',
      key: secret,
      caller: { data: 'topsecret' },
      context: { field: 'topsecret' },
    } as unknown as LogFields);
    expect(lines[0]).not.toContain('topsecret');
    expect(lines[0]).not.toContain('116,111');
    expect(lines[0]).toContain('"key":"[redacted]"');
    expect(lines[0]).toContain('"redacted":"[redacted]"');
  });

  it('takes the line of a root key file out of any text', () => {
    const { log, lines } = capture();
    const key = Buffer.alloc(32, 0xa5).toString('base64');
    log.error(`cannot parse ${key}`, {
      reason: `Error: bad line "${key}"`,
      path: '/var/lib/dekd/a/rather/long/path/that/is/no/key/at/all',
    });
    expect(lines[0]).not.toContain(key.slice(0, 12));
    expect(lines[0]).toContain('/var/lib/dekd/a/rather/long/path/that/is/no/key/at/all');
  });

  it('cuts long texts', () => {
    const { log, lines } = capture();
    log.info('x', { reason: 'y'.repeat(1_000_000) });
    expect(lines[0]!.length).toBeLessThan(5000);
  });

  it('writes text for people: one line, longer fields below, nothing a terminal would obey', () => {
    const { log, lines } = capture({ format: 'text' });
    log.warn('denied', { key: 'a b', uid: 5, client: '\u001b[2J\u202ex', reason: 'first\nsecond' });
    const [head, ...rest] = lines[0]!.trimEnd().split('\n');
    expect(head).toMatch(/^\d\d:\d\d:\d\d\.\d{3} warn {2}denied key="a b" uid=5 client=\\u001b\[2J\\u202ex$/);
    expect(rest).toEqual(['    reason: first', '    second']);
  });

  it.each(['SIGTERM', 'exit'])('does not keep a process alive whose reader is gone: %s', async (how) => {
    const script = `import { createLog } from ${JSON.stringify(new URL('../../src/telemetry/log.ts', import.meta.url).href)};
      const log = createLog({ level: 'info', format: 'json' });
      const stop = () => { log.info('stopping'); log.flush(); process.exit(7); };
      process.on('SIGTERM', stop);
      process.stdin.on('end', stop).resume();
      setInterval(() => {}, 1000);
      log.info('first');`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.stdout.destroy();
    if (how === 'SIGTERM') {
      child.kill('SIGTERM');
    } else {
      child.stdin.end();
    }
    expect(await once(child, 'exit')).toEqual([7, null]);
  });

  it('drops lines, and not the agent, when the reader does not read', () => {
    const [reader, writer] = pipe();
    const output = new LogOutput(writer);
    const line = `${'x'.repeat(1023)}\n`;
    for (let i = 0; i < 4096; i++) {
      output.write(line);
    }
    output.flushSync();
    expect(readSync(reader, Buffer.alloc(1024))).toBe(1024);
    closeSync(reader);
    output.write(line);
    output.flushSync();
    closeSync(writer);
  });

  it('loses no line when the process exits at once', () => {
    const script = `import { createLog } from ${JSON.stringify(new URL('../../src/telemetry/log.ts', import.meta.url).href)};
      const log = createLog({ level: 'info', format: 'json' });
      for (let i = 0; i < 500; i++) log.info('line', { count: i });
      process.exit(3);`;
    const child = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], { encoding: 'utf8' });
    expect(child.status).toBe(3);
    expect(
      child.stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { count: number }).count),
    ).toEqual(Array.from({ length: 500 }, (_, index) => index));
  });
});

describe('a limited log', () => {
  it('writes no more than its rate, says how many it left out, and never leaves out errors', () => {
    const { log, lines, last } = capture();
    let now = 0;
    const limited = limitedLog(log, 10, () => now);
    for (let index = 0; index < 1000; index++) {
      limited.warn('denied', { count: index });
    }
    expect(lines).toHaveLength(10);
    limited.info('of another level');
    expect(lines).toHaveLength(11);
    for (let index = 0; index < 20; index++) {
      limited.error('broken');
    }
    expect(lines).toHaveLength(31);
    now = 100;
    limited.warn('denied', { count: 7 });
    expect(last()).toMatchObject({ count: 7, suppressed: 990 });
  });
});
