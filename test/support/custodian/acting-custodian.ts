/** A custodian as it is, but that its provider is an ActingProvider. */
for (const signal of ['SIGUSR1', 'SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.on(signal, () => {});
}

const { hardenCustodian } = await import('../../../src/custody/custodian-hardening.ts');
hardenCustodian();
process.on('uncaughtException', () => process.exit(70));
const { serveAgent } = await import('../../../src/custody/agent-service.ts');
const { ActingProvider } = await import('./acting-provider.ts');
serveAgent(process.argv[2], async (root, keeper) => new ActingProvider(root, keeper));

export {};
