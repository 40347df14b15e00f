/** Defects of others that a look at our own sources would find. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../support/source-copy.ts';

const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

describe('protobuf', () => {
  it('is generated code over the minimal runtime: no schema is read and no code made while the agent runs', () => {
    // CVE-2022-25878, CVE-2023-36665, CVE-2026-41242, -44289, -44291 are of what reads schemas and makes code of them.
    const sources = globSync('src/**/*.ts', { cwd: ROOT }).filter((file) => !file.endsWith('.d.ts'));
    const imports = sources.flatMap((file) =>
      [...textOf(file).matchAll(/(?:from|import)\s*\(?\s*'(protobufjs[^']*)'/g)].map(([, module]) => module),
    );
    expect(new Set(imports)).toEqual(new Set(['protobufjs/minimal.js']));
    expect(textOf('src/protocol/runtime.ts')).not.toMatch(/\b(eval|Function)\(|\.(parse|load|loadSync|Root)\b/);
  });
});

describe('the permission model of Node', () => {
  it('is nothing that dekd counts on: it let Unix sockets through (CVE-2026-21636, -21711)', () => {
    const files = globSync('{deploy/**/*,Dockerfile,package.json,.ci/run,src/**/*.ts}', {
      cwd: ROOT,
      withFileTypes: true,
    })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length).replace(/^\//, ''));
    const found = files.filter((file) => /--(experimental-)?permission\b/.test(textOf(file)));
    // It says there what a program that runs under it needs.
    expect(found).toEqual(['src/client/sync/socket-thread.ts']);
  });
});

describe('the pid of a caller', () => {
  it('is read nowhere: it is 0 across containers and another process by the time it is looked up (flatpak 6212)', () => {
    const peer = `${textOf('native/core/peer_identity.cc')}${textOf('native/core/peer_identity.h')}${textOf('src/agent/peer.ts')}`;
    expect(peer).toMatch(/SO_PEERCRED/);
    expect(peer).not.toMatch(/\.pid\b|PIDFD|\/proc\//);
    for (const file of globSync('src/policy/*.ts', { cwd: ROOT })) {
      expect(textOf(file), file).not.toMatch(/\bpid\b/);
    }
  });
});
