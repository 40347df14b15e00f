/** A lane of hand-made requests: regions shared by the addon itself, named by whatever a test wants to say. */
import { dirname, join } from 'node:path';
import { LaneLink } from '../../src/client/lane-link.ts';
import { LaneNative } from '../../src/client/lane-native.ts';
import { RawClient, type RawReply } from './raw-client.ts';

/** What a greeting says of the lane. */
export interface RawOffer {
  readonly laneToken: Uint8Array;
  readonly laneMaxPayload: number;
  readonly laneRegionLimit: number;
  readonly laneSocket: string;
}

export interface RawLane {
  readonly client: RawClient;
  readonly offer: RawOffer;
  readonly link: LaneLink;
  readonly native: LaneNative;
  /** Makes a region and shares it. @throws what the agent refuses it with */
  share(size: number): Promise<{ readonly region: number; readonly handle: number }>;
}

/** A greeted connection and what joins its lane. */
export async function rawLane(socket: string): Promise<RawLane> {
  const client = await RawClient.connect(socket);
  const reply = await client.ask({ hello: { minVersion: 1, maxVersion: 1, client: 'lane' } });
  const offer = (reply as { hello: unknown }).hello as RawOffer;
  const native = LaneNative.load();
  const link = linkOf(socket, offer.laneToken);
  return {
    client,
    offer,
    link,
    native,
    async share(size) {
      const region = native.create(size);
      await link.share(region, (fd, token) => native.share(fd, token, region));
      return { region, handle: link.handle(region)! };
    },
  };
}

/** A link that joins with this token, whosever it is. */
export function linkOf(socket: string, token: Uint8Array): LaneLink {
  const path = join(dirname(socket), 'lane.sock');
  return new LaneLink({ socket: path, token: new Uint8Array(token), maxPayload: 0, regionLimit: 0 });
}

/** A reply whose result lies in the lane. */
export type RawLaneReply = RawReply & { readonly laneResult?: { readonly length: unknown } };
