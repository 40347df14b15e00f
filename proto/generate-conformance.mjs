// Writes proto/conformance/vectors from our own code; with --check, fails when the committed vectors differ.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { encodeContext } from '../src/envelope/context.ts';
import { decodeTokenText, encodeTokenText } from '../src/envelope/token-text.ts';
import { ERROR_CODES } from '../src/errors.ts';
import { messages } from '../src/protocol/messages.ts';

const folder = new URL('conformance/vectors/', import.meta.url);
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const repeat = (text, times) => ({ $repeat: [text, times] });

const TOKEN = hex(Buffer.concat([Buffer.from([0xc1, 1]), Buffer.alloc(56, 0xab), Buffer.from('ciphertext')]));
const KEY = { key: 'customers', partition: 'acme' };
const PLAIN = hex(Buffer.from('plaintext'));
const ok = { value: TOKEN };

/** A call of one value with an agent that answers once. */
function single(name, call, expect, reply, result, more = {}) {
  return {
    name,
    ...more,
    calls: [call],
    agent: [{ steps: [{ expect, send: [{ reply }] }] }],
    results: [result],
  };
}

/** A call that must fail before anything is sent. */
function refused(name, call, code = 'INVALID_ARGUMENT') {
  return { name, calls: [call], agent: [{}], results: [{ code }] };
}

function contextCases() {
  const written = {
    'one pair': { field: 'pan' },
    'names in another order than they are to be': { row: '4711', field: 'pan', FIELD: 'x', a: '' },
    'a name that is the beginning of another': { 'a-': '1', a: '2', ab: '3', 'a b': '4' },
    'names that sort by their bytes, not by UTF-16': { '\u{ff61}': '1', '\u{10000}': '2', ä: '3', z: '4' },
    'empty name and empty value': { '': '' },
    'names that objects have of themselves': JSON.parse('{"__proto__":"1","constructor":"2","toString":"3"}'),
    'values of any text': { v: 'Zoë\u0000\n\u{1f600}', w: 'e\u0301', x: '\u00e9' },
    'many pairs': Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`name-${(i * 7919) % 300}`, `${i}`])),
    'digits as names, which some languages sort as numbers': { 10: 'a', 9: 'b', '09': 'c', 1: 'd' },
  };
  const cases = Object.entries(written).map(([name, context]) =>
    single(
      name,
      { op: 'encrypt', data: PLAIN, ...KEY, context },
      { encrypt: { ...KEY, context: hex(encodeContext(context)), data: PLAIN } },
      ok,
      { value: TOKEN },
    ),
  );
  for (const [name, call] of Object.entries({
    'an empty context is no bytes': { context: {} },
    'and so is none': {},
  })) {
    cases.push(
      single(name, { op: 'encrypt', data: PLAIN, ...KEY, ...call }, { encrypt: { ...KEY, data: PLAIN } }, ok, {
        value: TOKEN,
      }),
    );
  }
  const longest = hex(encodeContext({ a: 'x'.repeat(65_528) }).subarray(0, 7));
  cases.push(
    single(
      'as long as a context may be',
      { op: 'encrypt', data: PLAIN, ...KEY, context: { a: repeat('x', 65_528) } },
      { encrypt: { ...KEY, context: repeat('', 0), data: PLAIN } },
      ok,
      { value: TOKEN },
    ),
  );
  // The head of it as it is written, and then the text.
  cases.at(-1).agent[0].steps[0].expect.encrypt.context = { $join: [longest, repeat('78', 65_528)] };
  const wrong = {
    'a number': { n: 1 },
    'a boolean': { n: true },
    null: { n: null },
    'a list': { n: ['a'] },
    'an object': { n: { a: 'b' } },
    'half of a surrogate pair as a value': { n: '\ud800' },
    'half of a surrogate pair as a name': { '\udc00': 'x' },
    'a name of the message format': { 'aws-crypto-public-key': 'x' },
    'one byte more than a context may have': { a: repeat('x', 65_529) },
  };
  for (const [name, context] of Object.entries(wrong)) {
    cases.push(refused(`refused: ${name}`, { op: 'encrypt', data: PLAIN, ...KEY, context }));
  }
  return cases;
}

