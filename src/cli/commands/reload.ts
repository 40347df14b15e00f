import type { ReloadReport } from '../../agent/reload.ts';
import { administer } from '../admin.ts';
import { EXIT } from '../exit.ts';
import { type CommandLine, count, printResult, warn } from '../terminal.ts';

/** @returns exit code 1 when the agent keeps the configuration that it has */
export async function reload(line: CommandLine, options: Record<string, unknown>): Promise<number> {
  const report = (await administer(line, { reload: { dryRun: options.dryRun === true } })) as ReloadReport;
  if (!line.json) {
    for (const warning of report.warnings) {
      warn(`warning: ${warning}`);
    }
  }
  printResult(line, report, told(report));
  return report.problems.length === 0 ? EXIT.ok : EXIT.failed;
}

function told({ applied, file, changed, problems }: ReloadReport): string {
  const name = file ?? 'no file';
  if (problems.length > 0) {
    const lines = problems.map(({ source, path, message }) => [source, path, message].filter((part) => part !== ''));
    return [`${name}: nothing was changed`, ...lines.map((parts) => `  ${parts.join(': ')}`)].join('\n');
  }
  if (changed.length === 0) {
    return `${name}: nothing is different`;
  }
  const changes = changed.length === 1 ? '1 change' : `${count(changed.length)} changes`;
  const verb = applied ? 'taken over' : 'would be taken over';
  return [`${name}: ${changes} ${verb}`, ...changed.map(({ path, from, to }) => `  ${path}: ${from} → ${to}`)].join(
    '\n',
  );
}
