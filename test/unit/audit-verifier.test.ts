import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Anchor, anchorOf, anchorText } from '../../src/audit/anchors.ts';
import { Chain } from '../../src/audit/chain.ts';
import { CHAIN_USE, runKey } from '../../src/audit/chain-key.ts';
import { bodyOf } from '../../src/audit/format.ts';
import { linesOf } from '../../src/audit/lines.ts';
import { tornOf } from '../../src/audit/tail.ts';
import { type AuditVerdict, Verifier } from '../../src/audit/verifier.ts';
import { hex } from '../../src/bytes.ts';
import type { Engine, KeyHandle } from '../../src/crypto/engine.ts';
import { loadEngine } from '../../src/crypto/load.ts';

let engine: Engine;
let key: KeyHandle;
let keyId: string;

beforeAll(async () => {
  ({ engine } = await loadEngine({ engine: 'auto', minimumLockLevel: 'heap', snapshotSafe: false }));
  key = engine.generateKey(CHAIN_USE);
  keyId = hex(engine.kid(key));
});
afterAll(() => engine.close());

/** A run that writes blocks of so many lines, the first of which is its start. */
class Writer {
  readonly id: string;
  readonly generation: number;
  readonly chain: Chain;
  blocks: Buffer[] = [];

  constructor(id: string, generation = 0, more = {}, own = key) {
    this.id = id;
    this.generation = generation;
    this.chain = new Chain(runKey(engine, own, id));
    this.write(1, 'start', { ...this.identity, ...more });
  }

  get identity() {
    return { format: 1, run: this.id, key: keyId, generation: this.generation };
  }

  write(lines: number, event = 'request', fields = {}): Buffer {
    const bodies = Array.from({ length: lines }, (_, i) => bodyOf(1_700_000_000_000 + i, event, { ...fields, i }));
    const block = this.chain.seal(bodies);
    this.blocks.push(block);
    return block;
  }

  /** What stands in the file so far; another file follows. */
  file(): Buffer {
    const bytes = Buffer.concat(this.blocks);
    this.blocks = [];
    return bytes;
  }

  continue(): void {
    this.write(1, 'continue', { ...this.identity, blocks: this.chain.blocks, previous: this.chain.place });
  }

  get anchor(): Anchor {
    return { run: this.id, time: '2023-11-14T22:13:20.000Z', ...this.chain.place! };
  }
}

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) {
    yield bytes.subarray(at, at + size);
  }
}

async function verify(
  files: readonly Buffer[],
  anchors: readonly Anchor[] = [],
  options: { piece?: number; isMixed?: boolean; key?: KeyHandle } = {},
): Promise<AuditVerdict> {
  const verifier = new Verifier({ engine, key: options.key ?? key, anchors, isMixed: options.isMixed ?? false });
  for (const [index, file] of files.entries()) {
    verifier.begin(`file ${index}`);
    for await (const line of linesOf(inPieces(file, options.piece ?? 4096))) {
      verifier.take(line);
    }
  }
  return verifier.end();
}

function logOf(sizes: readonly number[], id = 'run'): { writer: Writer; bytes: Buffer } {
  const writer = new Writer(id);
  for (const size of sizes) {
    writer.write(size);
  }
  writer.write(1, 'stop');
  return { writer, bytes: writer.file() };
}

function linesIn(bytes: Buffer): string[] {
  return bytes.toString().split('\n').slice(0, -1);
}

