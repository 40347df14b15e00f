/** The commented sample file and the reference page, both made from the schema. */
import { stringify } from 'yaml';
import { textKindOf, variableName } from './environment.ts';
import { type SchemaNode, schemaTree } from './schema-walk.ts';

const WIDTH = 110;

const HEAD = `Configuration of dekd.

Every key is here. A key that stands as it is has its default; one behind a # is switched off, and its value is an example. The file is optional where variables say all that is needed: DEKD_ and the path of a key in capitals sets that key (limits.maxPayload is DEKD_LIMITS_MAX_PAYLOAD), with JSON for a list or a mapping of names (DEKD_ROUTES), and flags of the command line come before both. An unknown key is an error.

Sizes: B, KiB, MiB, GiB, TiB, PiB. Durations: ms, s, m, h, d.`;

/** The YAML language server then knows every key; `dekd config schema` prints the file. */
const EDITOR_LINE = '# yaml-language-server: $schema=./config.schema.json';

/** The sample: as it stands it says nothing but defaults; `dekd config sample` prints it. */
export function renderSample(): string {
  return [EDITOR_LINE, ...prose(HEAD, ''), '', ...renderKeys(schemaTree, '', false)]
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trimEnd()
    .concat('\n');
}

/** @param examples whether the keys are those of an example entry, which shows examples before defaults */
function renderKeys(keys: ReadonlyMap<string, SchemaNode>, indent: string, examples: boolean): string[] {
  return [...keys].flatMap(([name, node]) => [
    ...renderKey(name, node, indent, examples),
    ...(indent === '' ? [''] : []),
  ]);
}

function renderKey(name: string, node: SchemaNode, indent: string, examples: boolean): string[] {
  const comment = prose(commentOf(node, examples), indent);
  const below = `${indent}  `;
  const head = `${indent}${isOn(node) ? '' : '#'}${name}:`;
  if (node.doc.like !== undefined) {
    const { example } = node.doc;
    return [...comment, ...(node.shape === 'names' ? [head, `${below}#${example}`] : [`${head} ${example}`])];
  }
  switch (node.shape) {
    case 'leaf':
      return [...comment, `${head} ${shownYaml(node, examples)}`];
    case 'section': {
      const inner = renderKeys(node.children, below, examples);
      return [...comment, head, ...(node.doc.isForSome ? inner.map(switchedOff) : inner)];
    }
    case 'names': {
      const inner = renderKeys(node.children, `${below}  `, true);
      return [...comment, head, `${below}#${node.doc.example}:`, ...inner.map(switchedOff)];
    }
    case 'list': {
      const inner = renderKeys(node.children, `${below}  `, true).map(switchedOff);
      return [...comment, head, ...asListItem(inner, below)];
    }
  }
}

/** Puts the dash of a list before the first key; the comments of that key go above it. */
function asListItem(lines: readonly string[], indent: string): string[] {
  const first = lines.findIndex((line) => !line.trimStart().startsWith('# '));
  return [
    ...lines.slice(0, first).map((line) => `${indent}${line.trimStart()}`),
    `${indent}#- ${lines[first]!.trimStart().slice(1)}`,
    ...lines.slice(first + 1),
  ];
}

