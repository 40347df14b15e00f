import { DekdError } from '../errors.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** The longest time between two 29ths of February: 1896 to 1904. */
const LONGEST_GAP_DAYS = 8 * 366;

interface Field {
  readonly name: string;
  readonly first: number;
  readonly last: number;
}

const FIELDS: readonly Field[] = [
  { name: 'minute', first: 0, last: 59 },
  { name: 'hour', first: 0, last: 23 },
  { name: 'day of month', first: 1, last: 31 },
  { name: 'month', first: 1, last: 12 },
  // Sunday is 0, and as in every cron also 7.
  { name: 'day of week', first: 0, last: 7 },
];

/**
 * Times as a cron expression of five fields says them, in UTC: numbers, lists, ranges and steps. When both days are
 * restricted, either will do, as crontab(5) has it.
 */
export class Schedule {
  readonly #minutes: readonly number[];
  readonly #hours: readonly number[];
  readonly #isDay: (day: Date) => boolean;
  #known = { minute: Number.NaN, last: 0 };

  /** @throws INVALID_ARGUMENT when it is no such expression, or names no time at all. */
  constructor(expression: string) {
    const fields = expression.split(' ');
    if (fields.length !== FIELDS.length) {
      throw new DekdError('INVALID_ARGUMENT', `schedule "${expression}" must have ${FIELDS.length} fields`);
    }
    const [minutes, hours, days, months, weekdays] = fields.map((text, index) => parseField(text, FIELDS[index]!));
    const anyDay = fields[2]!.startsWith('*');
    const anyWeekday = fields[4]!.startsWith('*');
    this.#minutes = [...minutes!].sort((a, b) => b - a);
    this.#hours = [...hours!].sort((a, b) => b - a);
    this.#isDay = (day) => {
      const isInMonth = days!.has(day.getUTCDate());
      const isInWeek = weekdays!.has(day.getUTCDay()) || (day.getUTCDay() === 0 && weekdays!.has(7));
      return (
        months!.has(day.getUTCMonth() + 1) && (anyDay || anyWeekday ? isInMonth && isInWeek : isInMonth || isInWeek)
      );
    };
    if (this.#search(Date.UTC(2104, 11, 31)) === undefined) {
      throw new DekdError('INVALID_ARGUMENT', `schedule "${expression}" names no time`);
    }
  }

  /** The last time that it names up to `now`; milliseconds since the epoch. Asked for every key: remembered for a minute. */
  last(now: number): number {
    const minute = Math.floor(now / MINUTE_MS);
    if (this.#known.minute !== minute) {
      this.#known = { minute, last: this.#search(now)! };
    }
    return this.#known.last;
  }

  #search(now: number): number | undefined {
    const today = Math.floor(now / DAY_MS) * DAY_MS;
    for (let back = 0; back <= LONGEST_GAP_DAYS; back++) {
      const day = today - back * DAY_MS;
      if (this.#isDay(new Date(day))) {
        const time = this.#lastOn(day, now);
        if (time !== undefined) {
          return time;
        }
      }
    }
    return undefined;
  }

  #lastOn(day: number, now: number): number | undefined {
    for (const hour of this.#hours) {
      for (const minute of this.#minutes) {
        const time = day + (hour * 60 + minute) * MINUTE_MS;
        if (time <= now) {
          return time;
        }
      }
    }
    return undefined;
  }
}

function parseField(text: string, field: Field): Set<number> {
  const values = new Set<number>();
  for (const item of text.split(',')) {
    const match = /^(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:\/(\d{1,2}))?$/.exec(item);
    const step = Number(match?.[3] ?? 1);
    const first = Number(match?.[1] ?? field.first);
    // `5/10` is from 5 on; `5` alone is 5.
    const isOne = match?.[1] !== undefined && match[3] === undefined;
    const last = Number(match?.[2] ?? (isOne ? first : field.last));
    if (match === null || step < 1 || first < field.first || last > field.last || first > last) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `schedule: ${field.name} "${item}" must be of ${field.first} to ${field.last}, as 5, 1-5, */10 or a list of these`,
      );
    }
    for (let value = first; value <= last; value += step) {
      values.add(value);
    }
  }
  return values;
}
