/** Names of KMS keys, as far as they say what they name. */

/** A key ARN in its parts: `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`. */
export interface KeyArn {
  readonly partition: string;
  readonly region: string;
  readonly account: string;
  readonly id: string;
}

const KEY_ARN = /^arn:([\w-]+):kms:([\w-]+):(\d{12}):key\/([\w-]+)$/;
const ANY_ARN = /^arn:[\w-]+:kms:([\w-]+):\d{12}:(?:key\/[\w-]+|alias\/[\w/-]+)$/;
const KEY_ID = /^[\w-]+$/;
const ALIAS = /^alias\/[\w/-]+$/;
const MULTI_REGION_PREFIX = 'mrk-';

/** @returns undefined for anything but the ARN of a key: ids, aliases and ARNs of aliases. */
export function parseKeyArn(text: string): KeyArn | undefined {
  const match = KEY_ARN.exec(text);
  if (match === null) {
    return undefined;
  }
  const [, partition, region, account, id] = match;
  return { partition: partition!, region: region!, account: account!, id: id! };
}

/** Whether `text` has the form of a key id, key ARN, alias or alias ARN. */
export function isKeyName(text: string): boolean {
  return text.length <= 2048 && [KEY_ID, ALIAS, ANY_ARN].some((form) => form.test(text));
}

/** The Region that a key ARN or alias ARN names. */
export function regionOf(text: string): string | undefined {
  return ANY_ARN.exec(text)?.[1];
}

/** Whether the key that AWS names by `arn` may be what `configured` asks for; an alias may point to any key. */
export function answersTo(configured: string, arn: KeyArn): boolean {
  const asked = parseKeyArn(configured);
  if (asked !== undefined) {
    return sameName(asked, arn) && asked.region === arn.region;
  }
  return configured.includes('alias/') || configured === arn.id;
}

/** Whether two texts are ARNs of one multi-Region key, which has one material, in whatever Regions. */
export function isSameMultiRegionKey(a: string, b: string): boolean {
  const [one, other] = [parseKeyArn(a), parseKeyArn(b)];
  return one !== undefined && other !== undefined && one.id.startsWith(MULTI_REGION_PREFIX) && sameName(one, other);
}

function sameName(a: KeyArn, b: KeyArn): boolean {
  return a.partition === b.partition && a.account === b.account && a.id === b.id;
}
