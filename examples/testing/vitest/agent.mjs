import { createTestAgent } from 'dekd/testkit';

/** Runs once, in vitest's own process: what it puts into the environment the files of tests inherit. */
export default async function setup() {
  const agent = await createTestAgent();
  Object.assign(process.env, agent.env);
  return () => agent.close();
}
