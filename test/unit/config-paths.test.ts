import { mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lossWithPod } from '../../src/config/durability.ts';
import { adminSocketPath, devStateFolder } from '../../src/config/paths.ts';
import { agentSocketPath, clientSocketPaths } from '../../src/protocol/socket-paths.ts';

describe('socket paths', () => {
  const bare = { env: {}, uid: 1000, temporaryFolder: '/tmp' };
  const desktop = { ...bare, env: { XDG_RUNTIME_DIR: '/run/user/1000' } };
  const named = { ...desktop, env: { ...desktop.env, DEKD_SOCKET: '/run/dekd/pod/agent.sock' } };

  it('are tried by the client in order, a named one alone', () => {
    expect(clientSocketPaths(bare)).toEqual(['/run/dekd/agent.sock', '/tmp/dekd-1000/agent.sock']);
    expect(clientSocketPaths(desktop)).toEqual([
      '/run/user/1000/dekd/agent.sock',
      '/run/dekd/agent.sock',
      '/tmp/dekd-1000/agent.sock',
    ]);
    expect(clientSocketPaths(named)).toEqual(['/run/dekd/pod/agent.sock']);
  });

  it('are where the client looks, in run and in dev', () => {
    for (const surroundings of [bare, desktop, named]) {
      for (const mode of ['run', 'dev'] as const) {
        expect(clientSocketPaths(surroundings)).toContain(agentSocketPath(surroundings, mode));
      }
    }
    expect(agentSocketPath(bare, 'run')).toBe('/run/dekd/agent.sock');
    expect(agentSocketPath(bare, 'dev')).toBe('/tmp/dekd-1000/agent.sock');
  });

  it('put the admin socket beside the data socket', () => {
    expect(adminSocketPath('/run/dekd/pod/agent.sock')).toBe('/run/dekd/pod/admin.sock');
  });
});

describe('the development state folder', () => {
  it('follows XDG_STATE_HOME when that is absolute, else the home folder', () => {
    expect(devStateFolder({ XDG_STATE_HOME: '/state', HOME: '/home/me' })).toBe('/state/dekd/dev');
    expect(devStateFolder({ XDG_STATE_HOME: 'relative', HOME: '/home/me' })).toBe('/home/me/.local/state/dekd/dev');
  });
});

describe('a keystore file in a pod', () => {
  const folder = realpathSync(tmpdir());
  const mounts = (root: string, point: string, type: string): string =>
    `1 0 0:1 / / rw - overlay overlay rw\n2 1 8:1 ${root} ${point} rw,relatime shared:1 - ${type} /dev/x rw\n`;

  it('dies with the pod on an emptyDir, in memory and in the image', () => {
    const path = join(folder, 'keystore.sqlite');
    expect(
      lossWithPod(path, mounts('/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/data', folder, 'ext4')),
    ).toContain('emptyDir');
    expect(lossWithPod(path, mounts('/', folder, 'tmpfs'))).toContain('memory');
    expect(lossWithPod(path, mounts('/', '/elsewhere', 'ext4'))).toContain('image');
  });

  it('stays on a volume of its own', () => {
    expect(lossWithPod(join(folder, 'not/there/yet.sqlite'), mounts('/', folder, 'ext4'))).toBeUndefined();
  });

  it('is judged by the innermost mount, through links, and not by a name that only begins alike', () => {
    const made = mkdtempSync(join(folder, 'dekd paths-'));
    try {
      symlinkSync(folder, join(made, 'link'));
      const inner = `${mounts('/', folder, 'ext4')}3 2 0:9 / ${made.replaceAll(' ', '\\040')} rw - tmpfs tmpfs rw\n`;
      expect(lossWithPod(join(made, 'k'), inner)).toContain('memory');
      expect(lossWithPod(join(made, 'k'), inner.split('\n').toReversed().join('\n'))).toContain('memory');
      expect(lossWithPod(join(made, 'link', 'k'), inner)).toBeUndefined();
      expect(lossWithPod(join(folder, 'k'), mounts('/', folder.slice(0, -1), 'ext4'))).toContain('image');
    } finally {
      rmSync(made, { recursive: true });
    }
  });
});
