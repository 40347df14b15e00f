/** A real agent for the tests of an application: `createTestAgent`. */
export { createTestAgent } from './test-agent.ts';
export type * from './types.ts';
