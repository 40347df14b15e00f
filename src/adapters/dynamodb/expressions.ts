/** Expressions of DynamoDB, as far as it takes to see which attributes they name. */
import { DekdError } from '../../errors.ts';

export type Names = Readonly<Record<string, string>> | undefined;

const TOKEN = /\s*([#:]?[^\s#:.,()[\]=<>+-]+|<>|<=|>=|[.,()[\]=<>+-])/gy;
const KEYWORDS = /^(AND|OR|NOT|BETWEEN|IN)$/i;
/** All that can be asked of a ciphertext: whether it is there. */
const PRESENCE = /^attribute_(not_)?exists$/i;

function tokensOf(expression: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  const text = expression.trimEnd();
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text);
    if (match === null) {
      throw new DekdError('INVALID_ARGUMENT', 'an expression for a table with encrypted attributes cannot be read');
    }
    tokens.push(match[1]!);
  }
  return tokens;
}

function nameOf(token: string, names: Names): string {
  return token.startsWith('#') ? (names?.[token] ?? token) : token;
}

function isName(token: string | undefined): token is string {
  return token !== undefined && !/^[:.,()[\]=<>+-]/.test(token) && !/^\d+$/.test(token);
}

/** Attributes that an expression names; those of which it asks only whether they are there are left out. */
export function namedBy(expression: string, names: Names): Set<string> {
  const tokens = tokensOf(expression);
  const found = new Set<string>();
  tokens.forEach((token, at) => {
    const isFunction = tokens[at + 1] === '(';
    if (!isName(token) || tokens[at - 1] === '.' || isFunction || KEYWORDS.test(token)) {
      return;
    }
    const asksPresence = tokens[at - 1] === '(' && PRESENCE.test(tokens[at - 2] ?? '') && tokens[at + 1] === ')';
    if (!asksPresence) {
      found.add(nameOf(token, names));
    }
  });
  return found;
}

/** What a projection lets through: whole attributes, and those of which only a part. */
export function projectedBy(expression: string, names: Names): { whole: Set<string>; parts: Set<string> } {
  const whole = new Set<string>();
  const parts = new Set<string>();
  const tokens = tokensOf(expression);
  tokens.forEach((token, at) => {
    if (isName(token) && tokens[at - 1] !== '.') {
      (tokens[at + 1] === '.' || tokens[at + 1] === '[' ? parts : whole).add(nameOf(token, names));
    }
  });
  return { whole, parts };
}

/** One action of an update: `SET target = …`, `REMOVE target`, `ADD target …`. */
export interface Action {
  readonly section: string;
  /** Tokens of the action. */
  readonly tokens: readonly string[];
  /** The attribute that it changes. */
  readonly target: string;
  /** The placeholder of the value when it is `SET target = :value` and nothing else. */
  readonly value: string | undefined;
  /** Attributes beside the target that it reads, or the target itself where it reads or changes a part of that. */
  readonly reads: ReadonlySet<string>;
}

const SECTION = /^(SET|REMOVE|ADD|DELETE)$/i;

export function actionsOf(expression: string, names: Names): Action[] {
  const actions: Action[] = [];
  let section = '';
  let tokens: string[] = [];
  let depth = 0;
  const end = () => {
    if (tokens.length > 0) {
      actions.push(actionOf(section, tokens, names));
    }
    tokens = [];
  };
  for (const token of tokensOf(expression)) {
    if (depth === 0 && SECTION.test(token)) {
      end();
      section = token.toUpperCase();
    } else if (depth === 0 && token === ',') {
      end();
    } else {
      depth += token === '(' ? 1 : token === ')' ? -1 : 0;
      tokens.push(token);
    }
  }
  end();
  return actions;
}

function actionOf(section: string, tokens: readonly string[], names: Names): Action {
  const target = nameOf(tokens[0]!, names);
  const isPlain = section === 'SET' && tokens.length === 3 && tokens[1] === '=' && tokens[2]!.startsWith(':');
  const reads = new Set<string>();
  tokens.forEach((token, at) => {
    if (at > 0 && isName(token) && tokens[at - 1] !== '.' && tokens[at + 1] !== '(') {
      reads.add(nameOf(token, names));
    }
  });
  if (section === 'SET' ? tokens[1] !== '=' : section !== 'REMOVE' || tokens.length > 1) {
    reads.add(target);
  }
  return { section, tokens, target, value: isPlain ? tokens[2] : undefined, reads };
}

/** The expression that actions make. */
export function expressionOf(actions: readonly Pick<Action, 'section' | 'tokens'>[]): string {
  return ['SET', 'REMOVE', 'ADD', 'DELETE']
    .flatMap((section) => {
      const some = actions.filter((action) => action.section === section);
      return some.length === 0 ? [] : `${section} ${some.map(({ tokens }) => spelled(tokens)).join(', ')}`;
    })
    .join(' ');
}

/** Spaces everywhere but around what belongs to a path. */
function spelled(tokens: readonly string[]): string {
  return tokens
    .join(' ')
    .replace(/ ?([.[]) ?/g, '$1')
    .replace(/ \]/g, ']');
}
