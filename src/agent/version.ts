import { readFileSync } from 'node:fs';

/** The version of this package; its manifest lies two folders up both from src/agent and from dist/agent. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
