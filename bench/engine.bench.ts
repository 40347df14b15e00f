/** Sealing and opening by the three engines, beside node:crypto in the application's own process. */
import { randomBytes } from 'node:crypto';
import type { Engine } from '../src/crypto/engine.ts';
import { type Group, repeat, SIZES, type Size, type Subject } from './support/group.ts';
import { InProcess } from './support/in-process.ts';
import { copying, PlainBatch } from './support/plain-batch.ts';
import { openEngine, Sealer } from './support/sealer.ts';

const ENGINES = ['native', 'node', 'noble'] as const;
/** Values in a batch: as many as make about this many bytes, and never more than this many. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_ITEMS = 1_000;

function single(operation: 'seal' | 'open', size: Size): Group {
  return {
    name: `${operation} ${size.name}`,
    baseline: `${operation}/in-process/${size.name}`,
    async open() {
      const data = randomBytes(size.bytes);
      const engines = await openEngines();
      const subjects = engines.map((engine): Subject => {
        const sealer = new Sealer(engine, data);
        const work = operation === 'seal' ? repeat(() => sealer.seal()) : repeat(() => sealer.open());
        return { name: `${operation}/${engine.info.name}/${size.name}`, bytes: size.bytes, work };
      });
      if (operation === 'seal') {
        const plain = new PlainBatch(data, 1);
        subjects.push(
          { name: `seal/plain-c++/${size.name}`, bytes: size.bytes, work: (count) => plain.seal(count) },
          { name: `copy/memcpy/${size.name}`, bytes: size.bytes, work: copying(data) },
        );
      }
      for (const raw of [false, true]) {
        const application = new InProcess({ raw });
        application.check(data);
        const { sealed } = application;
        const work =
          operation === 'seal' ? repeat(() => application.seal(data)) : repeat(() => void application.open(sealed));
        subjects.push({
          name: `${operation}/in-process${raw ? '-raw-key' : ''}/${size.name}`,
          bytes: size.bytes,
          work,
        });
      }
      return { subjects, close: () => closeAll(engines) };
    },
  };
}

function batch(size: Size): Group {
  const items = Math.max(1, Math.min(BATCH_ITEMS, Math.floor(BATCH_BYTES / size.bytes)));
  const label = `${items}×${size.name}`;
  return {
    name: `batch ${label}`,
    baseline: `seal-batch/in-process/${label}`,
    async open() {
      const data = randomBytes(size.bytes);
      const engines = await openEngines();
      const subjects: Subject[] = [];
      for (const engine of engines) {
        const sealer = new Sealer(engine, data, items);
        const { name } = engine.info;
        subjects.push(
          { name: `seal-batch/${name}/${label}`, bytes: size.bytes, items, work: repeat(() => sealer.sealMany()) },
          { name: `open-batch/${name}/${label}`, bytes: size.bytes, items, work: repeat(() => sealer.openMany()) },
        );
      }
      const plain = new PlainBatch(data, items);
      subjects.push({
        name: `seal-batch/plain-c++/${label}`,
        bytes: size.bytes,
        items,
        work: (count) => plain.seal(count),
      });
      const application = new InProcess();
      application.check(data);
      const work = (count: number): void => {
        for (let i = count * items; i > 0; i--) {
          application.seal(data);
        }
      };
      subjects.push({ name: `seal-batch/in-process/${label}`, bytes: size.bytes, items, work });
      return { subjects, close: () => closeAll(engines) };
    },
  };
}

/** The engines that this machine has: the native one needs the addon. */
async function openEngines(): Promise<Engine[]> {
  const opened = await Promise.allSettled(ENGINES.map(openEngine));
  return opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}

function closeAll(engines: readonly Engine[]): void {
  for (const engine of engines) {
    engine.close();
  }
}

export const groups: readonly Group[] = [
  ...SIZES.map((size) => single('seal', size)),
  ...SIZES.map((size) => single('open', size)),
  ...SIZES.filter(({ bytes }) => bytes <= 64 * 1024).map(batch),
];
