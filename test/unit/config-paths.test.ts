import { mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lossWithPod } from '../../src/config/durability.ts';
import { parseConfig } from '../../src/config/load.ts';
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

  it.for([
    ['in memory, as an emptyDir of medium Memory is', '/ FOLDER rw,relatime - tmpfs tmpfs rw,size=1024k', 'memory'],
    ['on huge pages', '/ FOLDER rw - hugetlbfs nodev rw,pagesize=2M', 'memory'],
    [
      'on an emptyDir below a subPath',
      '/var/lib/kubelet/pods/0d5f/volumes/kubernetes.io~empty-dir/data/sub FOLDER rw - ext4 /dev/vda1 rw',
      'emptyDir',
    ],
    [
      'on an emptyDir where the kubelet has a disk of its own',
      '/pods/0d5f/volumes/kubernetes.io~empty-dir/data FOLDER rw - xfs /dev/nvme1n1 rw',
      'emptyDir',
    ],
    [
      'on a VOLUME of the image that nothing is mounted on',
      '/var/lib/containerd/io.containerd.grpc.v1.cri/containers/9f0c/volumes/77ab FOLDER rw - ext4 /dev/vda1 rw',
      'image',
    ],
    ['in the image, by overlay', '/ / rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c', 'image'],
    ['in the image, on a snapshot of btrfs', '/snapshots/41 / rw - btrfs /dev/vdb rw,subvol=/snapshots/41', 'image'],
    ['in the image, in a sandbox', '/ / rw - 9p none rw,trans=fd', 'image'],
    ['on a claim', '/ FOLDER rw - ext4 /dev/sdb rw', undefined],
    ['on a claim on NFS', '/export/dekd FOLDER rw - nfs4 10.0.0.9:/export/dekd rw,vers=4.2', undefined],
    ['on a folder of the node', '/srv/dekd FOLDER rw - ext4 /dev/vda1 rw', undefined],
  ] as const)('is judged by mountinfo: %s', ([, line, loss]) => {
    const image = '612 540 0:61 / / ro,relatime master:201 - overlay overlay rw,lowerdir=/l\n';
    const found = lossWithPod(
      join(folder, 'keystore.sqlite'),
      `${image}637 612 8:1 ${line.replace('FOLDER', folder)}\n`,
    );
    expect(found).toEqual(loss === undefined ? undefined : expect.stringContaining(loss));
  });

  it('is judged by where it lies when its path is a link', () => {
    const made = mkdtempSync(join(folder, 'dekd-paths-'));
    try {
      const file = join(made, 'real.sqlite');
      writeFileSync(file, '');
      symlinkSync(file, join(folder, `${basename(made)}.link`));
      const inner = `${mounts('/', folder, 'ext4')}3 2 0:9 / ${made} rw - tmpfs tmpfs rw\n`;
      expect(lossWithPod(join(folder, `${basename(made)}.link`), inner)).toContain('memory');
    } finally {
      rmSync(join(folder, `${basename(made)}.link`));
      rmSync(made, { recursive: true });
    }
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

  it.for([
    ['keystore', 'keystore: { kind: sqlite, path: FILE }'],
    ['keystores.eu', 'keystore: { kind: openbao-kv, vault: VAULT }\nkeystores: { eu: { kind: sqlite, path: FILE } }'],
    ['keystores.eu', 'keystore: { kind: openbao-kv, vault: VAULT }\nkeystores: { eu: { kind: memory } }'],
  ] as const)('keeps run from starting, in whichever keystore it is: %s', ([section, yaml]) => {
    const file = yaml
      .replace('FILE', '/no/such/folder/keystore.sqlite')
      .replace('VAULT', '{ address: "https://vault.example:8200" }');
    const whole = (text: string): string =>
      `roots: { main: { provider: local, keyFile: /root.key, allowLocalRoot: true } }\n${text}`;
    const env = { KUBERNETES_SERVICE_HOST: '10.0.0.1', VAULT_TOKEN: 'x' };
    expect(() => parseConfig(whole(file), { env })).toThrow(`set ${section}.acceptLoss: true`);
    const accepted = file.replace(/kind: (memory|sqlite)/, '$&, acceptLoss: true');
    expect(() => parseConfig(whole(accepted), { env })).not.toThrow();
    expect(() => parseConfig(whole(file), { env: { VAULT_TOKEN: 'x' } })).not.toThrow();
  });
});
