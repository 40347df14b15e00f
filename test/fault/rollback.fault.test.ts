import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CommandResult, report, runDekd } from './support/agent-process.ts';
import { Bench, copyState, editDatabase, makeState } from './support/damaged-state.ts';
import { PrivatePackage } from './support/private-package.ts';
import { randomNumbers } from './support/random-numbers.ts';

/** Bytes of a wrapped key, and of a MAC: one key for each byte that is flipped. */
const WRAPPED = 73;
const MAC = 32;
const NEIGHBOURS = ['left', 'right'];
const CORRUPTIONS = Number(process.env.DEKD_CORRUPTIONS ?? 40);
/** What a person is told must name a cause, not only that something went wrong. */
const CLEAR =
  /MAC|changed outside|wrapped key|kid|wrong shape|older state|seq|version|destroyed|no key|is disabled|not in the keystore/;

let built: PrivatePackage;
let folder: string;
let base: string;
let tokens: Map<string, Uint8Array>;
let copies = 0;

beforeAll(async () => {
  built = new PrivatePackage();
  folder = mkdtempSync(join(tmpdir(), 'dekd-rollback-'));
  base = join(folder, 'base');
  tokens = await makeState(built, base, ['victim', 'other', ...NEIGHBOURS]);
});
afterAll(() => {
  built[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

function damaged(edit: (db: DatabaseSync) => void = () => {}): string {
  const copy = copyState(base, join(folder, `copy-${copies++}`));
  editDatabase(copy, edit);
  return copy;
}

/** What is beside the damage goes on as if nothing were. */
async function expectServed(bench: Bench, names: readonly string[]): Promise<void> {
  for (const name of names) {
    expect(await bench.open(name, tokens.get(name)!), name).toMatchObject({ opened: true });
    expect(await bench.encrypt(name), name).toMatchObject({ opened: true });
  }
}

describe('a row of the keystore that was edited', () => {
  const EDITS: readonly (readonly [string, string])[] = [
    ['name', "name = 'renamed'"],
    ['partition', "partition = 'acme'"],
    ['version', 'version = 7'],
    ['level', 'level = 3'],
    ['algorithm', "algorithm = 'hmac-sha-256'"],
    ['purpose', "purpose = 'mac'"],
    ['size', 'size = 16'],
    ['tenant', "tenant = 'acme'"],
    ['service', "service = 'other'"],
    ['node', "node = 'other'"],
    ['created', 'created = created - 1'],
    ['activated', 'activated = activated + 1'],
    ['deactivated', 'deactivated = 1'],
    ['parent', 'parent_kid = zeroblob(16)'],
    ['key context', `key_context = '{"tenant":"acme"}'`],
    ['seq, raised', 'seq = 99'],
    ['seq, lowered', 'seq = 0'],
    ['seq, negative', 'seq = -1'],
    ['MAC, empty', "mac = x''"],
    ['wrapped key, empty', "wrapped = x''"],
    ['wrapped key, long', 'wrapped = zeroblob(100000)'],
    ['state, nonsense', "state = 'merry'"],
    ['state, pre-active', "state = 'pre-active'"],
    ['state, suspended', "state = 'suspended'"],
    ['state, destroyed', "state = 'destroyed'"],
    [
      'a root as parent',
      "parent_kid = NULL, root = 'dev', resolved_id = 'local:00', material_version = '', wrapped_secret = zeroblob(73)",
    ],
    ['kid', 'kid = zeroblob(16)'],
    ['row, gone', ''],
  ];

  it.for(EDITS)('is refused (%s), and the keys beside it are served', async ([, set]) => {
    const copy = damaged((db) => {
      const where = "WHERE name = 'victim'";
      const changes = db
        .prepare(set === '' ? `DELETE FROM record ${where}` : `UPDATE record SET ${set} ${where}`)
        .run();
      expect(changes.changes).toBe(1);
    });
    await using bench = await Bench.start(built, copy);
    const opened = await bench.open('victim', tokens.get('victim')!);
    expect(opened.opened).toBe(false);
    expect(['DECRYPTION_FAILED', 'KEYSTORE_UNAVAILABLE', 'KEY_DISABLED']).toContain(opened.code);
    const sealed = await bench.encrypt('victim');
    expect(sealed.opened).toBe(false);
    expect(['KEYSTORE_UNAVAILABLE', 'KEY_DISABLED']).toContain(sealed.code);
    expect(`${sealed.reason} ${bench.agent.said}`).toMatch(CLEAR);
    await expectServed(bench, ['other', ...NEIGHBOURS]);
  });

  it('is refused for each byte of its wrapped key and its MAC', async () => {
    const flips = [
      ...Array.from({ length: WRAPPED }, (_, at) => ({ column: 'wrapped', at })),
      ...Array.from({ length: MAC }, (_, at) => ({ column: 'mac', at })),
    ].map((flip) => ({ ...flip, name: `${flip.column}-${flip.at}` }));
    const place = join(folder, 'flips');
    const sealed = await makeState(built, place, [...flips.map(({ name }) => name), ...NEIGHBOURS]);
    editDatabase(place, (db) => {
      for (const { name, column, at } of flips) {
        const bytes = db.prepare(`SELECT ${column} AS bytes FROM record WHERE name = ?`).get(name)!.bytes as Uint8Array;
        bytes[at]! ^= 1 << (at % 8);
        db.prepare(`UPDATE record SET ${column} = ? WHERE name = ?`).run(bytes, name);
      }
    });
    await using bench = await Bench.start(built, place);
    const served: string[] = [];
    for (const { name } of flips) {
      const opened = await bench.open(name, sealed.get(name)!);
      const encrypted = await bench.encrypt(name);
      if (opened.opened || encrypted.opened) {
        served.push(name);
      }
    }
    expect(served).toEqual([]);
    for (const name of NEIGHBOURS) {
      expect(await bench.open(name, sealed.get(name)!)).toMatchObject({ opened: true });
    }
    report('bytes flipped in rows', { flipped: flips.length, refused: flips.length - served.length });
  });

  it('is not noticed where only its revision changed, which says nothing', async () => {
    await using bench = await Bench.start(
      built,
      damaged((db) => db.exec("UPDATE record SET revision = 5 WHERE name = 'victim'")),
    );
    await expectServed(bench, ['victim', 'other']);
  });
});

describe('rows of the keystore that were swapped or injected', () => {
  it.for([
    ['wrapped keys', ['wrapped']],
    ['wrapped keys and MACs', ['wrapped', 'mac']],
    ['kids', ['kid']],
    ['everything but the name', ['kid', 'wrapped', 'mac', 'created', 'activated']],
  ] as const)('exchanged %s: neither key is used, the others are', async ([, columns]) => {
    const copy = damaged((db) => {
      const get = db.prepare('SELECT * FROM record WHERE name = ?');
      const [victim, other] = [get.get('victim')!, get.get('other')!];
      db.exec("UPDATE record SET kid = randomblob(16) WHERE name IN ('victim', 'other')");
      const set = db.prepare(
        `UPDATE record SET kid = :kid, ${columns.map((column) => `${column} = :${column}`).join(', ')} WHERE name = :name`,
      );
      for (const [own, foreign] of [
        [victim, other],
        [other, victim],
      ] as const) {
        set.run({
          kid: own.kid!,
          ...Object.fromEntries(columns.map((column) => [column, foreign[column]!])),
          name: own.name!,
        });
      }
    });
    await using bench = await Bench.start(built, copy);
    for (const name of ['victim', 'other']) {
      expect(await bench.open(name, tokens.get(name)!)).toMatchObject({ opened: false });
      expect(await bench.encrypt(name)).toMatchObject({ opened: false, code: 'KEYSTORE_UNAVAILABLE' });
    }
    await expectServed(bench, NEIGHBOURS);
  });

  it('a version put in beside the real one never seals', async () => {
    const copy = damaged((db) => {
      const row = db.prepare("SELECT * FROM record WHERE name = 'victim'").get()!;
      const injected = { ...row, kid: new Uint8Array(16).fill(7), version: 2 };
      const names = Object.keys(injected);
      db.prepare(`INSERT INTO record (${names.join(', ')}) VALUES (${names.map((name) => `:${name}`).join(', ')})`).run(
        injected,
      );
    });
    await using bench = await Bench.start(built, copy);
    expect(await bench.open('victim', tokens.get('victim')!)).toMatchObject({ opened: true });
    const token = await bench.client.encrypt(Buffer.from('victim'), { key: 'victim' }).catch(() => undefined);
    // Either the real version seals or nothing does; the kid is at offset 2 of a token.
    expect(Buffer.from(token?.subarray(2, 18) ?? []).equals(Buffer.alloc(16, 7))).toBe(false);
    await expectServed(bench, ['other', ...NEIGHBOURS]);
  });

  it('rows of another keystore, made under another root, are not used', async () => {
    const foreign = join(folder, 'foreign');
    const theirs = await makeState(built, foreign, ['planted']);
    const copy = damaged((db) => {
      db.exec(`ATTACH '${join(foreign, 'state/keystore.sqlite')}' AS theirs`);
      db.exec("INSERT INTO record SELECT * FROM theirs.record WHERE name = 'planted'");
      db.exec('DETACH theirs');
    });
    await using bench = await Bench.start(built, copy);
    expect(await bench.open('planted', theirs.get('planted')!)).toMatchObject({ opened: false });
    expect(await bench.encrypt('planted')).toMatchObject({ opened: false });
    await expectServed(bench, ['victim', 'other', ...NEIGHBOURS]);
  });
});

describe('a keystore of another root', () => {
  it('is refused with the ids of both, and works again under its own', async () => {
    const copy = damaged();
    const keyFile = join(copy, 'state/root.key');
    const own = readFileSync(keyFile);
    writeFileSync(keyFile, `${Buffer.alloc(32, 9).toString('base64')}\n`, { mode: 0o600 });
    const outcome = await startOutcome(copy);
    const said = outcome.stderr + outcome.stdout;
    expect(said).toMatch(/root|resolved|local:/);
    if (outcome.code === 0) {
      await using bench = await Bench.start(built, copy);
      for (const name of ['victim', 'other', 'unheard-of']) {
        const sealed = await bench.encrypt(name);
        expect(sealed).toMatchObject({ opened: false });
        expect(`${sealed.reason} ${bench.agent.said}`).toMatch(/local:[0-9a-f]{32}/);
      }
      expect(await bench.open('victim', tokens.get('victim')!)).toMatchObject({ opened: false });
    }
    writeFileSync(keyFile, own, { mode: 0o600 });
    await using again = await Bench.start(built, copy);
    await expectServed(again, ['victim', 'other', ...NEIGHBOURS]);
  });

  it.for([
    ['is missing a byte', (path: string) => truncateSync(path, 40), /root key file .* does not hold a root key/],
    ['is empty', (path: string) => truncateSync(path, 0), /root key file .* does not hold a root key/],
    ['is open to others', (path: string) => chmodSync(path, 0o644), /open to group or others.*chmod 600/],
  ] as const)('refuses to start when the root key file %s', async ([, harm, expected]) => {
    const copy = damaged();
    harm(join(copy, 'state/root.key'));
    const outcome = await startOutcome(copy);
    expect(outcome.code).toBe(5);
    expect(outcome.stderr).toMatch(expected);
  });
});

describe('a database file with damage', () => {
  it(`is refused or served right after each of ${CORRUPTIONS} writes of random bytes`, async () => {
    const outcomes = { refusedToStart: 0, startedAllServed: 0, startedSomeServed: 0 };
    const seed = Number(process.env.DEKD_SEED ?? 7);
    const random = randomNumbers(seed);
    for (let run = 0; run < CORRUPTIONS; run++) {
      const copy = damaged();
      const file = join(copy, 'state/keystore.sqlite');
      const bytes = readFileSync(file);
      // One to eight bytes in a row, anywhere; every fourth time in the header.
      const at = Math.trunc(random() * (run % 4 === 0 ? 100 : bytes.length - 8));
      const length = 1 + Math.trunc(random() * 8);
      for (let index = 0; index < length; index++) {
        bytes[at + index] = Math.trunc(random() * 256);
      }
      writeFileSync(file, bytes);
      const where = `seed ${seed}, run ${run}, offset ${at}, length ${length}`;
      const outcome = await startOutcome(copy);
      if (outcome.code !== 0) {
        expect(outcome.code, `${where}: ${outcome.stderr}`).toBe(5);
        expect(outcome.stderr, where).toMatch(/keystore|database/);
        outcomes.refusedToStart++;
        continue;
      }
      await using bench = await Bench.start(built, copy);
      const opened: boolean[] = [];
      for (const [name, token] of tokens) {
        opened.push((await bench.open(name, token)).opened);
        await bench.encrypt(name);
      }
      expect(bench.agent.child.exitCode, where).toBeNull();
      outcomes[opened.every(Boolean) ? 'startedAllServed' : 'startedSomeServed']++;
    }
    report('random bytes in the database file', { seed, corruptions: CORRUPTIONS, ...outcomes });
    expect(outcomes.refusedToStart).toBeGreaterThan(0);
  });

  it.for([
    [
      'is no database',
      (path: string) => writeFileSync(path, 'this is a text file, and not a small one\n'.repeat(200)),
      5,
    ],
    [
      'is cut in half',
      (path: string) => truncateSync(path, Math.trunc(readFileSync(path).length / 2 / 4096) * 4096),
      5,
    ],
    ['is empty', (path: string) => truncateSync(path, 0), 0],
  ] as const)('that %s never leads to new keys in the place of old ones', async ([, harm, code]) => {
    const copy = damaged();
    harm(join(copy, 'state/keystore.sqlite'));
    const outcome = await startOutcome(copy);
    expect(outcome.code).toBe(code);
    if (code === 0) {
      await using bench = await Bench.start(built, copy);
      const sealed = await bench.encrypt('victim');
      expect(sealed).toMatchObject({ opened: false, code: 'KEYSTORE_UNAVAILABLE' });
      expect(sealed.reason).toMatch(/restore the keystore|import/);
    } else {
      expect(outcome.stderr).toMatch(/keystore .*(damaged|not a database|malformed|restore|import)/s);
    }
  });
});

describe('an older copy of the database put back', () => {
  it('is refused until its state is accepted, while keys that did not change are served', async () => {
    const place = copyState(base, join(folder, 'older'));
    const database = join(place, 'state/keystore.sqlite');
    const older = join(folder, 'older.sqlite');
    copyFileSync(database, older);
    let newest: Uint8Array;
    {
      await using bench = await Bench.start(built, place);
      await bench.admin.send({ rotate: { name: 'victim' } });
      await bench.admin.send({ create: { name: 'later' } });
      newest = await bench.client.encrypt(Buffer.from('victim'), { key: 'victim' });
    }
    for (const log of ['-wal', '-shm']) {
      expect(existsSync(database + log)).toBe(false);
    }
    const newer = join(folder, 'newer.sqlite');
    copyFileSync(database, newer);
    copyFileSync(older, database);
    const backup = join(folder, 'older.json');
    {
      await using bench = await Bench.start(built, place);
      for (const name of ['victim', 'later']) {
        const sealed = await bench.encrypt(name);
        expect(sealed).toMatchObject({ opened: false, code: 'KEYSTORE_UNAVAILABLE' });
        expect(sealed.reason).toMatch(/--accept-rollback/);
      }
      expect(await bench.open('victim', tokens.get('victim')!)).toMatchObject({ opened: false });
      expect(await bench.open('victim', newest)).toMatchObject({ opened: false });
      await expectServed(bench, ['other', ...NEIGHBOURS]);

      const socket = ['--socket', bench.agent.socket];
      expect((await runDekd(built, ['keys', 'export', ...socket, '-o', backup])).code).toBe(0);
      const plain = await runDekd(built, ['keys', 'import', ...socket, backup]);
      expect(await bench.encrypt('victim'), plain.stdout + plain.stderr).toMatchObject({ opened: false });
      const accepted = await runDekd(built, ['keys', 'import', '--accept-rollback', ...socket, '--json', backup]);
      expect(accepted.stderr).toBe('');
      expect(JSON.parse(accepted.stdout)).toMatchObject({ refused: [] });
      await expectServed(bench, ['victim', 'other', ...NEIGHBOURS]);
      expect(await bench.open('victim', newest)).toMatchObject({ opened: false });
    }
    // Accepted once is accepted for good.
    await using again = await Bench.start(built, place);
    await expectServed(again, ['victim', 'other', ...NEIGHBOURS]);
  });

  it('is no matter when the newer one comes back', async () => {
    const place = copyState(base, join(folder, 'returned'));
    const database = join(place, 'state/keystore.sqlite');
    const older = join(folder, 'returned-older.sqlite');
    copyFileSync(database, older);
    {
      await using bench = await Bench.start(built, place);
      await bench.admin.send({ rotate: { name: 'victim' } });
    }
    const newer = join(folder, 'returned-newer.sqlite');
    copyFileSync(database, newer);
    copyFileSync(older, database);
    {
      await using bench = await Bench.start(built, place);
      expect(await bench.encrypt('victim')).toMatchObject({ opened: false });
    }
    copyFileSync(newer, database);
    await using bench = await Bench.start(built, place);
    await expectServed(bench, ['victim', 'other', ...NEIGHBOURS]);
  });
});

/** Starts an agent, and stops it when it gets ready; `code` 0 is an agent that did. */
async function startOutcome(place: string): Promise<CommandResult> {
  const args = [
    'dev',
    '--json',
    '--until-stdin-ends',
    '--socket',
    join(place, 'run/agent.sock'),
    '--state',
    join(place, 'state'),
  ];
  return runDekd(built, args, { env: { DEKD_ENGINE: 'auto' } });
}
