import { describe, expect, it } from 'vitest';
import { fromCustodian } from '../../src/custody/custodian-messages.ts';
import { custodianEnvironment } from '../../src/custody/custodian-spawn.ts';
import { expectationFromJson, expectationJson, leaseFromJson, leaseJson } from '../../src/custody/keystore-json.ts';
import { Garbage } from '../../src/custody/untrusted.ts';

describe('fromCustodian', () => {
  it('takes every message with the fields that it has, and no other field', () => {
    const failure = { kind: 'failure', id: 7, code: 'TIMEOUT', message: 'm', detail: 'd', retryAfterMs: 5 };
    for (const message of [
      { kind: 'ready', role: 'provider', protocol: 1 },
      { kind: 'reply', id: 0, value: { any: ['thing'] } },
      { kind: 'rows', id: 2 ** 32 - 1, rows: [1, {}] },
      failure,
      { kind: 'failure', id: 7, code: 'TIMEOUT', message: 'm' },
      { kind: 'session', id: 1, root: 'aws' },
    ]) {
      expect(fromCustodian({ ...message, extra: 1 })).toEqual(message);
    }
    expect(fromCustodian({ kind: 'reply', id: 1 })).toEqual({ kind: 'reply', id: 1, value: null });
  });

  it.for([
    [null],
    [[]],
    ['reply'],
    [{}],
    [{ kind: 'toString' }],
    [{ kind: 'ready', role: 1, protocol: 1 }],
    [{ kind: 'ready', role: 'provider', protocol: '1' }],
    [{ kind: 'reply', value: 1 }],
    [{ kind: 'reply', id: 2 ** 32 }],
    [{ kind: 'reply', id: 1.5 }],
    [{ kind: 'reply', id: null }],
    [{ kind: 'rows', id: 1, rows: { length: 1 } }],
    [{ kind: 'failure', id: 1, code: 'X' }],
    [{ kind: 'failure', id: 1, code: 'X'.repeat(65), message: '' }],
    [{ kind: 'failure', id: 1, code: 'X', message: '', detail: null }],
    [{ kind: 'failure', id: 1, code: 'X', message: '', retryAfterMs: -1 }],
    [{ kind: 'session', id: 1, root: {} }],
  ])('refuses %j', ([message]) => {
    expect(() => fromCustodian(message)).toThrow(Garbage);
  });
});

describe('what keystores take and give', () => {
  it('keeps all 64 bits of seq and of counts', () => {
    const seq = 2n ** 64n - 1n;
    expect(expectationFromJson(expectationJson({ seq }))).toEqual({ seq });
    expect(expectationFromJson(expectationJson({ absent: true }))).toEqual({ absent: true });
    const lease = { kid: Uint8Array.from({ length: 16 }, (_, i) => i * 16), holder: 'h', messages: seq, bytes: 0n };
    expect(leaseFromJson(JSON.parse(JSON.stringify(leaseJson(lease))))).toEqual(lease);
  });

  it.for([
    [{}],
    [{ kid: '00', holder: 'h', messages: '1', bytes: '1' }],
    [{ kid: 'g'.repeat(32), holder: 'h', messages: '1', bytes: '1' }],
    [{ kid: '0'.repeat(32), holder: 'h', messages: 1, bytes: '1' }],
    [{ kid: '0'.repeat(32), holder: 'h', messages: '-1', bytes: '1' }],
    [{ kid: '0'.repeat(32), holder: 'h', messages: '18446744073709551616', bytes: '1' }],
    [{ kid: '0'.repeat(32), holder: 'h'.repeat(300), messages: '1', bytes: '1' }],
  ])('refuses the lease %j', ([lease]) => {
    expect(() => leaseFromJson(lease)).toThrow(Garbage);
  });
});

describe('custodianEnvironment', () => {
  it('passes what libraries of services read, and nothing that loads code, trusts anybody or writes secrets down', () => {
    const passed = {
      PATH: '/bin',
      HOME: '/',
      AWS_PROFILE: 'p',
      AWS_WEB_IDENTITY_TOKEN_FILE: '/t',
      VAULT_TOKEN: 't',
      PGHOST: 'h',
      HTTPS_PROXY: 'http://proxy',
      LD_LIBRARY_PATH: '/opt/hsm',
      NODE_EXTRA_CA_CERTS: '/ca',
      NODE_USE_SYSTEM_CA: '1',
      NODE_USE_ENV_PROXY: '1',
      DEKD_NATIVE_PATH: '/addon.node',
    };
    const refused = {
      NODE_OPTIONS: '--require /x.js',
      NODE_PATH: '/x',
      NODE_DEBUG: 'http',
      NODE_V8_COVERAGE: '/x',
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
      NODE_CHANNEL_FD: '3',
      LD_PRELOAD: '/x.so',
      LD_AUDIT: '/x.so',
      SSLKEYLOGFILE: '/x',
      DEKD_CONFIG: '/c',
      DEKD_ROOT_KEY: 'k',
    };
    expect(custodianEnvironment({ ...passed, ...refused })).toEqual(passed);
  });
});
