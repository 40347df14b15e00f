import { describe, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import { loadDriver } from '../../src/keystores/postgres/driver.ts';
import {
  connectFailure,
  endsConnection,
  failureOf,
  isPassing,
  SessionError,
} from '../../src/keystores/postgres/failure.ts';

const SECRET = 'hunter2';
const SHOWN = 'db.example:5432/dekd';

/** An answer of the server as the driver makes it, with a secret wherever the server quotes what it was given. */
function answer(code: string): Error {
  const texts = { detail: `Key (name)=(${SECRET})`, hint: SECRET, where: SECRET, internalQuery: SECRET };
  return Object.assign(new Error(`could not ${SECRET}`), { code, severity: 'FEHLER', ...texts });
}

describe('failureOf', () => {
  it.each([
    ['23505', 'CONFLICT', 'has such a record already', 'keeps', 'final'],
    ['23514', 'INTERNAL', 'constraint', 'keeps', 'final'],
    ['22021', 'INVALID_ARGUMENT', 'cannot store a character', 'keeps', 'final'],
    ['54000', 'INVALID_ARGUMENT', 'cannot index', 'keeps', 'final'],
    ['28P01', 'KEYSTORE_UNAVAILABLE', 'check the user, passwordFile', 'keeps', 'final'],
    ['28000', 'KEYSTORE_UNAVAILABLE', 'refused the login', 'keeps', 'final'],
    ['3D000', 'KEYSTORE_UNAVAILABLE', 'has no such database', 'keeps', 'final'],
    ['3F000', 'KEYSTORE_UNAVAILABLE', 'has no such schema', 'keeps', 'final'],
    ['42P01', 'KEYSTORE_UNAVAILABLE', 'lacks a table', 'keeps', 'final'],
    ['42501', 'KEYSTORE_UNAVAILABLE', 'does not let the role', 'keeps', 'final'],
    ['53300', 'KEYSTORE_UNAVAILABLE', 'too many connections', 'keeps', 'final'],
    ['53100', 'KEYSTORE_UNAVAILABLE', 'no space left', 'keeps', 'final'],
    ['53200', 'KEYSTORE_UNAVAILABLE', 'no memory', 'keeps', 'final'],
    ['53400', 'KEYSTORE_UNAVAILABLE', 'short of a resource', 'keeps', 'final'],
    ['55P03', 'KEYSTORE_UNAVAILABLE', 'lock', 'keeps', 'final'],
    ['57014', 'KEYSTORE_UNAVAILABLE', 'did not finish in time', 'keeps', 'final'],
    ['57P01', 'KEYSTORE_UNAVAILABLE', 'ended the connection', 'ends', 'final'],
    ['57P02', 'KEYSTORE_UNAVAILABLE', 'crash', 'ends', 'final'],
    ['57P03', 'KEYSTORE_UNAVAILABLE', 'is starting or shutting down', 'ends', 'final'],
    ['57P05', 'KEYSTORE_UNAVAILABLE', 'shutting down or starting', 'ends', 'final'],
    ['25P03', 'KEYSTORE_UNAVAILABLE', 'transaction took too long', 'ends', 'final'],
    ['25006', 'KEYSTORE_UNAVAILABLE', 'name the primary', 'ends', 'final'],
    ['26000', 'KEYSTORE_UNAVAILABLE', 'pooler', 'keeps', 'final'],
    ['08006', 'KEYSTORE_UNAVAILABLE', 'broke the connection', 'ends', 'final'],
    ['40001', 'KEYSTORE_UNAVAILABLE', 'again and again', 'keeps', 'passing'],
    ['40P01', 'KEYSTORE_UNAVAILABLE', 'again and again', 'keeps', 'passing'],
    ['XX000', 'KEYSTORE_UNAVAILABLE', 'SQLSTATE XX000', 'keeps', 'final'],
  ])('makes SQLSTATE %s %s, "%s", which %s the connection and is %s', (state, code, text, connection, again) => {
    const error = answer(state);
    const failure = failureOf(error, SHOWN);
    expect(failure).toMatchObject({ code, reason: `SQLSTATE ${state}` });
    expect(failure.cause).toBeUndefined();
    expect(failure.message).toContain(text);
    expect(failure.message).toContain(SHOWN);
    expect(endsConnection(error)).toBe(connection === 'ends');
    expect(isPassing(error)).toBe(again === 'passing');
    expect(everythingIn(failure)).not.toContain(SECRET);
  });

  it.each([
    ['ECONNREFUSED', 'nothing listens there'],
    ['ENOENT', 'no socket is there'],
    ['EACCES', 'may not be used'],
    ['ENOTFOUND', 'the name is not known'],
    ['EAI_AGAIN', 'cannot be looked up'],
    ['ETIMEDOUT', 'no answer'],
    ['EHOSTUNREACH', 'no way to the host'],
    ['ECONNRESET', 'the connection was closed'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'for another name'],
    ['CERT_HAS_EXPIRED', 'has expired'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'caFile'],
    ['EWHATEVER', 'EWHATEVER'],
  ])('says why no connection was made: %s', (code, text) => {
    const failure = failureOf(connectFailure(Object.assign(new Error(SECRET), { code })), SHOWN);
    expect(failure).toMatchObject({ code: 'KEYSTORE_UNAVAILABLE', reason: code });
    expect(failure.message).toContain(`${SHOWN} cannot be reached: `);
    expect(failure.message).toContain(text);
    expect(everythingIn(failure)).not.toContain(SECRET);
  });

  it.each([
    ['SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string', 'check passwordFile'],
    ['The server does not support SSL connections', 'it has no TLS'],
    ['Connection terminated unexpectedly', 'the connection was closed'],
  ])('knows what the driver means by "%s"', (message, text) => {
    expect(failureOf(connectFailure(new Error(message)), SHOWN).message).toContain(text);
  });

  it('lets a connection that was lost before a commit be tried again, and names what the server said', () => {
    const lost = new SessionError('lost', 'ended the connection', answer('57P02'));
    expect(isPassing(lost)).toBe(true);
    expect(failureOf(lost, SHOWN).message).toContain('restarts after a crash');
    expect(isPassing(new SessionError('late', 'did not answer'))).toBe(false);
    expect(isPassing(new SessionError('unreachable', 'cannot be reached'))).toBe(false);
  });

  it('leaves errors of dekd as they are, and makes anything else INTERNAL', () => {
    const own = new DekdError('KEY_NOT_FOUND', 'no record with this kid');
    expect(failureOf(own, SHOWN)).toBe(own);
    expect(connectFailure(own)).toBe(own);
    expect(failureOf(new TypeError('x'), SHOWN)).toMatchObject({ code: 'INTERNAL' });
  });
});

describe('loadDriver', () => {
  it('says how to install the package that is not there', async () => {
    const missing = () => Promise.reject(Object.assign(new Error('x'), { code: 'ERR_MODULE_NOT_FOUND' }));
    await expect(loadDriver(missing)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('npm install pg@8'),
    });
  });
});

/** What a log that prints all of an error would show. */
function everythingIn(error: DekdError): string {
  return [error.message, error.reason, error.stack, JSON.stringify(error)].join('\n');
}
