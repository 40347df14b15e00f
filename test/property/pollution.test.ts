/** Names that mean something to JavaScript, at every place where a name can come from outside: CVE-2023-36665 and its like. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { parseConfig } from '../../src/config/load.ts';
import { contextOf, encodeContext } from '../../src/envelope/context.ts';
import { legacyEnvelopeOf } from '../../src/envelope/legacy.ts';
import { messageContext, readMessageHeader } from '../../src/envelope/message-header.ts';
import { readExport } from '../../src/keystores/export-document.ts';
import { messages } from '../../src/protocol/messages.ts';
import { childEnvironment, NODE, startTestAgent } from '../support/agent.ts';
import { administer } from '../support/agent-state.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const NAMES = ['__proto__', 'constructor', 'prototype', 'hasOwnProperty', 'toString', 'valueOf', '__defineGetter__'];
const before = Object.getOwnPropertyNames(Object.prototype).sort().join();

afterEach(() => {
  expect(Object.getOwnPropertyNames(Object.prototype).sort().join()).toBe(before);
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
});

/** A context with such a name, as JSON gives it: a property of its own. */
function hostile(name: string): Record<string, string> {
  return JSON.parse(`{"${name}":"polluted","row":"1"}`) as Record<string, string>;
}

describe.each(NAMES)('the name %s', (name) => {
  it('is a name of a context like any other, and what holds it has no prototype', () => {
    const bytes = encodeContext(hostile(name));
    const back = contextOf(bytes, 0, bytes.length);
    expect(Object.getPrototypeOf(back)).toBeNull();
    expect(Object.entries(back).sort()).toEqual(Object.entries(hostile(name)).sort());
  });

  it('is no key of a configuration, an envelope or an export', () => {
    const yaml = `state: /tmp/x\nroots:\n  main: { provider: local, keyFile: /k, allowLocalRoot: true }\n${name}: { polluted: true }\n`;
    expect(() => parseConfig(yaml)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    const nested = `state: /tmp/x\nroots:\n  ${name}: { provider: local, keyFile: /k, allowLocalRoot: true, polluted: 1 }\n`;
    expect(() => parseConfig(nested)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    const envelope: unknown = JSON.parse(
      `{"__enc":1,"kid":"k","iv":"AAAAAAAAAAAAAAAA","ct":"AAAA","${name}":{"polluted":1}}`,
    );
    expect(() => legacyEnvelopeOf(envelope)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
    const document = `{"format":"dekd-export","version":1,"${name}":{"polluted":1},"records":[{"${name}":{"polluted":1}}]}`;
    expect(() => readExport(document)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  it('is a name of a key, a partition and a stored pair in an agent, and nothing else', async () => {
    const agent = await startTestAgent();
    const dekd = connect({ socket: agent.socket });
    const options = { key: name, partition: name, context: hostile(name) };
    const token = await dekd.encrypt(Buffer.from('value'), options);
    expect(Buffer.from(await dekd.decrypt(token, options)).toString()).toBe('value');
    await expect(dekd.decrypt(token, { ...options, context: { row: '1' } })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
    const message = await dekd.encryptLarge(JSON.parse(`{"${name}":{"polluted":true}}`), options);
    expect(Object.getPrototypeOf(messageContext(readMessageHeader(message)!))).toBeNull();
    const back = await dekd.decryptLarge<object>(message, options);
    expect(Object.keys(back)).toEqual([name]);
    const status = await administer(agent, { list: {} });
    expect(JSON.stringify(status)).toContain(`"${name}"`);
    await dekd.close();
    await agent.stop();
  });
});

describe('an agent whose prototypes are frozen', () => {
  const FREEZE = `for (const one of [Object, Array, Function, Map, Set, Promise, String, Number]) Object.freeze(one.prototype)`;

  it('works as ever: it puts nothing on any of them', async () => {
    const socket = join(temporaryFolder(), 's', 'agent.sock');
    const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
    const freeze = ['--import', `data:text/javascript,${encodeURIComponent(FREEZE)}`];
    const child = spawn(NODE, [...freeze, '--disable-sigusr1', main, 'dev', '--ephemeral', '--socket', socket], {
      env: childEnvironment(),
    });
    let said = '';
    await new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (text) => {
          said += text;
          if (said.includes('agent ready')) {
            resolve();
          }
        });
      }
      child.once('exit', () => reject(new Error(said)));
    });
    const dekd = connect({ socket });
    const options = { key: 'k', context: hostile('__proto__') };
    expect(await dekd.decryptText(await dekd.encryptText('value', options), options)).toBe('value');
    const message = await dekd.encryptLarge({ a: 1 }, { ...options, compression: 'gzip' });
    expect(await dekd.decryptLarge(message, options)).toEqual({ a: 1 });
    await dekd.close();
    child.removeAllListeners('exit');
    child.kill('SIGKILL');
  });
});

describe('generated messages', () => {
  it('have no maps, and fields that no bytes can add to', () => {
    const decoded = messages.Request.decode(Uint8Array.from([0x08, 1, 0xfa, 0x3f, 9, ...Buffer.from('__proto__')]));
    expect(Object.keys(decoded).filter((field) => field !== 'id' && field !== '$unknowns')).toEqual([]);
  });
});