function textCases() {
  const token = Buffer.from(TOKEN, 'hex');
  const cases = [];
  for (const length of [58, 59, 60, 61]) {
    const bytes = Buffer.concat([token, token]).subarray(0, length);
    const text = encodeTokenText(bytes);
    cases.push(
      single(
        `${length} bytes as text`,
        { op: 'encryptText', text: 'Zoë', ...KEY },
        { encrypt: { ...KEY, data: hex(Buffer.from('Zoë')) } },
        { value: hex(bytes) },
        { value: text },
      ),
      single(
        `${length} bytes from text`,
        { op: 'decryptText', text, ...KEY },
        { decrypt: { ...KEY, data: hex(bytes) } },
        { value: hex(Buffer.from('Zoë')) },
        { value: 'Zoë' },
      ),
    );
  }
  cases.push(
    single('an empty text', { op: 'encryptText', text: '', ...KEY }, { encrypt: { ...KEY } }, ok, {
      value: encodeTokenText(token),
    }),
    single(
      'a byte order mark is a part of the text',
      { op: 'decryptText', text: encodeTokenText(token), ...KEY },
      { decrypt: { ...KEY, data: TOKEN } },
      { value: 'efbbbf61' },
      { value: '\ufeffa' },
    ),
    single(
      'a plaintext that is no text',
      { op: 'decryptText', text: encodeTokenText(token), ...KEY },
      { decrypt: { ...KEY, data: TOKEN } },
      { value: 'ff' },
      { code: 'INVALID_ARGUMENT' },
    ),
    refused('a text that UTF-8 cannot carry', { op: 'encryptText', text: 'a\ud800b', ...KEY }),
  );
  const good = encodeTokenText(token.subarray(0, 59));
  const wrong = {
    'another beginning': good.replace('dk1.', 'dk2.'),
    'a beginning in other letters': good.replace('dk1.', 'DK1.'),
    'no beginning': good.slice(4),
    padding: `${good}=`,
    'a line feed at the end': `${good}\n`,
    'a space in front': ` ${good}`,
    'a space inside': `${good.slice(0, 20)} ${good.slice(20)}`,
    'the other alphabet': `dk1.${Buffer.alloc(60, 0xff).toString('base64')}`,
    'bits that are left over': `${good.slice(0, -1)}${String.fromCharCode(good.charCodeAt(good.length - 1) + 1)}`,
    'one character too many': `${encodeTokenText(token.subarray(0, 60))}A`,
    'a character of no alphabet': `${good.slice(0, 30)}!${good.slice(31)}`,
    'a zero character': `${good}\u0000`,
    'other digits': `${good.slice(0, -1)}\u0661`,
    nothing: '',
  };
  for (const [name, text] of Object.entries(wrong)) {
    let code;
    try {
      decodeTokenText(text);
    } catch (error) {
      code = error.code;
    }
    cases.push(refused(`refused: ${name}`, { op: 'decryptText', text, ...KEY }, code));
  }
  return cases;
}

