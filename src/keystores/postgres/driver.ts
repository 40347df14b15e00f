import { DekdError } from '../../errors.ts';

export type { Client } from 'pg';
export type Driver = Pick<typeof import('pg'), 'Client'>;

/**
 * The driver, which is not installed with dekd: most agents keep their keys elsewhere.
 * @param load for tests
 * @param what needs it, for the message
 * @throws UNSUPPORTED with the command that installs it
 */
export async function loadDriver(
  load: () => Promise<Driver> = () => import('pg'),
  what = 'keystore postgres',
): Promise<Driver> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') {
      throw new DekdError('UNSUPPORTED', `${what} needs the package pg: npm install pg@8`, { cause: error });
    }
    throw error;
  }
}
