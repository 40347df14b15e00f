import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['*.test.mjs'],
    // One agent for all files: each gets its socket in DEKD_SOCKET, where clients look first.
    globalSetup: './agent.mjs',
  },
});
