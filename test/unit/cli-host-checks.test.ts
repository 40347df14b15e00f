import { describe, expect, it } from 'vitest';
import { foreignCode, nodeProblem } from '../../src/cli/host-checks.ts';

describe('what may get into the agent', () => {
  it.each([
    ['v24.15.0', true],
    ['v24.21.0', true],
    ['v26.1.0', true],
    ['v24.14.9', false],
    ['v20.19.5', false],
    ['v22.99.0', false],
  ])('Node %s is new enough: %s', (version, enough) => {
    expect(nodeProblem(version) === undefined).toBe(enough);
  });

  it.each([
    '--require ./x.js',
    '-r ./x.js',
    '--import=./x.js',
    '--loader ./x.mjs',
    '--experimental-loader=./x.mjs',
    '--inspect',
    '--inspect-brk=0.0.0.0:9229',
    '--max-old-space-size=64 --inspect_port=1',
    '--openssl-config=/tmp/x',
  ])('NODE_OPTIONS=%s is refused', (options) => {
    expect(foreignCode({ NODE_OPTIONS: options }, [])).toHaveLength(1);
  });

  it('options that load nothing are let through, in either spelling', () => {
    const env = { NODE_OPTIONS: '--max-old-space-size=64 --no-warnings --max_semi_space_size=8' };
    expect(foreignCode(env, ['--disable-sigusr1'])).toEqual([]);
  });

  it('names options of the command line, preloaded libraries, OpenSSL configuration and a code cache', () => {
    const env = { LD_PRELOAD: '/x.so', OPENSSL_CONF: '/x.cnf', NODE_COMPILE_CACHE: '/x', LD_AUDIT: '' };
    expect(foreignCode(env, ['--inspect'])).toEqual([
      'Node was started with --inspect',
      'LD_PRELOAD is set',
      'OPENSSL_CONF is set',
      'NODE_COMPILE_CACHE is set',
    ]);
  });
});