function callCases() {
  const document = {
    key: 'customers',
    partition: 'acme',
    algorithm: 'xaes-256-gcm',
    requiredContext: [],
    versions: [],
  };
  const json = (value) => hex(Buffer.from(JSON.stringify(value)));
  const context = { field: 'pan' };
  const bytes = hex(encodeContext(context));
  const mine = { ...KEY, context: bytes };
  const many = (data) => [{ data: data ?? PLAIN }, { data: '', key: 'other', partition: '', context }];
  const items = [{ data: PLAIN }, { key: 'other', partition: '', context: bytes }];
  return [
    single('encrypt', { op: 'encrypt', data: PLAIN, ...KEY, context }, { encrypt: { ...mine, data: PLAIN } }, ok, {
      value: TOKEN,
    }),
    single('nothing to encrypt', { op: 'encrypt', data: '', key: 'k' }, { encrypt: { key: 'k' } }, ok, {
      value: TOKEN,
    }),
    single(
      'decrypt',
      { op: 'decrypt', token: TOKEN, ...KEY, context },
      { decrypt: { ...mine, data: TOKEN } },
      { value: PLAIN },
      {
        value: PLAIN,
      },
    ),
    single(
      'an empty plaintext',
      { op: 'decrypt', token: TOKEN, key: 'k' },
      { decrypt: { key: 'k', data: TOKEN } },
      { value: '' },
      {
        value: '',
      },
    ),
    single(
      'decrypt with any key',
      { op: 'decrypt', token: TOKEN, anyKey: true, context },
      { decrypt: { context: bytes, anyKey: true, data: TOKEN } },
      { value: PLAIN },
      { value: PLAIN },
    ),
    single(
      'names outside of ASCII',
      { op: 'encrypt', data: PLAIN, key: 'Schlüssel', partition: '\u{1f511}' },
      { encrypt: { key: 'Schlüssel', partition: '\u{1f511}', data: PLAIN } },
      ok,
      { value: TOKEN },
    ),
    single('reencrypt', { op: 'reencrypt', token: TOKEN, ...KEY }, { reencrypt: { ...KEY, data: TOKEN } }, ok, {
      value: TOKEN,
    }),
    single('keyInfo', { op: 'keyInfo', ...KEY }, { keyInfo: KEY }, { document: json(document) }, { value: document }),
    single(
      'ping',
      { op: 'ping' },
      { ping: {} },
      { document: json({ agent: 'dekd/1', protocol: 1 }) },
      {
        has: { agent: 'dekd/1', protocol: 1 },
      },
    ),
    single(
      'many, where an item says what it differs in',
      { op: 'encryptMany', items: many(), ...KEY },
      { encryptMany: { ...KEY, items } },
      {
        many: {
          values: [TOKEN, 'c1'],
          errors: [{ index: 1, error: { code: 3, message: 'not allowed', incident: 'i-7' } }],
        },
      },
      { results: [{ value: TOKEN }, { code: 'PERMISSION_DENIED', retryable: false, incident: 'i-7' }] },
    ),
    single(
      'many to decrypt',
      { op: 'decryptMany', items: many(TOKEN), ...KEY },
      { decryptMany: { ...KEY, items: [{ data: TOKEN }, items[1]] } },
      { many: { values: [PLAIN, ''], errors: [{ index: 1, error: { code: 8, message: 'decryption failed' } }] } },
      { results: [{ value: PLAIN }, { code: 'DECRYPTION_FAILED' }] },
    ),
    single(
      'many to re-encrypt',
      { op: 'reencryptMany', items: [{ data: TOKEN }], ...KEY },
      { reencryptMany: { ...KEY, items: [{ data: TOKEN }] } },
      { many: { values: [TOKEN] } },
      { results: [{ value: TOKEN }] },
    ),
    {
      name: 'many, and there are none',
      calls: [{ op: 'encryptMany', items: [], ...KEY }],
      agent: [{}],
      results: [{ results: [] }],
    },
    {
      name: 'answers in another order',
      calls: ['one', 'two', 'three'].map((name) => ({ op: 'keyInfo', key: name })),
      agent: [
        {
          steps: [
            {
              collect: ['one', 'two', 'three'].map((key) => ({ keyInfo: { key } })),
              send: [2, 0, 1].map((to) => ({ to, reply: { document: json({ key: ['one', 'two', 'three'][to] }) } })),
            },
          ],
        },
      ],
      results: ['one', 'two', 'three'].map((key) => ({ has: { key } })),
    },
    refused('refused: no key', { op: 'encrypt', data: PLAIN }),
    refused('refused: an empty key', { op: 'encrypt', data: PLAIN, key: '' }),
    refused('refused: an item without a key', { op: 'encryptMany', items: [{ data: PLAIN }] }),
    {
      name: 'refused: a value over maxPayload, before it is sent',
      hello: { maxPayload: 8, maxFrame: 70_000 },
      calls: [{ op: 'encrypt', data: '001122334455667788', ...KEY }],
      agent: [{}],
      results: [{ code: 'INVALID_ARGUMENT' }],
    },
  ];
}

function batchCases() {
  const cut = (name, op, item, times, limits) => {
    const reversed = hex(Buffer.from(item.data, 'hex').reverse());
    return {
      name,
      hello: limits,
      calls: [{ op, items: { $list: [item, times] }, ...KEY }],
      agent: [{ steps: [{ repeat: op }] }],
      results: [{ results: { $list: [{ value: reversed }, times] } }],
    };
  };
  const small = { maxPayload: 4_096, maxFrame: 4_096 + 65_536 };
  const token = hex(
    Buffer.concat([Buffer.from('c101', 'hex'), Buffer.alloc(56, 0x11), Buffer.from('0123456789abcdef', 'hex')]),
  );
  return [
    cut('ten thousand small items', 'encryptMany', { data: 'aabbcc' }, 10_000),
    cut('by the limit of the agent', 'encryptMany', { data: '00112233445566778899' }, 1_000, small),
    cut('contexts count', 'encryptMany', { data: 'aabb', context: { a: 'x'.repeat(700) } }, 50, small),
    cut('tokens count less what a token adds', 'decryptMany', { data: token }, 1_000, small),
    cut('items that are as large as may be', 'encryptMany', { data: `${'ab'.repeat(4_095)}cd` }, 3, small),
    {
      name: 'an item over the limit fails alone',
      hello: small,
      calls: [{ op: 'encryptMany', items: [{ data: 'aa' }, { data: repeat('bb', 4_097) }, { data: 'cc' }], ...KEY }],
      agent: [{ steps: [{ repeat: 'encryptMany' }] }],
      results: [{ results: [{ value: 'aa' }, { code: 'INVALID_ARGUMENT' }, { value: 'cc' }] }],
    },
  ];
}

