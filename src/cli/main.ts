#!/usr/bin/env node
// Before anything else can run: the default action of SIGUSR1 opens the inspector, and a shebang passes no flag.
process.on('SIGUSR1', () => {});

// This file and host-checks.ts are read by versions of Node that are too old for the rest, to say so.
const { nodeProblem } = await import('./host-checks.ts');
const problem = nodeProblem(process.version);
if (problem === undefined) {
  const { runCommandLine } = await import('./program.ts');
  process.exitCode = await runCommandLine(process.argv.slice(2));
} else {
  process.stderr.write(`dekd: ${problem}\n`);
  // EXIT.refusedToStart.
  process.exitCode = 5;
}

export {};
