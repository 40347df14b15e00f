import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DekdError } from '../errors.ts';
import type { CustodianRole } from './custodian-messages.ts';

/**
 * The file that a custodian runs. It has the extension of this one: .ts in development, .js once built; the path leads
 * there from src/custody and from the bundle in dist/cli alike.
 */
export const CUSTODIAN_ENTRY = fileURLToPath(
  new URL(`../custody/custodian.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url),
);

/**
 * What bounds a custodian's memory. The libraries need some 20 MiB; the rest is room for rows and direct ciphertexts. A
 * small young generation is collected more often and keeps the process tens of MiB smaller.
 */
const FLAGS = [
  '--disable-sigusr1',
  '--disallow-code-generation-from-strings',
  '--max-old-space-size=96',
  '--max-semi-space-size=2',
];

/**
 * A provider waits for its service nearly all of the time, and during a hand-over there are two of them: without the
 * optimising compilers each is a third smaller (69 MiB resident, not 97, after 2,000 unwraps) and no slower. A keystore
 * has rows by the thousand to work on.
 */
const FLAGS_OF = {
  provider: [...FLAGS, '--no-opt', '--no-maglev', '--optimize-for-size'],
  keystore: FLAGS,
} as const;

/** Of Node's own variables, only those that say whom to trust and which proxy to take. */
const NODE_VARIABLES = new Set(['NODE_EXTRA_CA_CERTS', 'NODE_USE_SYSTEM_CA', 'NODE_USE_ENV_PROXY']);
/** Of ours, only where the addon is: a custodian is configured by its agent. */
const OWN_VARIABLES = new Set(['DEKD_NATIVE_PATH']);
/** Code of others before ours, and files with the secrets of TLS. */
const REFUSED = new Set(['LD_PRELOAD', 'LD_AUDIT', 'SSLKEYLOGFILE']);

/** Where a uid has neither HOME nor a line in /etc/passwd, as in containers, libraries that look for a home would throw. */
const NO_HOME = '/nonexistent';

/** Environment for a custodian: what the libraries of the services read, and nothing that puts other code into it. */
export function custodianEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => {
      if (name.startsWith('NODE_')) {
        return NODE_VARIABLES.has(name);
      }
      return name.startsWith('DEKD_') ? OWN_VARIABLES.has(name) : !REFUSED.has(name);
    }),
  );
}

/**
 * Starts a custodian: descriptor 2 is a pipe for what it says before it is ready, 3 the channel, 4 and 5 the key pipe.
 * The role is all that its command line says.
 * @throws RESOURCE_EXHAUSTED when the system has no process, descriptor or memory for it
 */
export function spawnCustodian(
  entry: string,
  role: CustodianRole,
  keyEnds: { readonly fromAgent: number; readonly toAgent: number } | undefined,
): ChildProcess {
  const keyPipe = keyEnds === undefined ? [] : [keyEnds.fromAgent, keyEnds.toAgent];
  const child = spawn(process.execPath, [...FLAGS_OF[role], entry, role], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...keyPipe],
    env: { HOME: NO_HOME, ...custodianEnvironment(process.env) },
    // Some folder that does not go away, and in which no library finds settings.
    cwd: '/',
  });
  // Later it is said of a process that cannot be killed, because it is gone.
  child.on('error', () => {});
  if (child.pid === undefined) {
    throw new DekdError('RESOURCE_EXHAUSTED', 'no custodian can be started: the system has no process for it');
  }
  return child;
}
