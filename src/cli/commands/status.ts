import { administer } from '../admin.ts';
import { type CommandLine, outline, printResult } from '../terminal.ts';

export async function status(line: CommandLine): Promise<void> {
  const document = await administer(line, { status: {} });
  printResult(line, document, outline(document));
}
