/**
 * An agent with a fault: `leaky-custody-agent.ts run …`, as `dekd run` but that a copy of a secret from its custodian
 * stays behind in ordinary memory. `DEKD_LEAK` says which: `raw` for bytes on the native heap, `base64`, `hex` for text on
 * the JavaScript heap. `DEKD_FAULT_PACKAGE_DIR` is the package. It shows that a scan of the agent's memory can go red.
 */
import { pathToFileURL } from 'node:url';
import type { Binding, LoadedBinding } from '../../../src/addon/binding.ts';

const folder = process.env.DEKD_FAULT_PACKAGE_DIR!;
const leak = process.env.DEKD_LEAK!;
delete process.env.DEKD_FAULT_PACKAGE_DIR;
delete process.env.DEKD_LEAK;

const module = (name: string): Promise<unknown> => import(pathToFileURL(`${folder}/dist/${name}.js`).href);
const kept: string[] = [];

const { loadBinding } = (await module('addon/binding')) as { loadBinding: () => LoadedBinding };
const binding = loadBinding().binding as { -readonly [K in keyof Binding]: Binding[K] };
const { receiveKey } = binding;
binding.receiveKey = (...args) => {
  const handle = receiveKey.apply(binding, args);
  if (handle > 0 && leak === 'raw') {
    binding.proveLeakPlant(handle);
  } else if (handle > 0) {
    const secret = new Uint8Array(new ArrayBuffer(32));
    binding.exposeSecret(handle, secret);
    kept.push(`xx${Buffer.from(secret.buffer).toString(leak as BufferEncoding)}`);
    secret.fill(0);
  }
  return handle;
};

const { runCommandLine } = (await module('cli/program')) as { runCommandLine: (args: string[]) => Promise<number> };
process.exitCode = await runCommandLine(process.argv.slice(2));
// The copies are still reachable here.
process.stderr.write(kept.length > 1_000_000 ? kept[0]! : '');
