import { createHmac, timingSafeEqual } from 'node:crypto';
import type { EncryptOptions } from '../../src/client/types.ts';
import type { MacClient } from '../../src/helpers/index.ts';

/** A stand-in for the MACs of an agent, until a client has them: HMAC under keys of this process, bound as those are. */
export class MacStandIn implements MacClient {
  async hmacText(data: string, { key, partition = '', context = {} }: EncryptOptions): Promise<string> {
    const bound = JSON.stringify([key, partition, Object.entries(context).sort(), data]);
    return `dm1.${createHmac('sha256', 'a key of the stand-in').update(bound).digest('base64url')}`;
  }
  async verifyHmac(data: string, mac: string, options: EncryptOptions): Promise<boolean> {
    const [given, right] = [Buffer.from(mac), Buffer.from(await this.hmacText(data, options))];
    return given.length === right.length && timingSafeEqual(given, right);
  }
}
