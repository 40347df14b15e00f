/** A log that was written once: it verifies for ever, here and by the formulas of docs/audit.md alone. */
import { createHmac, hkdfSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { anchorsIn, verdictOf } from '../support/audit.ts';
import { ROOT } from '../support/source-copy.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const FOLDER = join(ROOT, 'test/vectors/golden');
const FILES = [1, 2, 3, 4].map((n) => join(FOLDER, `audit-v1-${n}.jsonl`));
const keyLine = readFileSync(join(FOLDER, 'audit-v1.key'), 'utf8');
const anchors = anchorsIn(readFileSync(join(FOLDER, 'audit-v1-anchors.jsonl'), 'utf8'));

const derive = (key: Uint8Array, label: string): Buffer => Buffer.from(hkdfSync('sha256', key, '', label, 32));

describe('the log of format 1', () => {
  it('verifies with its key and its anchors', async () => {
    const keyFile = join(temporaryFolder(), 'audit.key');
    writeFileSync(keyFile, keyLine, { mode: 0o600 });
    expect(await verdictOf(FILES, keyFile, anchors)).toMatchObject({
      ok: true,
      lines: 19,
      blocks: 14,
      runs: 2,
      anchored: 5,
      problems: [],
      notes: [],
    });
  });

  it('verifies by the formulas alone', () => {
    const first = Buffer.from(keyLine, 'base64');
    let key: Uint8Array = first;
    let previous: Uint8Array = Buffer.alloc(32);
    let block = '';
    let blocks = 0;
    for (const line of FILES.flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(0, -1))) {
      const record = JSON.parse(line) as { event: string; run: string; generation: number };
      if (record.event === 'start') {
        let generation: Uint8Array = first;
        for (let i = 0; i < record.generation; i++) {
          generation = derive(generation, 'dekd/v1/audit/generation');
        }
        key = derive(generation, `dekd/v1/audit/run ${record.run}`);
        previous = Buffer.alloc(32);
      }
      const [, before, mac] = /^(.*),"mac":"([\w-]{43})"\}$/.exec(line) ?? [];
      if (before === undefined) {
        block += `${line}\n`;
        continue;
      }
      const input = Buffer.concat([previous, Buffer.from(block + before)]);
      previous = createHmac('sha256', derive(key, 'dekd/v1/audit/mac')).update(input).digest();
      expect(Buffer.from(previous).toString('base64url')).toBe(mac);
      key = derive(key, 'dekd/v1/audit/next');
      block = '';
      blocks += 1;
    }
    expect(blocks).toBe(14);
    expect(block).toBe('');
  });

  it('has digests of contexts that the key gives again', () => {
    const digestKey = derive(derive(Buffer.from(keyLine, 'base64'), 'dekd/v1/audit/context'), 'dekd/v1/audit/digest');
    const context = Buffer.concat(
      [[0, 2], [0, 5], 'field', [0, 3], 'pan', [0, 7], 'größe', [0, 2], 'ü'].map((part) => Buffer.from(part as string)),
    );
    const digest = createHmac('sha256', digestKey).update(context).digest().subarray(0, 16).toString('base64url');
    expect(FILES.map((file) => readFileSync(file, 'utf8')).join('')).toContain(
      `"context":"${digest}","fields":["field","größe"]`,
    );
  });
});