function errorCases() {
  const call = { op: 'decrypt', token: TOKEN, ...KEY };
  const expect = { decrypt: { ...KEY, data: TOKEN } };
  const answered = (code, more = {}) => ({ error: { code, message: 'said', ...more } });
  const cases = Object.entries(ERROR_CODES)
    .filter(([code]) => !['SHUTTING_DOWN', 'AGENT_UNAVAILABLE'].includes(code))
    .map(([code, { number, retryable }]) =>
      single(`${code} is told once, and not asked again`, call, expect, answered(number, { incident: 'i-1' }), {
        code,
        retryable,
        incident: 'i-1',
      }),
    );
  cases.push(
    single('how long to wait is told', call, expect, answered(9, { retryable: true, retryAfterMs: 250 }), {
      code: 'KMS_UNAVAILABLE',
      retryable: true,
      retryAfterMs: 250,
    }),
    single('a code of a newer agent', call, expect, answered(4_000), { code: 'INTERNAL' }),
  );
  return cases;
}

function retryCases() {
  const call = { op: 'encrypt', data: PLAIN, ...KEY };
  const expect = { encrypt: { ...KEY, data: PLAIN } };
  const answer = { steps: [{ expect, send: [{ reply: ok }] }] };
  const lost = { steps: [{ expect, close: true }] };
  const cut = { steps: [{ expect, send: [{ raw: '000000100801' }], close: true }] };
  const down = { error: { code: 16, message: 'the agent is stopping', retryable: true } };
  const done = [{ value: TOKEN }];
  return [
    { name: 'a connection that is lost before the answer', calls: [call], agent: [lost, lost, answer], results: done },
    { name: 'one that is lost inside of the answer', calls: [call], agent: [cut, answer], results: done },
    {
      name: 'one that is lost before the greeting',
      calls: [call],
      agent: [{ hello: { send: [], close: true } }, answer],
      results: done,
    },
    {
      name: 'an agent that is stopping',
      calls: [call],
      agent: [{ steps: [{ expect, send: [{ reply: down }], close: true }] }, answer],
      results: done,
    },
    {
      name: 'one that stops before it is asked',
      calls: [call],
      agent: [{ hello: { send: [{ otherId: 0, reply: down }], close: true } }, answer],
      results: done,
    },
    {
      name: 'an agent that does not answer, up to the deadline',
      calls: [{ ...call, timeoutMs: 400 }],
      agent: [{ steps: [{ expect }] }],
      results: [{ code: 'DEADLINE_EXCEEDED', retryable: true, afterMs: 350 }],
    },
    {
      name: 'no agent at all, up to the deadline',
      calls: [{ ...call, timeoutMs: 400 }],
      results: [{ code: 'AGENT_UNAVAILABLE', retryable: true, afterMs: 350 }],
    },
    {
      name: 'an agent of another version is not asked again',
      calls: [call],
      agent: [
        { hello: { send: [{ otherId: 0, reply: { error: { code: 7, message: 'other versions' } } }], close: true } },
      ],
      results: [{ code: 'UNSUPPORTED_VERSION', retryable: false }],
    },
    {
      name: 'nor one that wants another token file',
      connect: { token: '616263' },
      calls: [call],
      agent: [
        {
          hello: {
            expect: { token: '616263' },
            send: [{ otherId: 0, reply: { error: { code: 2, message: 'wrong token' } } }],
            close: true,
          },
        },
      ],
      results: [{ code: 'UNAUTHENTICATED', retryable: false }],
    },
  ];
}