describe('a log as it was written', () => {
  it('is verified, whatever the pieces that it is read in', async () => {
    const { writer, bytes } = logOf([1, 3, 200, 1]);
    for (const piece of [1, 7, 4096, bytes.length]) {
      const verdict = await verify([bytes], [writer.anchor], { piece });
      expect(verdict).toMatchObject({ ok: true, lines: 207, blocks: 6, runs: 1, anchored: 1, problems: [], notes: [] });
    }
  });

  it('is verified over several files, and a later file by itself', async () => {
    const writer = new Writer('run');
    writer.write(5);
    const first = writer.file();
    writer.continue();
    writer.write(4);
    const second = writer.file();
    writer.continue();
    writer.write(1, 'stop');
    const third = writer.file();
    expect(await verify([first, second, third])).toMatchObject({ ok: true, problems: [], notes: [] });
    const alone = await verify([second, third]);
    expect(alone).toMatchObject({ ok: true, problems: [] });
    expect(alone.notes).toEqual(['run run begins at line 7: what it wrote before is not among the files']);
    expect((await verify([first, third])).problems.map(({ message }) => message)).toEqual([
      'lines 7 to 11 of run run are missing',
    ]);
    expect((await verify([second, first, third])).ok).toBe(false);
    expect((await verify([first, second, second, third])).ok).toBe(false);
  });

  it('goes on from one generation of the key to the next', async () => {
    const one = logOf([2], 'one');
    const next = engine.deriveKey(key, 'dekd/v1/audit/generation', CHAIN_USE);
    const { run, seq, mac } = one.writer.anchor;
    const two = new Writer('two', 1, { previous: { run, seq, mac } }, next);
    two.write(3);
    const after = engine.deriveKey(next, 'dekd/v1/audit/generation', CHAIN_USE);
    const three = new Writer('three', 2, { previous: { run: 'two', ...two.chain.place! } }, after);
    const files = [one.bytes, two.file(), three.file()];
    expect(await verify(files)).toMatchObject({ ok: true, runs: 3, problems: [] });
    const without = await verify([files[0]!, files[2]!]);
    expect(without.problems.map(({ message }) => message)).toEqual([
      'between generation 0 and 2 of the key a run is missing',
      'run two, which came before this one, is missing',
    ]);
  });

  it('may stand between lines of others, where that is said', async () => {
    const { bytes } = logOf([3]);
    const mixed = Buffer.from(
      `{"level":"info"}\n${linesIn(bytes).join('\nnot of the audit log\n')}\n{"level":"info"}\n`,
    );
    // Lines of a block that stands together only: it is written at once.
    const single = logOf([1, 1, 1]);
    const between = Buffer.from(`{"level":"info"}\n${linesIn(single.bytes).join('\n{"message":"other"}\n')}\n`);
    expect((await verify([between], [], { isMixed: true })).ok).toBe(true);
    expect((await verify([mixed], [], { isMixed: true })).ok).toBe(true);
    expect((await verify([between])).ok).toBe(false);
  });

  it('is nothing under another key, which is said', async () => {
    const { bytes } = logOf([3]);
    const other = await verify([bytes], [], { key: engine.generateKey(CHAIN_USE) });
    expect(other.problems[0]!.message).toMatch(/^run run was made under the key [0-9a-f]{32}; the one given is/);
  });
});

describe('any change of a log', () => {
  it('is found: a byte that is another', async () => {
    const { bytes, writer } = logOf([1, 3, 10, 2]);
    const anchors = [writer.anchor];
    for (let at = 0; at < bytes.length; at++) {
      for (const bit of [0, 5]) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1 << bit;
        expect((await verify([changed], anchors)).ok, `byte ${at}`).toBe(false);
      }
    }
  });

  it('is found: lines changed, gone, doubled, moved or made up, in random logs', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 8 }),
        fc.nat(),
        fc.nat(),
        fc.constantFrom('delete', 'double', 'swap', 'insert', 'cut', 'edit', 'replace'),
        async (sizes, first, second, how) => {
          const { bytes, writer } = logOf(sizes, `run-${sizes.join('')}`);
          const lines = linesIn(bytes);
          const at = first % lines.length;
          const other = second % lines.length;
          const changed = [...lines];
          switch (how) {
            case 'delete':
              changed.splice(at, 1);
              break;
            case 'double':
              changed.splice(other, 0, lines[at]!);
              break;
            case 'swap':
              [changed[at], changed[other]] = [lines[other]!, lines[at]!];
              break;
            case 'insert':
              changed.splice(at, 0, `{"audit":${at + 1},"time":"2023-11-14T22:13:20.000Z","event":"request"}`);
              break;
            case 'cut':
              changed.length = at;
              break;
            case 'edit':
              changed[at] = lines[at]!.replace(/"i":\d+/, '"i":77');
              break;
            case 'replace':
              changed[at] = lines[other]!;
              break;
          }
          const text = changed.map((line) => `${line}\n`).join('');
          fc.pre(text !== bytes.toString());
          expect((await verify([Buffer.from(text)], [writer.anchor])).ok).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('is found at the end only with an anchor of it, and without one it is said that no stop is there', async () => {
    const { bytes, writer } = logOf([1, 1, 1]);
    const cut = Buffer.from(`${linesIn(bytes).slice(0, -2).join('\n')}\n`);
    const without = await verify([cut]);
    expect(without.ok).toBe(true);
    expect(without.notes[0]).toMatch(/^run run ends at line 3 without a record of its stop/);
    const withAnchor = await verify([cut], [writer.anchor]);
    expect(withAnchor.problems.map(({ message }) => message)).toEqual([
      'the log is cut off: an anchor says line 5 of run run, and 3 is the last that is proved',
    ]);
  });

  it('is found when a whole run is gone that an anchor speaks of', async () => {
    const one = logOf([1], 'one');
    const two = logOf([1], 'two');
    const anchors = [one.writer.anchor, two.writer.anchor];
    expect((await verify([one.bytes, two.bytes], anchors)).ok).toBe(true);
    expect((await verify([two.bytes], anchors)).problems[0]!.message).toBe(
      'an anchor says line 3 of run one, and nothing of that run is among the files',
    );
  });

  it('is found by the run after it, which says what was there when it began', async () => {
    const one = new Writer('one');
    one.write(3);
    one.write(2);
    const { run, seq, mac } = one.anchor;
    const two = new Writer('two', 0, { previous: { run, seq, mac } });
    two.write(1, 'stop');
    const [first, second] = [one.file(), two.file()];
    expect((await verify([first, second])).ok).toBe(true);
    const cut = Buffer.from(`${linesIn(first).slice(0, 4).join('\n')}\n`);
    expect((await verify([cut, second])).problems.map(({ message }) => message)).toEqual([
      'run one was there up to line 6; now it ends at 4',
    ]);
  });

  it('is told from what a kill left behind, which the next run knows byte for byte', async () => {
    const one = new Writer('one');
    one.write(3);
    const whole = one.file();
    const { run, seq, mac } = one.anchor;
    const rest = one.write(4).subarray(0, 150);
    const two = new Writer('two', 0, { previous: { run, seq, mac }, torn: tornOf(rest) });
    const second = two.file();
    const verdict = await verify([Buffer.concat([whole, rest]), second]);
    expect(verdict).toMatchObject({ ok: true, problems: [] });
    expect(verdict.notes[0]).toBe(
      'run one was killed while it wrote: 150 bytes behind line 4 are no proof of anything',
    );
    for (const other of [rest.subarray(1), Buffer.concat([rest, Buffer.from('x')]), Buffer.from('{"audit":5}\n')]) {
      expect((await verify([Buffer.concat([whole, other]), second])).ok).toBe(false);
    }
    expect((await verify([Buffer.concat([whole, rest])])).ok).toBe(false);
  });

  it('does not keep what follows in another file from being verified', async () => {
    const writer = new Writer('run');
    writer.write(5);
    const first = writer.file();
    writer.continue();
    writer.write(4);
    const second = writer.file();
    first[first.length - 300]! ^= 1;
    const verdict = await verify([first, second]);
    expect(verdict.problems).toHaveLength(1);
    expect(verdict.problems[0]!.message).toMatch(/of run run are not what was written/);
    second[second.length - 300]! ^= 1;
    expect((await verify([first, second])).problems).toHaveLength(2);
  });
});

