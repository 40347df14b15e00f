/** Callers that the kernel cannot tell apart, and what each may have: tokens, sockets and quotas at a real agent. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { parseConfig } from '../../src/config/load.ts';
import { LivePolicy } from '../../src/policy/live-policy.ts';
import { compilePolicy } from '../../src/policy/policy.ts';
import { NODE, runYaml, startTestAgent, type TestAgent } from '../support/agent.ts';
import { refusalOf } from '../support/refusal.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);
const folder = makeFolder();
const WEB = randomBytes(32);
const JOBS = randomBytes(32);

function yaml(rules: string): string {
  return `${runYaml().replace(/policy:[\s\S]*$/, '')}
sockets:
  reports: { path: FOLDER/reports/agent.sock }
tokens:
  web: { file: FOLDER/web.token }
  jobs: { file: FOLDER/jobs.token }
policy:
  rules:
${rules}`;
}

function writeToken(name: string, token: Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${Buffer.from(token).toString('base64')}\n`, { mode: 0o600 });
  return path;
}

const OWN = `uid: ${process.getuid!()}`;
const RULES = `
    - { name: web, callers: { ${OWN}, token: web }, keys: web, operations: [encrypt, decrypt], create: { max: 5 } }
    - { name: jobs, callers: { ${OWN}, token: jobs }, keys: jobs, operations: [encrypt, decrypt], create: { max: 5 } }
    - { name: reports, callers: { ${OWN}, socket: reports }, keys: reports, operations: [encrypt, decrypt], create: { max: 5 } }
    - { name: bound, callers: { ${OWN} }, keys: bound, operations: [encrypt, decrypt], requireContext: [table, id], create: { max: 5 } }
    - { name: open, callers: { ${OWN} }, keys: open, operations: [encrypt, decrypt, anyKey], create: { max: 5 } }
    - { name: named, callers: { ${OWN} }, keys: named, operations: [encrypt, decrypt, anyKey], requireContext: [table], create: { max: 5 } }
    - { name: few, callers: { ${OWN} }, keys: few, operations: [encrypt, decrypt], create: { max: 5 }, quota: { requestsPerSecond: 10 } }
    - { name: small, callers: { ${OWN} }, keys: small, operations: [encrypt, decrypt], create: { max: 5 }, quota: { bytesPerSecond: 64KiB } }
    - { name: paced, callers: { ${OWN} }, keys: paced, operations: encrypt, create: { max: 5 }, quota: { bytesPerSecond: 256KiB } }
    - { name: one, callers: { ${OWN} }, keys: one, operations: [encrypt, decrypt], create: { max: 5 }, quota: { inFlight: 1 } }
`;

let agent: TestAgent;
let now = 0;
const open: DekdClient[] = [];

function client(options: Parameters<typeof connect>[0] = {}): DekdClient {
  const made = connect({ socket: agent.socket, timeoutMs: 2_000, ...options });
  open.push(made);
  return made;
}

const refusal = async (call: Promise<unknown>): Promise<string> => (await refusalOf(call)).code;

beforeAll(async () => {
  writeToken('web.token', WEB);
  writeToken('jobs.token', JOBS);
  writeFileSync(join(folder, 'root.key'), `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
  agent = await startTestAgent({ yaml: yaml(RULES), folder, quotaClock: () => now });
});
afterAll(async () => {
  await Promise.all(open.map((each) => each.close()));
  await agent.stop();
  removeFolder(folder);
});

const HI = Buffer.from('hi');

describe('U9: a token', () => {
  it('tells callers of one user apart', async () => {
    const web = client({ token: WEB });
    const jobs = client({ tokenFile: join(folder, 'jobs.token') });
    await web.encrypt(HI, { key: 'web' });
    await jobs.encrypt(HI, { key: 'jobs' });
    expect(await refusal(web.encrypt(HI, { key: 'jobs' }))).toBe('PERMISSION_DENIED');
    expect(await refusal(jobs.encrypt(HI, { key: 'web' }))).toBe('PERMISSION_DENIED');
    expect(await refusal(client().encrypt(HI, { key: 'web' }))).toBe('PERMISSION_DENIED');
    expect(agent.log.find(({ reason }) => /key "web"/.test(String(reason)))).toMatchObject({
      caller: expect.stringMatching(/token:jobs|uid:\d+$/),
    });
  });

  it('is shown by a client that blocks, and named by a variable', async () => {
    const script = `import { connectSync } from '${new URL('../../src/client/index.ts', import.meta.url).href}';
      using dekd = connectSync({ socket: process.argv[1] });
      console.log(dekd.decryptText(dekd.encryptText('shown', { key: 'web' }), { key: 'web' }));`;
    const { stdout } = await run(NODE, ['--input-type=module', '-e', script, agent.socket], {
      env: { ...process.env, DEKD_TOKEN_FILE: join(folder, 'web.token') },
    });
    expect(stdout).toBe('shown\n');
  });

  it('that is wrong, short or right but for a bit is refused, with the reason for the operator only', async () => {
    const near = Buffer.from(WEB);
    near[31]! ^= 1;
    for (const token of [randomBytes(32), WEB.subarray(0, 31), near, Buffer.concat([WEB, Buffer.alloc(1)])]) {
      expect(await refusal(client({ token }).encrypt(HI, { key: 'web' }))).toBe('UNAUTHENTICATED');
    }
    expect(agent.log.filter(({ reason }) => /none of tokens/.test(String(reason)))).not.toHaveLength(0);
    expect(JSON.stringify(agent.log)).not.toContain(near.toString('base64'));
  });

  it('of a file that others can read, that is a link, or that holds none keeps the agent from starting', async () => {
    const loose = writeToken('x/loose', randomBytes(32));
    chmodSync(loose, 0o644);
    const link = join(folder, 'x/link');
    symlinkSync(join(folder, 'web.token'), link);
    const short = writeToken('x/short', randomBytes(31));
    const same = writeToken('x/same', WEB);
    for (const [file, text] of [
      [loose, 'is open to others'],
      [link, 'cannot be opened'],
      [short, 'holds no 32 bytes'],
      [same, 'are the same'],
      [join(folder, 'x/none'), 'ENOENT'],
    ]) {
      const other = makeFolder();
      writeFileSync(join(other, 'root.key'), `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
      const config = yaml(RULES)
        .replace('FOLDER/jobs.token', file!)
        .replace('FOLDER/web.token', join(folder, 'web.token'));
      await expect(startTestAgent({ yaml: config, folder: other })).rejects.toThrow(text!);
      removeFolder(other);
    }
  });

  it('that no rule can mean is an error of the configuration', () => {
    const text = yaml(RULES.replace('token: jobs', 'token: nightly')).replaceAll('FOLDER', folder);
    expect(() => parseConfig(text)).toThrow('no token "nightly"; there are web, jobs');
    expect(() =>
      parseConfig(yaml(RULES.replace('socket: reports', 'socket: web')).replaceAll('FOLDER', folder)),
    ).toThrow('no socket "web"; there are data, admin, reports');
  });
});

describe('a further socket', () => {
  it('is what its callers came through, and has a lane of its own', async () => {
    const reports = client({ socket: join(folder, 'reports/agent.sock') });
    const token = await reports.encrypt(HI, { key: 'reports' });
    expect(await refusal(reports.encrypt(HI, { key: 'few' }))).toBe('PERMISSION_DENIED');
    expect(await refusal(client().decrypt(token, { key: 'reports' }))).toBe('PERMISSION_DENIED');
    const large = randomBytes(400_000);
    const buffer = await reports.allocate(large.length);
    buffer.set(large);
    const sealed = new Uint8Array(await reports.encrypt(buffer, { key: 'reports' }));
    expect(await reports.decrypt(sealed, { key: 'reports' })).toEqual(new Uint8Array(large));
  });
});

describe('a rule that wants a context', () => {
  it('allows calls that have its names, alone and in batches', async () => {
    const dekd = client();
    const context = { table: 'users', id: '7', more: 'x' };
    const token = await dekd.encrypt(HI, { key: 'bound', context });
    await dekd.decrypt(token, { key: 'bound', context });
    expect(await refusal(dekd.encrypt(HI, { key: 'bound', context: { table: 'users' } }))).toBe('PERMISSION_DENIED');
    expect(await refusal(dekd.encrypt(HI, { key: 'bound' }))).toBe('PERMISSION_DENIED');
    const many = dekd.encryptMany(
      [
        { data: HI, context },
        { data: HI, context: { id: '1' } },
      ],
      { key: 'bound' },
    );
    expect(await refusal(many)).toBe('PERMISSION_DENIED');
    expect(agent.log.find(({ reason }) => /the context lacks "id"/.test(String(reason)))).toBeDefined();
  });
});

describe('a call that names no key', () => {
  it('has in its context what every rule wants that it could come under', async () => {
    const dekd = client();
    // The rule of another key wants an id as well.
    const context = { table: 'users', id: '7' };
    const [plain, bound] = [await dekd.encrypt(HI, { key: 'open' }), await dekd.encrypt(HI, { key: 'named', context })];
    expect(Buffer.from(await dekd.decrypt(bound, { anyKey: true, context }))).toEqual(HI);
    expect(await refusal(dekd.decrypt(bound, { anyKey: true }))).toBe('PERMISSION_DENIED');
    expect(await refusal(dekd.decrypt(plain, { anyKey: true }))).toBe('PERMISSION_DENIED');
    expect(Buffer.from(await dekd.decrypt(plain, { key: 'open' }))).toEqual(HI);
  });
});

describe('a quota', () => {
  it('of requests counts the items of batches, and says when to come again', async () => {
    now = 10_000;
    const dekd = client();
    await dekd.encryptMany(
      Array.from({ length: 9 }, () => HI),
      { key: 'few' },
    );
    await dekd.encrypt(HI, { key: 'few' });
    const refused = await dekd.encrypt(HI, { key: 'few', timeoutMs: 300 }).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: expect.stringMatching(/RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED/) });
    expect(agent.log.find(({ reason }) => /rule "few" allows 10 requests a second/.test(String(reason)))).toBeDefined();
    now += 150;
    await dekd.encrypt(HI, { key: 'few' });
  });

  it('of bytes is for what the values have, and slows streams down to it', async () => {
    now = 30_000;
    const dekd = client();
    await dekd.encrypt(randomBytes(60_000), { key: 'small' });
    expect(await refusal(dekd.encrypt(randomBytes(60_000), { key: 'small', timeoutMs: 300 }))).toMatch(
      /RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED/,
    );
    const clock = setInterval(() => {
      now += 20;
    }, 20);
    const begun = now;
    try {
      let bytes = 0;
      const sink = new Writable({
        write(piece: Uint8Array, _encoding, done) {
          bytes += piece.length;
          done();
        },
      });
      const stream = dekd.encryptStream({ key: 'paced' }) as NodeJS.ReadWriteStream;
      await pipeline(Readable.from([randomBytes(700_000)]), stream, sink);
      expect(bytes).toBeGreaterThan(700_000);
      // After the first window, 512 KiB, a second's worth is owed.
      expect(now - begun).toBeGreaterThan(900);
    } finally {
      clearInterval(clock);
    }
  });
});

describe('a bound on what is in work', () => {
  it('refuses one more, over all connections, until one is done', async () => {
    const [first, second] = [client(), client()];
    await first.encrypt(HI, { key: 'one' });
    const stream = first.encryptStream({ key: 'one' }) as NodeJS.ReadWriteStream;
    const begun = new Promise((resolve) => stream.once('data', resolve));
    // More than a frame, so that something comes back before its end.
    stream.write(randomBytes(200_000));
    await begun;
    stream.resume();
    const refused = await second.encryptMany([HI], { key: 'one', timeoutMs: 300 }).then(
      ([result]) => (result!.ok ? 'done' : result!.error.code),
      (error: { code: string }) => error.code,
    );
    expect(refused).toMatch(/RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED/);
    expect(agent.log.find(({ reason }) => /rule "one" allows 1 in flight/.test(String(reason)))).toBeDefined();
    const ended = new Promise((resolve) => stream.once('end', resolve));
    stream.end();
    await ended;
    await second.encrypt(HI, { key: 'one' });
  });
});

describe('rules that take the place of others', () => {
  it('decide about connections that are open, and go on with what was given out', () => {
    const options = {
      ...{ native: true, ownUid: 500, dev: false, allowOwnUid: false, roots: [] },
      now: () => 0,
    };
    const rulesOf = (rules: string) => parseConfig(yaml(rules).replaceAll('FOLDER', folder)).config.policy.rules;
    const before = compilePolicy(rulesOf(RULES), options);
    const live = new LivePolicy(before);
    const peer = { uid: process.getuid!(), gid: 0, groups: [], socket: 'data' };
    let heard = 0;
    live.onReplaced(() => {
      heard += 1;
    });
    const load = { operation: 'encrypt', key: 'few', partition: '', items: 10, bytes: 20 } as const;
    live.callerFor(peer).charge(load);
    live.replace(compilePolicy(rulesOf(RULES.replace('keys: web', 'keys: www')), { ...options, previous: before }));
    expect(heard).toBe(1);
    expect(() => live.callerFor(peer).charge(load)).toThrow('the quota of the caller is used up');
    const changed = RULES.replace('requestsPerSecond: 10', 'requestsPerSecond: 20');
    live.replace(compilePolicy(rulesOf(changed), { ...options, previous: live.current }));
    live.callerFor(peer).charge(load);
  });
});
