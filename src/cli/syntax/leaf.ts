/** A command that does something, as opposed to a group of commands. */
import type { Command } from 'commander';
import { EXIT } from '../exit.ts';
import type { CommandLine } from '../terminal.ts';
import { addCommon } from './options.ts';

export type Options = Record<string, unknown>;

/**
 * Adds a command to `parent`, with the options that all have.
 * @param run what it does. What it resolves with is the exit code if it is a number
 */
export type Leaf = (
  parent: Command,
  syntax: string,
  summary: string,
  run: (line: CommandLine, options: Options, operands: readonly (string | undefined)[]) => Promise<unknown>,
) => Command;

/** @param finish is told the exit code of the command that ran */
export function leafOf(self: string, finish: (exitCode: number) => void): Leaf {
  return (parent, syntax, summary, run) => {
    const command = addCommon(parent.command(syntax).description(summary));
    command.action(async (...given: unknown[]) => {
      const operands = given.slice(0, command.registeredArguments.length).flat() as (string | undefined)[];
      const { json, socket, ...options } = command.optsWithGlobals() as Options & { json?: boolean; socket?: string };
      const line = { json: json ?? false, socket, self };
      const exitCode = await run(line, options, operands);
      finish(typeof exitCode === 'number' ? exitCode : EXIT.ok);
    });
    return command;
  };
}
