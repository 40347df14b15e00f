import { describe, expect, it } from 'vitest';
import { answersTo, isKeyName, isSameMultiRegionKey, parseKeyArn, regionOf } from '../../src/providers/aws-kms/arn.ts';
import type { AwsKmsSettings } from '../../src/providers/aws-kms/settings.ts';
import { connectionSettings } from '../../src/providers/aws-kms/settings.ts';

const ID = '1234abcd-12ab-34cd-56ef-1234567890ab';
const MRK = 'mrk-1234abcd12ab34cd56ef1234567890ab';

function arn(resource: string, region = 'eu-central-1'): string {
  return `arn:aws:kms:${region}:111122223333:${resource}`;
}

describe('names of KMS keys', () => {
  it('take the parts of a key ARN, in every partition', () => {
    expect(parseKeyArn(arn(`key/${ID}`))).toEqual({
      partition: 'aws',
      region: 'eu-central-1',
      account: '111122223333',
      id: ID,
    });
    expect(parseKeyArn(`arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/${ID}`)?.partition).toBe('aws-us-gov');
  });

  it('are no key ARN when they name an alias, another service or nothing', () => {
    for (const text of ['', ID, 'alias/root', arn('alias/root'), `arn:aws:s3:eu-central-1:111122223333:key/${ID}`]) {
      expect(parseKeyArn(text)).toBeUndefined();
    }
    expect(parseKeyArn(`${arn(`key/${ID}`)}/x`)).toBeUndefined();
  });

  it('are an id, an ARN, an alias or an alias ARN', () => {
    for (const text of [ID, MRK, arn(`key/${ID}`), 'alias/root', 'alias/team/root_2', arn('alias/team/root')]) {
      expect(isKeyName(text), text).toBe(true);
    }
    for (const text of ['', 'a key', 'alias/', 'alias/a b', `arn:aws:kms:::key/${ID}`, 'x'.repeat(3000)]) {
      expect(isKeyName(text), text).toBe(false);
    }
  });

  it('say the Region where they have one', () => {
    expect(regionOf(arn('alias/root', 'us-east-1'))).toBe('us-east-1');
    expect(regionOf('alias/root')).toBeUndefined();
  });

  it('answer to an id, an ARN, and any alias', () => {
    const key = parseKeyArn(arn(`key/${ID}`))!;
    expect(answersTo(ID, key)).toBe(true);
    expect(answersTo(arn(`key/${ID}`), key)).toBe(true);
    expect(answersTo('alias/root', key)).toBe(true);
    expect(answersTo(arn('alias/root'), key)).toBe(true);
    expect(answersTo(MRK, key)).toBe(false);
    expect(answersTo(arn(`key/${ID}`, 'us-east-1'), key)).toBe(false);
  });

  it('are one multi-Region key in two Regions only with mrk- and one id, account and partition', () => {
    const here = arn(`key/${MRK}`);
    expect(isSameMultiRegionKey(here, arn(`key/${MRK}`, 'us-east-1'))).toBe(true);
    expect(isSameMultiRegionKey(arn(`key/${ID}`), arn(`key/${ID}`, 'us-east-1'))).toBe(false);
    expect(isSameMultiRegionKey(here, here.replace('111122223333', '444455556666'))).toBe(false);
    expect(isSameMultiRegionKey(here, here.replace('arn:aws:', 'arn:aws-cn:'))).toBe(false);
    expect(isSameMultiRegionKey(here, arn(`key/${MRK.replace('b', 'c')}`))).toBe(false);
    expect(isSameMultiRegionKey('', '')).toBe(false);
  });
});

describe('settings of an AWS KMS root', () => {
  const BASE: AwsKmsSettings = {
    key: ID,
    region: undefined,
    endpoint: undefined,
    fips: false,
    timeout: 3000,
    retries: 2,
    connections: 16,
    idleTimeout: 30_000,
  };

  function check(settings: Partial<AwsKmsSettings>) {
    return connectionSettings('aws', { ...BASE, ...settings });
  }

  it('refuse FIPS with an endpoint of their own, before anything is opened', () => {
    expect(() => check({ fips: true, endpoint: 'https://kms.example' })).toThrow(
      expect.objectContaining({ code: 'CONFIG', message: expect.stringContaining('fips') }),
    );
    expect(check({ fips: true }).fips).toBe(true);
  });

  it('refuse key material in clear on a network', () => {
    for (const endpoint of ['http://kms.example', 'http://127.0.0.1.example', 'ftp://127.0.0.1', 'kms']) {
      expect(() => check({ endpoint }), endpoint).toThrow(expect.objectContaining({ code: 'CONFIG' }));
    }
    for (const endpoint of ['https://kms.example', 'http://127.0.0.1:4566', 'http://localhost:1', 'http://[::1]:1']) {
      expect(check({ endpoint }).endpoint).toBe(endpoint);
    }
  });

  it('take the Region from an ARN, and refuse two that differ', () => {
    expect(check({ key: arn('alias/root', 'us-east-1') }).region).toBe('us-east-1');
    expect(check({ key: 'alias/root', region: 'us-east-1' }).region).toBe('us-east-1');
    expect(check({ key: 'alias/root' }).region).toBeUndefined();
    expect(() => check({ key: arn('alias/root', 'us-east-1'), region: 'eu-central-1' })).toThrow(
      /us-east-1.*eu-central-1/,
    );
  });

  it('refuse what is no name of a key', () => {
    expect(() => check({ key: 'my key' })).toThrow(expect.objectContaining({ code: 'CONFIG' }));
  });
});
