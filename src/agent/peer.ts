/** Who is at the other end of a connection, as the kernel says it. */
import type { Socket } from 'node:net';
import { DekdError } from '../errors.ts';
import type { Peer } from '../policy/policy.ts';

/** What the addon answers; undefined without it. */
export type PeerCredentials = (fd: number) => { uid: number; gid: number; groups: readonly number[] } | undefined;

/**
 * The peer of an accepted socket. Never its pid: that is 0 across containers and may be another process by now.
 * Without the addon there is nobody to ask, and the folder's mode (0700) lets only the own uid in.
 * @throws UNAUTHENTICATED when the kernel does not say
 */
export function peerOf(socket: Socket, name: string, credentials: PeerCredentials | undefined): Peer {
  if (credentials === undefined) {
    return { uid: process.getuid!(), gid: process.getgid!(), groups: [], socket: name };
  }
  // Node has no public way to the descriptor of a connection; the handle has been there in every release line.
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  const found = handle === null ? undefined : credentials(handle.fd);
  if (found === undefined) {
    throw new DekdError('UNAUTHENTICATED', 'the caller is not known', {
      reason: 'SO_PEERCRED gave no answer for the connection',
    });
  }
  return { ...found, socket: name };
}
