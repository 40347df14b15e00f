/** The process that runs the libraries of providers or of keystores: `custodian provider` or `custodian keystore`. */

// Before anything else can run: the default action of SIGUSR1 opens the inspector. The others are for the agent to
// decide: a signal to the whole group must not end the custodian before the agent has drained.
for (const signal of ['SIGUSR1', 'SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.on(signal, () => {});
}

const { hardenCustodian } = await import('./custodian-hardening.ts');
hardenCustodian();
// What an error says may hold what a library was working on.
process.on('uncaughtException', () => process.exit(70));
const { serveAgent } = await import('./agent-service.ts');
serveAgent(process.argv[2]);

export {};
