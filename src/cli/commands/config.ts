import { loadConfig } from '../../config/load.ts';
import { renderSample } from '../../config/sample.ts';
import { type CommandLine, printResult, warn } from '../terminal.ts';

/** Exit code 1 with every problem at once. */
export async function check(line: CommandLine, file: string | undefined): Promise<void> {
  const loaded = loadConfig({ file });
  const name = loaded.file ?? 'no file';
  if (!line.json) {
    for (const text of loaded.warnings) {
      warn(`warning: ${text}`);
    }
  }
  printResult(line, { ok: true, file: loaded.file, warnings: loaded.warnings }, `${name}: ok`);
}

export async function sample(line: CommandLine): Promise<void> {
  const text = renderSample();
  printResult(line, { sample: text }, text.trimEnd());
}
