import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DekdError } from '../errors.ts';

const FILE = 'holder';
const NAME = /^[0-9a-f]{32}$/;

/**
 * The name under which an agent sets use aside: the same as long as its state folder is, so that an agent that restarts
 * often writes the same rows and not new ones. Without a folder it is `fresh`.
 * @throws KEYSTORE_UNAVAILABLE when the folder cannot be read or written
 */
export async function holderOf(stateFolder: string | undefined, fresh: string): Promise<string> {
  if (stateFolder === undefined) {
    return fresh;
  }
  const path = join(stateFolder, FILE);
  try {
    const kept = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') {
        return '';
      }
      throw error;
    });
    if (NAME.test(kept.trim())) {
      return kept.trim();
    }
    await writeFile(path, `${fresh}\n`, { mode: 0o600 });
    return fresh;
  } catch (error) {
    throw new DekdError('KEYSTORE_UNAVAILABLE', `${path} cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
