import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isTemporaryName, removeLeftovers, temporaryName } from '../../src/cli/temporary-file.ts';

describe('temporary files', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-leftovers-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const put = (name: string, age = 0): string => {
    writeFileSync(join(folder, name), 'half');
    const at = Date.now() / 1_000 - age;
    utimesSync(join(folder, name), at, at);
    return name;
  };
  /** Parts of a name of this process: home, pid, start time. */
  const ours = temporaryName().split('-') as [string, string, string, string, string];
  const named = (home: string, pid: number | string, startTime: string) => `.dekd-${home}-${pid}-${startTime}-1.tmp`;

  it('have names of their own, which are known again', () => {
    const names = [temporaryName(), temporaryName()];
    expect(new Set(names).size).toBe(2);
    expect(names.every(isTemporaryName)).toBe(true);
    expect(['.dekd-x.tmp', 'report.tmp', `x${names[0]}`, `${names[0]}x`].some(isTemporaryName)).toBe(false);
  });

  it('go when their process is gone, or its id belongs to another', () => {
    const dead = spawnSync('/bin/true').pid;
    put(named(ours[1], dead, '1'));
    put(named(ours[1], process.pid, '1'));
    const kept = [put(temporaryName()), put('.other.tmp'), put('report.pdf')];
    expect(removeLeftovers(folder)).toBe(2);
    expect(readdirSync(folder).sort()).toEqual(kept.sort());
  });

  it('of another machine or container go after a day', () => {
    const fresh = put(named('00000000', 1, '1'), 23 * 3_600);
    put(named('00000001', 1, '1'), 25 * 3_600);
    expect(removeLeftovers(folder)).toBe(1);
    expect(readdirSync(folder)).toEqual([fresh]);
  });
});
