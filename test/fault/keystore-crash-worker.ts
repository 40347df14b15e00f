/**
 * Creates and rotates keys over the sqlite keystore in the folder given until it is killed, and prints one line for each
 * version that was acknowledged: name, version, a token of it, and what the token holds.
 */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineCustody } from '../../src/custody/inline.ts';
import { createKeyring } from '../../src/keyring/open-keyring.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';

const folder = process.argv[2]!;
const engine = new NodeEngine();
const custody = await InlineCustody.open({
  engine,
  roots: [
    {
      name: 'local',
      provider: 'local',
      formerly: [],
      keyFile: join(folder, 'root.key'),
      keyDescriptor: undefined,
      allowLocalRoot: true,
      createKeyFile: false,
      ephemeral: false,
    },
  ],
  keystore: await SqliteKeystore.open({ path: join(folder, 'keys.db') }),
  warn: () => undefined,
});
const keyring = await createKeyring({
  engine,
  custody,
  service: 'default',
  node: 'worker',
  stateFolder: join(folder, 'state'),
  definitions: [],
  log: () => undefined,
});
for (let round = 0; ; round++) {
  const name = `k${round % 7}-${process.pid % 5}`;
  const key = await keyring.prepareSealing(name, '', 'x', () => undefined);
  report(name, key.version, key.handle());
  await keyring.rotate({ name, partition: '', purpose: 'seal' });
  const next = await keyring.prepareSealing(name, '', 'x', undefined);
  report(name, next.version, next.handle());
}

function report(name: string, version: number, handle: Parameters<typeof engine.seal>[0]): void {
  const text = `${name}@${version}`;
  const input = new TextEncoder().encode(text);
  const token = new Uint8Array(input.length + TOKEN_OVERHEAD);
  engine.seal(handle, input, 0, 0, 0, input.length, token, 0);
  writeSync(1, `${name} ${version} ${Buffer.from(token).toString('base64url')} ${text}\n`);
}