function frameCases() {
  const call = { op: 'encrypt', data: PLAIN, ...KEY };
  const expect = { encrypt: { ...KEY, data: PLAIN } };
  const done = { value: TOKEN };
  const reads = (name, send) => ({ name, calls: [call], agent: [{ steps: [{ expect, send }] }], results: [done] });
  const breaks = (name, send, code = 'PROTOCOL_ERROR') => ({
    name: `refused: ${name}`,
    calls: [call],
    agent: [{ steps: [{ expect, send }] }],
    results: [{ code }],
  });
  const value = hex(messages.Reply.encode({ value: Buffer.from(TOKEN, 'hex') }).finish());
  const large = 'cd'.repeat(300_000);
  const many = (reply, codes = 'PROTOCOL_ERROR') => ({
    calls: [{ op: 'encryptMany', items: [{ data: 'aa' }, { data: 'bb' }], ...KEY }],
    agent: [
      { steps: [{ expect: { encryptMany: { ...KEY, items: [{ data: 'aa' }, { data: 'bb' }] } }, send: [{ reply }] }] },
    ],
    results: [{ code: codes }],
  });
  return [
    reads('an answer that comes byte by byte', [{ reply: ok, pieces: 1 }]),
    reads('answers of others between', [
      { otherId: 77, reply: { value: 'dead' } },
      { reply: ok },
      { otherId: 78, reply: { value: 'dead' } },
    ]),
    // Fields 1000 (bytes) and 1001 (varint), of a newer agent, before and behind the value.
    reads('fields that are not known', [{ body: `c23e03616263${value}c83e07` }]),
    reads('the last of two values', [{ body: `7a0101${value}` }]),
    reads('a group of a newer agent', [{ body: `c33e0807c43e${value}` }]),
    {
      name: 'a large answer in pieces',
      calls: [{ op: 'decrypt', token: TOKEN, ...KEY }],
      agent: [
        {
          steps: [
            {
              expect: { decrypt: { ...KEY, data: TOKEN } },
              send: [{ reply: { value: { $repeat: ['cd', 300_000] } }, pieces: 50_000 }],
            },
          ],
        },
      ],
      results: [{ length: large.length }],
    },
    breaks('an answer that is not protobuf', [{ raw: '00000004ffffffff' }]),
    breaks('a field that is longer than its message', [{ body: '7a05616263' }]),
    breaks('a number that does not end', [{ body: '78ffff' }]),
    breaks('a field without a number', [{ body: '0000' }]),
    breaks('a frame of 4 GiB', [{ raw: 'ffffffff' }]),
    breaks('a frame that is larger than any agent may send', [{ raw: '10000000' }]),
    breaks(
      'an answer to another kind of call',
      [{ reply: { many: { values: ['aa'] } } }],
      ['PROTOCOL_ERROR', 'INTERNAL'],
    ),
    breaks('an answer without a result', [{ body: '' }], ['PROTOCOL_ERROR', 'INTERNAL']),
    breaks('the last word of the agent', [
      { otherId: 0, reply: { error: { code: 17, message: 'frame over the limit' } } },
    ]),
    { name: 'refused: fewer results than items', ...many({ many: { values: ['aa'] } }) },
    { name: 'refused: more results than items', ...many({ many: { values: ['aa', 'bb', 'cc'] } }) },
    {
      name: 'refused: an error of an item that there is not',
      ...many({ many: { values: ['aa', 'bb'], errors: [{ index: 2, error: { code: 8, message: 'x' } }] } }),
    },
    {
      name: 'refused: a greeting that is none',
      calls: [call],
      agent: [{ hello: { send: [{ reply: { value: 'aa' } }] } }],
      results: [{ code: 'PROTOCOL_ERROR' }],
    },
  ];
}

