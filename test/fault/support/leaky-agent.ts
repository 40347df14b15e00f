/**
 * An agent with a fault: `leaky-agent.ts dev …`, as `dekd dev` but that a copy of a key stays behind in ordinary memory.
 * `DEKD_LEAK` says which: `seal` or `wrap` for a raw copy of the last key of that purpose on the native heap, or the
 * path of a file whose text is kept on the JavaScript heap. `DEKD_FAULT_PACKAGE_DIR` is the package. It shows that the
 * scan of an agent's memory can go red.
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Binding, LoadedBinding } from '../../../src/addon/binding.ts';

const folder = process.env.DEKD_FAULT_PACKAGE_DIR!;
const leak = process.env.DEKD_LEAK!;
delete process.env.DEKD_FAULT_PACKAGE_DIR;
delete process.env.DEKD_LEAK;

const module = (name: string): Promise<unknown> => import(pathToFileURL(`${folder}/dist/${name}.js`).href);
const PURPOSE_NUMBERS: Record<string, number> = { seal: 0, wrap: 1 };
const wanted = PURPOSE_NUMBERS[leak];
const kept: string[] = [];

if (wanted === undefined) {
  kept.push(readFileSync(leak, 'latin1'));
} else {
  const { loadBinding } = (await module('addon/binding')) as { loadBinding: () => LoadedBinding };
  const binding = loadBinding().binding as { -readonly [K in keyof Binding]: Binding[K] };
  const { unwrapKey } = binding;
  binding.unwrapKey = (...args) => {
    const handle = unwrapKey.apply(binding, args);
    if (args[6] === wanted && handle > 0) {
      binding.proveLeakPlant(handle);
    }
    return handle;
  };
}

const { runCommandLine } = (await module('cli/program')) as { runCommandLine: (args: string[]) => Promise<number> };
process.exitCode = await runCommandLine(process.argv.slice(2));
// The copy is still reachable here.
process.stderr.write(kept.length > 1 ? kept[0]! : '');
