import { hardenProcess } from '../crypto/host.ts';
import { closeInherited } from '../crypto/inherited.ts';
import { CUSTODIAN_FD } from './custodian-messages.ts';

/**
 * Takes from a custodian what it must not have, before any foreign code is in it: descriptors that the agent was started
 * with (Node passes on those of a high number, such as a root key's `keyDescriptor`), and readers of its memory.
 * @throws Error when the memory stays readable for others of this uid: without the addon, or where the kernel refuses
 */
export function hardenCustodian(): void {
  // First, because /proc/self is root's afterwards.
  closeInherited(new Set(Object.values(CUSTODIAN_FD)));
  if (!hardenProcess().includes('not dumpable')) {
    throw new Error('this process cannot be kept from being read by others of its uid');
  }
}