describe('an anchor', () => {
  it('is read from its file and from a line of the log', () => {
    const { writer } = logOf([1]);
    const { anchor } = writer;
    expect(anchorOf(JSON.stringify({ anchor: 1, ...anchor }))).toEqual(anchor);
    expect(anchorOf(JSON.stringify({ level: 'info', time: anchor.time, anchor: anchorText(anchor) }))).toEqual(anchor);
    expect(anchorOf('{"level":"info"}')).toBeUndefined();
    expect(anchorOf('no JSON')).toBeUndefined();
    expect(anchorOf('null')).toBeUndefined();
  });

  it('that does not agree with the log, or with another anchor, is a problem', async () => {
    const { bytes, writer } = logOf([1, 2]);
    const wrong = { ...writer.anchor, mac: `A${writer.anchor.mac.slice(1)}` };
    expect((await verify([bytes], [wrong])).ok).toBe(writer.anchor.mac === wrong.mac);
    expect((await verify([bytes], [wrong, writer.anchor])).ok).toBe(false);
    expect((await verify([bytes], [{ ...writer.anchor, seq: 3 }])).problems[0]!.message).toMatch(
      /ends a block, and it does not/,
    );
  });
});

describe('the key of a chain', () => {
  it('is wiped with each block, and another one takes its place', () => {
    const used: KeyHandle[] = [];
    const watched = new Proxy(engine, {
      get(target, name) {
        if (name === 'mac') {
          return (of: KeyHandle, label: string, data: Uint8Array) => {
            used.push(of);
            return target.mac(of, label, data);
          };
        }
        const member: unknown = Reflect.get(target, name);
        return typeof member === 'function' ? member.bind(target) : member;
      },
    });
    const before = engine.stats().used;
    const chain = new Chain(runKey(watched, key, 'run'));
    const macs = [1, 2, 3].map(() =>
      chain
        .seal([bodyOf(0, 'request', {})])
        .toString()
        .slice(-46),
    );
    expect(new Set(used).size).toBe(3);
    for (const each of used) {
      expect(() => engine.mac(each, 'label', new Uint8Array(0))).toThrow();
    }
    expect(new Set(macs).size).toBe(3);
    // The key of the next block, and the slot that is kept for the one after it.
    expect(engine.stats().used).toBe(before + 2);
    chain.close();
    expect(engine.stats().used).toBe(before);
  });

  it('goes on when every slot of the table is taken', async () => {
    const { engine: small } = await loadEngine({
      engine: 'node',
      minimumLockLevel: 'heap',
      snapshotSafe: false,
      capacity: 16,
    });
    const chain = new Chain(runKey(small, small.generateKey(CHAIN_USE), 'run'));
    while (small.stats().used < small.stats().capacity) {
      small.generateKey(CHAIN_USE);
    }
    for (let i = 0; i < 10; i++) {
      expect(chain.seal([bodyOf(0, 'request', {})]).length).toBeGreaterThan(0);
    }
    expect(chain.place?.seq).toBe(10);
    small.close();
  });
});
