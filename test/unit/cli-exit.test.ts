import { describe, expect, it } from 'vitest';
import { CommandError, EXIT, exitCodeOf, refusedToStart, reportOf, usageError } from '../../src/cli/exit.ts';
import { DekdError } from '../../src/errors.ts';

describe('exit codes', () => {
  it.each([
    [new DekdError('AGENT_UNAVAILABLE', 'none'), 3],
    [new DekdError('PERMISSION_DENIED', 'no'), 4],
    [new DekdError('UNAUTHENTICATED', 'no'), 4],
    [new DekdError('DECRYPTION_FAILED', 'no'), 1],
    [new DekdError('KEY_DISABLED', 'no'), 1],
    [new Error('anything'), 1],
    [usageError('wrong'), 2],
    [refusedToStart(new DekdError('CONFLICT', 'held')), 5],
    [refusedToStart(new CommandError(EXIT.denied, 'PERMISSION_DENIED', 'x')), 4],
  ])('%s ends with %i', (error, code) => {
    expect(exitCodeOf(error)).toBe(code);
  });
});

describe('error reports', () => {
  it('carry code, message, incident and a remedy that names this program as it was called', () => {
    const report = reportOf(new DekdError('PERMISSION_DENIED', 'denied', { incident: 'abc-1' }), 'npx dekd');
    expect(report).toEqual({
      code: 'PERMISSION_DENIED',
      message: 'denied',
      incident: 'abc-1',
      remedy: "as the agent's user, npx dekd why abc-1 names the rule that would allow it",
    });
  });

  it('say which path a failed system call was about', () => {
    const error = Object.assign(new Error('ENOENT: ...'), { code: 'ENOENT', errno: -2, path: '/x/y', syscall: 'open' });
    expect(reportOf(error, 'dekd')).toEqual({ code: 'INTERNAL', message: '/x/y: no such file or directory' });
  });

  it('say what to do about a full disk', () => {
    const full = Object.assign(new Error('ENOSPC: ...'), {
      code: 'ENOSPC',
      errno: -28,
      path: '/x/y',
      syscall: 'write',
    });
    expect(reportOf(full, 'dekd')).toEqual({
      code: 'INTERNAL',
      message: '/x/y: no space left on device',
      remedy: 'free space there, or name another place with -o',
    });
  });

  it('tell what failed in this process and never the hidden reason of the agent', () => {
    expect(reportOf(new TypeError('a defect'), 'dekd').message).toBe('TypeError: a defect');
    expect(reportOf(new DekdError('DECRYPTION_FAILED', 'decryption failed', { reason: 'tag' }), 'dekd').message).toBe(
      'decryption failed',
    );
  });
});
