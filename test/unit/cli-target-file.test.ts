import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openTarget } from '../../src/cli/target-file.ts';

describe('a target file', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-target-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is not there before commit, and whole after it', async () => {
    const path = join(folder, 'out');
    const target = await openTarget(path, 0o600);
    await target.write(Buffer.from('one '));
    await target.write(Buffer.from('two'));
    expect(existsSync(path)).toBe(false);
    await target.commit();
    expect(readFileSync(path, 'utf8')).toBe('one two');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['out']);
  });

  it('leaves the old content and nothing else when it is discarded', async () => {
    const path = join(folder, 'out');
    writeFileSync(path, 'old');
    const target = await openTarget(path, 0o600);
    await target.write(Buffer.from('new'));
    await target.discard();
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(['out']);
  });

  it('keeps the mode of the file it replaces', async () => {
    const path = join(folder, 'out');
    writeFileSync(path, 'old');
    chmodSync(path, 0o640);
    const target = await openTarget(path, 0o600);
    await target.commit();
    expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  it('replaces what a symbolic link points to, not the link', async () => {
    writeFileSync(join(folder, 'real'), 'old');
    symlinkSync('real', join(folder, 'link'));
    const target = await openTarget(join(folder, 'link'), 0o600);
    await target.write(Buffer.from('new'));
    await target.commit();
    expect(readFileSync(join(folder, 'real'), 'utf8')).toBe('new');
    expect(readdirSync(folder).sort()).toEqual(['link', 'real']);
  });

  it('refuses a folder, and writes straight to what is no regular file', async () => {
    await expect(openTarget(folder, 0o600)).rejects.toThrow(/is a folder/);
    const target = await openTarget('/dev/null', 0o600);
    await target.write(Buffer.from('x'));
    await target.commit();
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });
});
