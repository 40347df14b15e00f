/** Much at a time: streams from memory to nowhere, and files to the disk. */
import { figure } from '../bars/bar.ts';
import { groups as files } from '../file.bench.ts';
import { groups as streams } from '../stream.bench.ts';
import { chart } from '../support/chart.ts';
import type { Group } from '../support/group.ts';
import { missingTools } from '../support/tools.ts';
import { matrix, rates, ratios, variantOf } from './by-size.ts';
import type { Chapter } from './chapter.ts';
import { measured } from './measured.ts';

const STREAMS = `64 MiB from memory to nowhere, in pieces of 256 KiB. The measure is \`createCipheriv('aes-256-gcm')\` with a
KeyObject in the same kind of pipeline, in process. \`seal/stream\` is \`encryptStream\` of the client, over the socket;
\`seal-and-open/stream\` has \`decryptStream\` behind it. \`stock-aws-sdk\` is \`@aws-crypto/client-node\` with a raw AES key, which
writes the same format. \`age\` and \`openssl\` are processes that read a file and write to /dev/null, with their start;
\`openssl enc\` has no authenticated mode, so it does less. Limits: the engine without a socket, and two C++ processes that
pass as many bytes there and back.`;

const FILES = `256 MiB from a file, which is in the page cache, to a new file on the disk, with fsync. The measure is the limit:
\`dd bs=1M conv=fsync\`, which encrypts nothing. \`dekd encryptFile\` also renames the file into its place. The others are synced
with \`sync FILE\` or \`fsync\`.`;

function chapterOf(name: string, title: string, says: string, groups: readonly Group[], by: string): Chapter {
  return {
    name,
    title,
    async measure(pace) {
      const rows = await measured(groups, pace);
      const missing = missingTools().map((notice) => `\n- ${notice}`);
      return {
        says: `${says}${missing.length === 0 ? '' : `\n${missing.join('')}`}`,
        tables: [
          ratios(`Bytes a second, by those of ${by}`, rows),
          rates('MiB of plaintext a second', rows),
          matrix('Milliseconds', rows, ({ rate }) => figure(1_000 / rate)),
        ],
        charts: [
          {
            name: 'ratios',
            alt: `Bytes a second by those of ${by.replaceAll('`', '')}: ${[...new Set(rows.map(variantOf))].join(', ')}`,
            svg: chart(`Bytes a second, by those of ${by.replaceAll('`', '')}`, rows),
          },
        ],
      };
    },
  };
}

export const chapters: readonly Chapter[] = [
  chapterOf('streams', 'Streams', STREAMS, streams, '`node:crypto` in process'),
  chapterOf('files', 'Files', FILES, files, '`dd`'),
];