function realCases() {
  const binding = { key: 'conformance', partition: 'kit', context: { field: 'pan', row: '4711' } };
  const real = (name, steps) => ({ name, real: true, steps });
  const trip = (name, data) =>
    real(name, [
      { call: { op: 'encrypt', data, ...binding }, result: { begins: 'c101' } },
      { call: { op: 'decrypt', token: { $of: 0 }, ...binding }, result: { value: data } },
    ]);
  const fails = (name, other, code = 'DECRYPTION_FAILED') =>
    real(name, [
      { call: { op: 'encrypt', data: PLAIN, ...binding }, result: { begins: 'c101' } },
      { call: { op: 'decrypt', token: { $of: 0 }, ...binding, ...other }, result: { code, retryable: false } },
    ]);
  return [
    trip('nothing', ''),
    trip('a value', PLAIN),
    trip('a value of maxPayload', repeat('5a', 1_048_576)),
    real('a text', [
      { call: { op: 'encryptText', text: 'Zoë \u{1f511}', ...binding }, result: { begins: 'dk1.' } },
      { call: { op: 'decryptText', text: { $of: 0 }, ...binding }, result: { value: 'Zoë \u{1f511}' } },
    ]),
    real('names in another order', [
      { call: { op: 'encrypt', data: PLAIN, ...binding }, result: { begins: 'c101' } },
      {
        call: { op: 'decrypt', token: { $of: 0 }, ...binding, context: { row: '4711', field: 'pan' } },
        result: { value: PLAIN },
      },
    ]),
    real('any key', [
      { call: { op: 'encrypt', data: PLAIN, ...binding }, result: { begins: 'c101' } },
      { call: { op: 'decrypt', token: { $of: 0 }, anyKey: true, context: binding.context }, result: { value: PLAIN } },
    ]),
    fails('another context', { context: { field: 'pan', row: '4712' } }),
    fails('another partition', { partition: 'other' }),
    fails('another key', { key: 'conformance-other' }, ['DECRYPTION_FAILED', 'PERMISSION_DENIED', 'KEY_NOT_FOUND']),
    real('what is no token', [
      { call: { op: 'decrypt', token: '00'.repeat(80), ...binding }, result: { code: 'MALFORMED' } },
    ]),
    real('a token of another suite', [
      { call: { op: 'decrypt', token: `c17f${'00'.repeat(80)}`, ...binding }, result: { code: 'UNSUPPORTED_VERSION' } },
    ]),
    real('re-encryption', [
      { call: { op: 'encrypt', data: PLAIN, ...binding }, result: { begins: 'c101' } },
      { call: { op: 'reencrypt', token: { $of: 0 }, ...binding }, result: { begins: 'c101' } },
      { call: { op: 'decrypt', token: { $of: 1 }, ...binding }, result: { value: PLAIN } },
    ]),
    real('many, of which one is of another context', [
      {
        call: { op: 'encryptMany', items: [{ data: 'aa' }, { data: 'bb', context: { field: 'cvc' } }], ...binding },
        result: { results: [{ begins: 'c101' }, { begins: 'c101' }] },
      },
      {
        call: { op: 'decryptMany', items: [{ data: { $of: 0, item: 0 } }, { data: { $of: 0, item: 1 } }], ...binding },
        result: { results: [{ value: 'aa' }, { code: 'DECRYPTION_FAILED' }] },
      },
    ]),
    real('the agent', [{ call: { op: 'ping' }, result: { has: { protocol: 1 } } }]),
    real('a key', [
      { call: { op: 'encrypt', data: PLAIN, ...binding }, result: { begins: 'c101' } },
      {
        call: { op: 'keyInfo', key: binding.key, partition: binding.partition },
        result: { has: { key: binding.key, partition: 'kit' } },
      },
    ]),
  ];
}

const files = {
  batches: ['Batches are cut so that each frame fits, and put together again in order.', batchCases()],
  calls: ['Each call as the agent gets it, and its answer as the caller gets it.', callCases()],
  contexts: ['The canonical bytes of contexts, and what is no context.', contextCases()],
  errors: ['Errors of the agent by number.', errorCases()],
  frames: ['Frames however they come, and what is no frame or no answer.', frameCases()],
  real: ['Round trips with a real agent.', realCases()],
  retries: ['What is sent again, until when, and what is not.', retryCases()],
  'token-text': ['The text form of tokens, which is strict.', textCases()],
};

mkdirSync(folder, { recursive: true });
for (const [name, [about, cases]] of Object.entries(files)) {
  const file = new URL(`${name}.json`, folder);
  const lines = cases.map((each) => `    ${JSON.stringify(each)}`).join(',\n');
  // A lone surrogate is no UTF-8: it stays an escape, which JSON.stringify makes of it.
  const text = `{\n  "about": ${JSON.stringify(about)},\n  "cases": [\n${lines}\n  ]\n}\n`;
  if (!process.argv.includes('--check')) {
    writeFileSync(file, text);
  } else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    console.error(`proto/conformance/vectors/${name}.json is not what the code makes: run npm run conformance`);
    process.exitCode = 1;
  }
}
