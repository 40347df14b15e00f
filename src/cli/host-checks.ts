/** What must be right about the process before it may hold keys. */

/** node:sqlite without a flag and OpenSSL 3.5. */
const MINIMUM_NODE = [24, 15] as const;

/** What is wrong with this version of Node for the command and its agent, or undefined. The client needs less. */
export function nodeProblem(version: string): string | undefined {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  const enough = major > MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor >= MINIMUM_NODE[1]);
  return enough ? undefined : `Node ${MINIMUM_NODE.join('.')} or newer is needed; this is ${version}`;
}

/** Options that neither load code nor open a way in. */
const HARMLESS = new Set([
  '--disable-sigusr1',
  '--disable-warning',
  '--disallow-code-generation-from-strings',
  '--enable-source-maps',
  '--max-old-space-size',
  '--max-semi-space-size',
  '--no-deprecation',
  '--no-warnings',
  '--stack-trace-limit',
  '--title',
  '--v8-pool-size',
]);

/**
 * Options of Node, from NODE_OPTIONS or its command line, that are not known to be harmless. `--require`, `--import` and
 * `--inspect` run the code of whoever sets them in the process that holds the keys, which is why the list is one of what
 * is allowed.
 */
export function riskyNodeOptions(words: readonly string[]): string[] {
  return words
    .filter((word) => word.startsWith('-'))
    .map((word) => word.split('=')[0]!)
    .filter((name) => !HARMLESS.has(name.replaceAll('_', '-')));
}

export function nodeOptionWords(env: Readonly<Record<string, string | undefined>>): string[] {
  return (env.NODE_OPTIONS ?? '').split(/\s+/).filter((word) => word !== '');
}

/** Variables by which the dynamic linker, OpenSSL and Node's code cache load other people's code into this process. */
const LOADING_VARIABLES = [
  'LD_PRELOAD',
  'LD_AUDIT',
  'DYLD_INSERT_LIBRARIES',
  'OPENSSL_CONF',
  'OPENSSL_MODULES',
  'NODE_COMPILE_CACHE',
] as const;

/** Everything about the surroundings by which code that is not ours gets into this process; empty when nothing does. */
export function foreignCode(
  env: Readonly<Record<string, string | undefined>>,
  execArgv: readonly string[],
): readonly string[] {
  return [
    ...riskyNodeOptions(nodeOptionWords(env)).map((name) => `NODE_OPTIONS has ${name}`),
    ...riskyNodeOptions(execArgv).map((name) => `Node was started with ${name}`),
    ...LOADING_VARIABLES.filter((name) => env[name]).map((name) => `${name} is set`),
  ];
}
