import { administer } from '../admin.ts';
import { type CommandLine, outline, printResult } from '../terminal.ts';

export async function why(line: CommandLine, incident: string): Promise<void> {
  const document = await administer(line, { why: { incident } });
  printResult(line, document, outline(document));
}
