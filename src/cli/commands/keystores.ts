import type { HomingPage } from '../../agent/homing.ts';
import { AdminClient } from '../admin.ts';
import { EXIT } from '../exit.ts';
import { type CommandLine, count, plural, printResult, warn } from '../terminal.ts';

/** Page by page until every record lies where its route says. @returns 1 when one could not be moved */
export async function move(line: CommandLine): Promise<number> {
  using admin = await AdminClient.open(line);
  let examined = 0;
  let moved = 0;
  const failed: HomingPage['failed'][number][] = [];
  let cursor = '';
  do {
    const page = (await admin.send({ keystores: { action: 'move', cursor } })) as HomingPage;
    examined += page.examined;
    moved += page.moved;
    failed.push(...page.failed);
    cursor = page.cursor ?? '';
    if (process.stderr.isTTY) {
      process.stderr.write(`\r${count(examined)} records looked at, ${count(moved)} moved`);
    }
  } while (cursor !== '');
  if (process.stderr.isTTY) {
    process.stderr.write('\r\u001b[K');
  }
  if (!line.json) {
    for (const { name, reason } of failed) {
      warn(`${name}: ${reason}`);
    }
  }
  const rest = failed.length === 0 ? 'former keystores may be taken out of the routes' : `${failed.length} failed`;
  printResult(line, { examined, moved, failed }, `${plural(moved, 'record')} of ${count(examined)} moved; ${rest}`);
  return failed.length === 0 ? EXIT.ok : EXIT.failed;
}
