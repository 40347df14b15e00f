import { administer } from '../admin.ts';
import type { CommandLine } from '../terminal.ts';

/** What Prometheus reads at /metrics, for agents without a port; with `--json` the figures behind `status --watch`. */
export async function metrics(line: CommandLine, options: { readonly openmetrics?: boolean }): Promise<void> {
  if (line.json) {
    process.stdout.write(`${JSON.stringify(await administer(line, { metrics: { live: true } }))}\n`);
    return;
  }
  const text = await administer(line, { metrics: { openmetrics: options.openmetrics === true } });
  process.stdout.write(String(text));
}
