import { describe, expect, it } from 'vitest';
import { Schedule } from '../../src/keyring/schedule.ts';

const at = (text: string): number => Date.parse(`${text}Z`);

describe('Schedule', () => {
  it.each([
    ['0 3 * * *', '2026-05-20T02:59:59.999', '2026-05-19T03:00'],
    ['0 3 * * *', '2026-05-20T03:00', '2026-05-20T03:00'],
    ['0 3 1 * *', '2026-05-20T12:00', '2026-05-01T03:00'],
    ['0 0 1 1 *', '2026-05-20T12:00', '2026-01-01T00:00'],
    ['30 6 1 1,7 *', '2026-05-20T12:00', '2026-01-01T06:30'],
    ['*/15 * * * *', '2026-05-20T12:44', '2026-05-20T12:30'],
    ['5/20 * * * *', '2026-05-20T12:44', '2026-05-20T12:25'],
    ['0 9-17/4 * * *', '2026-05-20T16:00', '2026-05-20T13:00'],
    ['0 0 * * 0', '2026-05-20T12:00', '2026-05-17T00:00'],
    ['0 0 * * 7', '2026-05-20T12:00', '2026-05-17T00:00'],
    ['0 0 * * 1-5', '2026-05-17T12:00', '2026-05-15T00:00'],
    ['0 0 29 2 *', '2026-05-20T12:00', '2024-02-29T00:00'],
    ['0 0 29 2 *', '2104-02-28T12:00', '2096-02-29T00:00'],
    ['0 0 31 * *', '2026-05-20T12:00', '2026-03-31T00:00'],
    // Both days restricted: either will do.
    ['0 0 1 * 1', '2026-05-20T12:00', '2026-05-18T00:00'],
    ['0 0 19 * 1', '2026-05-20T12:00', '2026-05-19T00:00'],
    // A day of the month with a star, whatever its step, restricts by itself.
    ['0 0 */10 * 1', '2026-05-20T12:00', '2026-05-11T00:00'],
  ])('%s at %s was last due at %s', (expression, now, expected) => {
    expect(new Date(new Schedule(expression).last(at(now))).toISOString()).toBe(new Date(at(expected)).toISOString());
  });

  it('finds a later time once it has come', () => {
    const schedule = new Schedule('0 * * * *');
    const now = at('2026-05-20T11:59:59');
    expect(schedule.last(now)).toBe(at('2026-05-20T11:00'));
    expect(schedule.last(now + 1_000)).toBe(at('2026-05-20T12:00'));
  });

  it('agrees with a search minute by minute', () => {
    const schedule = new Schedule('7,40 1-23/3 2-28/5 * 1,3');
    const now = at('2026-03-03T00:00');
    for (let minute = 0; minute < 60 * 24 * 20; minute += 37) {
      const time = now + minute * 60_000;
      let expected = time;
      while (!isNamed(new Date(expected))) {
        expected -= 60_000;
      }
      expect(schedule.last(time)).toBe(expected);
    }

    function isNamed(date: Date): boolean {
      const isDay = [2, 7, 12, 17, 22, 27].includes(date.getUTCDate()) || [1, 3].includes(date.getUTCDay());
      return (
        [7, 40].includes(date.getUTCMinutes()) && [1, 4, 7, 10, 13, 16, 19, 22].includes(date.getUTCHours()) && isDay
      );
    }
  });

  it.each([
    ['0 3 * *', /5 fields/],
    ['60 3 * * *', /minute "60"/],
    ['0 24 * * *', /hour "24"/],
    ['0 0 0 * *', /day of month "0"/],
    ['0 0 * 13 *', /month "13"/],
    ['0 0 * * 8', /day of week "8"/],
    ['5-1 0 * * *', /minute "5-1"/],
    ['*/0 0 * * *', /minute "\*\/0"/],
    ['0 0 * * mon', /day of week "mon"/],
    ['1,,2 0 * * *', /minute ""/],
    ['0 0 31 2,4 *', /names no time/],
  ])('refuses %s', (expression, expected) => {
    expect(() => new Schedule(expression)).toThrow(expected);
  });
});
