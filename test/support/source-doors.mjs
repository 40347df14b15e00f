// For `node --import`: what a script imports from `dekd` is the source of this tree, as an application's would be the package.
import { registerHooks } from 'node:module';

registerHooks({
  resolve(specifier, context, next) {
    const door = /^dekd(?:\/([a-z-]+))?$/.exec(specifier);
    if (door === null) {
      return next(specifier, context);
    }
    const path = door[1] === undefined ? 'index.ts' : `${door[1]}/index.ts`;
    return { url: new URL(`../../src/${path}`, import.meta.url).href, shortCircuit: true };
  },
});
