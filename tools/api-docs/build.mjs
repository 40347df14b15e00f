// Makes docs/api, the reference of the public entries, of the docstrings in src/.
//
//   node tools/api-docs/build.mjs [OUTPUT]
//
// One page an entry of package.json. Ends with exit code 1 when typedoc warns: of a link that leads nowhere, of a type that an entry
// shows and does not export.
import { readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, LogLevel } from 'typedoc';

const root = fileURLToPath(new URL('../..', import.meta.url));
const output = resolve(process.argv[2] ?? join(root, 'docs/api'));
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The main entry last: it shows again what `client` shows, beside what adapters are written against. */
const entryPoints = Object.entries(exports)
  .toSorted(([a], [b]) => Number(a === '.') - Number(b === '.'))
  .flatMap(([, { types }]) => types ?? [])
  .map((types) => join(root, types.replace('./dist/', 'src/').replace(/\.d\.ts$/, '.ts')));

const app = await Application.bootstrapWithPlugins({
  entryPoints,
  tsconfig: join(root, 'tsconfig.json'),
  plugin: ['typedoc-plugin-markdown'],
  basePath: join(root, 'src'),
  name: 'dekd',
  readme: 'none',
  // Types are checked by the compiler of the repository.
  skipErrorChecking: true,
  excludeInternal: true,
  excludePrivate: true,
  excludeExternals: true,
  disableSources: true,
  sort: ['source-order'],
  sortEntryPoints: false,
  outputs: [{ name: 'markdown', path: output }],
  intentionallyNotExported: [
    // Of Node or of the DOM, declared only for projects that have the types of neither.
    '__global.ReadableStream',
    '__global.WritableStream',
    // Steps of types that are reckoned with, which say nothing by themselves.
    ...['IsAny', 'MemberPath', 'Walked', 'Sealed', 'ForeignPath', 'CodecOf', 'FieldsBasis'].map(
      (name) => `src/client/fields/types.ts:${name}`,
    ),
    ...['Encryptable', 'Scalars'].map((name) => `src/adapters/prisma.ts:${name}`),
    'src/adapters/kysely.ts:Stored',
    'src/adapters/table.ts:Name',
    'src/service/encryption-service.ts:Row',
    'src/service/hashes.ts:DIGESTS',
  ],
  validation: { invalidLink: true, notExported: true, notDocumented: false, rewrittenLink: true },
  treatWarningsAsErrors: true,
  logLevel: LogLevel.Warn,
  outputFileStrategy: 'modules',
  hidePageHeader: true,
  hideBreadcrumbs: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  useCodeBlocks: true,
});
const project = await app.convert();
if (project !== undefined) {
  app.validate(project);
  rmSync(output, { recursive: true, force: true });
  await app.generateOutputs(project);
}
process.exitCode = project === undefined || app.logger.hasErrors() || app.logger.hasWarnings() ? 1 : 0;
