import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');

/**
 * Decrypts wrong tokens, one after the other: those wrong in the first byte of the tag and those wrong in its last one,
 * mixed at random. Needs `dist`.
 * @returns `samples` that were measured, and Welch's t between the two, over all and over the faster nine tenths
 */
export async function measureAgent(samples) {
  const { connect } = await import(join(root, 'dist/client/index.js'));
  const folder = mkdtempSync(join(tmpdir(), 'dekd-timing-'));
  const socket = join(folder, 'agent.sock');
  const agent = spawn(
    process.execPath,
    ['--disable-sigusr1', join(root, 'dist/cli/main.js'), 'dev', '--ephemeral', '--socket', socket],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  try {
    await new Promise((ready, failed) => {
      let text = '';
      for (const stream of [agent.stdout, agent.stderr]) {
        stream.on('data', (chunk) => {
          text += chunk;
          if (/agent ready/.test(text)) {
            ready();
          }
        });
      }
      agent.once('exit', () => failed(new Error(`the agent did not come up: ${text}`)));
    });
    const dekd = connect({ socket });
    const options = { key: 'timing', context: { row: '1' } };
    const token = await dekd.encrypt(Buffer.alloc(64, 7), options);
    const wrong = [token.length - 16, token.length - 1].map((at) => {
      const changed = Uint8Array.from(token);
      changed[at] ^= 1;
      return changed;
    });
    const classes = new Uint8Array(samples);
    const times = new Float64Array(samples);
    for (let i = 0; i < samples + 2_000; i++) {
      const one = randomInt(2);
      const before = process.hrtime.bigint();
      await dekd.decrypt(wrong[one], options).then(
        () => Promise.reject(new Error('a wrong token was opened')),
        () => undefined,
      );
      if (i >= 2_000) {
        classes[i - 2_000] = one;
        times[i - 2_000] = Number(process.hrtime.bigint() - before);
      }
    }
    await dekd.close();
    const limit = times.slice().sort()[Math.floor(samples * 0.9)];
    return {
      subject: 'token tag, over the socket',
      samples,
      t: Number(welch(classes, times, Number.POSITIVE_INFINITY).toFixed(2)),
      tOfFastest90Percent: Number(welch(classes, times, limit).toFixed(2)),
    };
  } finally {
    agent.removeAllListeners('exit');
    agent.kill('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
}

function welch(classes, times, limit) {
  const sides = [0, 1].map(() => ({ count: 0, mean: 0, squares: 0 }));
  for (let i = 0; i < times.length; i++) {
    if (times[i] > limit) {
      continue;
    }
    const side = sides[classes[i]];
    side.count++;
    const delta = times[i] - side.mean;
    side.mean += delta / side.count;
    side.squares += delta * (times[i] - side.mean);
  }
  const [a, b] = sides;
  const spread = a.squares / (a.count - 1) / a.count + b.squares / (b.count - 1) / b.count;
  return spread === 0 ? 0 : (a.mean - b.mean) / Math.sqrt(spread);
}
