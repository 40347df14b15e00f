import { describe, expect, it } from 'vitest';
import { quote, selfCommand } from '../../src/cli/invocation.ts';

describe('the command to paste', () => {
  const root = '/home/ada/dekd';
  it.each([
    ['/usr/bin/dekd', '/tmp', 'dekd'],
    ['/app/node_modules/.bin/dekd', '/app', 'npx dekd'],
    ['/opt/x y/dekd', '/tmp', "'/opt/x y/dekd'"],
    [`${root}/src/cli/main.ts`, root, 'npm run -s dekd --'],
    [`${root}/src/cli/main.ts`, `${root}/docs`, 'npm run -s dekd --'],
    [`${root}/src/cli/main.ts`, '/tmp', `npm --prefix ${root} run -s dekd --`],
    [`${root}/dist/cli/main.js`, root, `node ${root}/dist/cli/main.js`],
  ])('started as %s in %s, it is %s', (script, cwd, expected) => {
    expect(selfCommand({ script, cwd, searchPath: '/bin:/usr/bin' }, root)).toBe(expected);
  });

  it('quotes words for a shell', () => {
    expect([quote('a/b-c.d'), quote("it's"), quote('$HOME')]).toEqual(['a/b-c.d', "'it'\\''s'", "'$HOME'"]);
  });
});
