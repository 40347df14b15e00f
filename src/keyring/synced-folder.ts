import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

/** Resolves when the names in the folder, one that was just given by a rename for one, are on disk. @throws as the file system does */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
