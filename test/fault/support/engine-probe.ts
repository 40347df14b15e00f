/**
 * Loads the native engine of a package where it is run and says what it got: `engine-probe.ts PACKAGE`. Prints one JSON
 * object: level, reason, how many keys fit, whether each of them still seals and opens, and how one more is refused.
 */
import { pathToFileURL } from 'node:url';
import type { Engine, KeyHandle } from '../../../src/crypto/engine.ts';

const [built] = process.argv.slice(2) as [string];
const { loadEngine } = (await import(pathToFileURL(`${built}/dist/crypto/load.js`).href)) as {
  loadEngine: (options: object) => Promise<{ engine: Engine }>;
};
const { engine } = await loadEngine({ engine: 'native', minimumLockLevel: 'heap', snapshotSafe: false });

const USE = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
const keys: KeyHandle[] = [];
let refusal = '';
while (refusal === '' && keys.length < 5000) {
  try {
    keys.push(engine.generateKey(USE));
  } catch (error) {
    refusal = (error as { code: string }).code;
  }
}
const data = Buffer.from('plaintext of a probe');
const token = new Uint8Array(data.length + 58);
const back = new Uint8Array(data.length);
const working = keys.filter((key) => {
  engine.seal(key, data, 0, 0, 0, data.length, token, 0);
  return engine.open(key, token, 0, 0, 0, token.length, back, 0) && data.equals(back);
});
const { lockLevel, lockReason } = engine.info;
process.stdout.write(JSON.stringify({ lockLevel, lockReason, keys: keys.length, working: working.length, refusal }));
engine.close();