/** `  key: value` → `  #key: value`; comments stay, and what is off already. */
function switchedOff(line: string): string {
  return line.replace(/^( *)(?=[^ #])/, '$1#');
}

/** Whether a key stands in the sample with its default; a section does when one of its keys does. */
function isOn({ doc, shape, fallback, children }: SchemaNode): boolean {
  // A section whose keys are shown elsewhere has none here to be on.
  if (doc.like !== undefined || doc.isForSome) {
    return false;
  }
  return shape === 'leaf' ? fallback !== undefined : shape === 'section' && [...children.values()].some(isOn);
}

function shownYaml({ doc, fallback }: SchemaNode, examples: boolean): string {
  return fallback === undefined || (examples && doc.example !== undefined) ? doc.example! : inlineYaml(fallback);
}

function inlineYaml(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0, flowCollectionPadding: false }).trimEnd();
}

function commentOf({ doc, required, shape, fallback }: SchemaNode, examples: boolean): string {
  const parts = [doc.meaning];
  if (doc.like) {
    parts.push(`${shape === 'names' ? 'Each has the' : 'It has the'} keys of ${doc.like}.`);
  }
  if (shape === 'leaf') {
    parts.push(defaultSentence(doc.computed, required, fallback, examples && doc.example !== undefined));
  }
  if (doc.danger) {
    parts.push(`WARNING: ${doc.danger}`);
  }
  return parts.filter((part) => part !== '').join('\n');
}

function defaultSentence(
  computed: string | undefined,
  required: boolean,
  fallback: unknown,
  exampled: boolean,
): string {
  if (computed) {
    return `Default: ${computed}.`;
  }
  if (required) {
    return 'Required.';
  }
  if (fallback === undefined) {
    return 'Default: none.';
  }
  return exampled ? `Default: ${inlineYaml(fallback)}.` : '';
}

/** Comment lines of at most WIDTH characters; an empty paragraph is an empty comment. */
function prose(paragraphs: string, indent: string): string[] {
  return paragraphs.split('\n').flatMap((paragraph) => {
    const lines = [''];
    for (const word of paragraph.split(' ')) {
      const line = lines.at(-1)!;
      if (line !== '' && indent.length + 3 + line.length + word.length > WIDTH) {
        lines.push(word);
      } else {
        lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
      }
    }
    return lines.map((line) => `${indent}# ${line}`.trimEnd());
  });
}

/** docs/configuration.md: a table of every key, its variable, default, values, meaning and danger. */
export function renderReference(): string {
  const lines = [
    '# Configuration',
    '',
    'One YAML file (`--config`, else `DEKD_CONFIG`, else `/etc/dekd/config.yaml`), then variables, then flags, each over the',
    'one before. `dekd config sample` prints the file with every key and its default; `dekd config check` says all that is',
    'wrong with one, by line. An unknown key is an error with a suggestion.',
    '',
    '- Sizes are written `64KiB`, `1MiB`; durations `500ms`, `10s`, `5m`, `1h`, `90d`.',
    '- A variable is `DEKD_` and the path of its key in capitals. `DEKD_SOCKET` is short for `DEKD_SOCKET_PATH`.',
    '  What is a list, or a mapping of names, is one variable with JSON in it, which replaces that of the file:',
    '  `DEKD_ROUTES=[{"tenant":"eu-*","keystore":"eu"},{}]`. A variable for one key of an entry counts over that.',
    '  A variable that is nearly the name of a key is an error; any other unknown one is reported and ignored.',
    '- `ENCRYPTION_PROVIDER` adds a root, named after its provider, when the file has none: `local`, `aws-kms` or',
    '  `kms-encryption`, `kms` (`aws-kms` in direct mode), `vault` or `vault-transit`, `pkcs11`. It then takes the variables that',
    '  people have for these: `AWS_KMS_KEY_ID` or `KMS_KEY_ID` (Region and credentials are for the SDK to find), `VAULT_ADDR`,',
    '  `VAULT_NAMESPACE`, `VAULT_CACERT`, `VAULT_TLS_SERVER_NAME`, `VAULT_TOKEN`, `VAULT_ROLE_ID` with `VAULT_SECRET_ID`,',
    '  `VAULT_TRANSIT_MOUNT`, `VAULT_TRANSIT_KEY`, `PKCS11_MODULE`, `PKCS11_TOKEN_LABEL` or `PKCS11_SLOT`,',
    '  `PKCS11_KEY_LABEL`, `PKCS11_PIN_FILE`. Where the file has roots, it is ignored with a warning.',
    '  Each key of such a root can also be set as any other: `DEKD_ROOTS_LOCAL_KEY_FILE`.',
    '- Key material in a variable is refused: a variable is inherited by child processes and kept in manifests. Put it in a',
    '  file of mode 0600, or hand it over as a descriptor.',
    '- `dekd config explain KEY [PARTITION]` shows what a configuration means for one key, without an agent.',
    '- `dekd dev` takes no file: it may do everything, for its own user, and variables apply. It alone takes `legacy.keys` from',
    '  variables that applications have: `CONNECTOR_CRED_KEY`, the base64 of the key `v1`, or `CONNECTOR_CRED_KEYS`, a JSON object of',
    '  kids and keys, with `CONNECTOR_CRED_ACTIVE_KID`.',
    '',
    'This page is made from `src/config/schema.ts`; a test keeps the two equal.',
    '',
  ];
  const visit = (keys: ReadonlyMap<string, SchemaNode>, path: readonly string[], settable: boolean): void => {
    for (const [name, node] of keys) {
      const step = [...path, node.shape === 'list' ? `${name}[]` : name];
      const below = node.shape === 'names' ? [...step, 'NAME'] : step;
      const hasVariable = settable && textKindOf(node) !== undefined;
      const variable = hasVariable ? `<br>\`${variableName([...path, name])}\`` : '';
      if (node.doc.like !== undefined) {
        lines.push(row([`\`${below.join('.')}.*\`${variable}`, '', `as \`${node.doc.like}.*\``, node.doc.meaning]));
      } else if (node.shape === 'leaf') {
        lines.push(referenceRow(step, node, variable));
      } else {
        lines.push(row([`**\`${below.join('.')}\`**${variable}`, '', '', meaningOf(node)]));
        visit(node.children, below, settable && node.shape !== 'list');
      }
    }
  };
  lines.push('| key | default | values | meaning |', '|---|---|---|---|');
  visit(schemaTree, [], true);
  return `${lines.join('\n')}\n`;
}

function referenceRow(path: readonly string[], node: SchemaNode, variable: string): string {
  const { doc, required, fallback } = node;
  const reader = doc.reader!;
  const shownDefault =
    doc.computed ?? (required ? 'required' : fallback === undefined ? 'none' : `\`${inlineYaml(fallback)}\``);
  return row([`\`${path.join('.')}\`${variable}`, shownDefault, reader.expected, meaningOf(node)]);
}

function meaningOf({ doc }: SchemaNode): string {
  return `${doc.meaning}${doc.danger ? ` **Danger:** ${doc.danger}` : ''}`;
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}
