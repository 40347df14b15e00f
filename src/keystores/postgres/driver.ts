import { DekdError } from '../../errors.ts';

export type Driver = Pick<typeof import('pg'), 'Client'>;

/**
 * The driver, which is not installed with dekd: most agents keep their keys elsewhere.
 * @param load for tests
 * @throws UNSUPPORTED with the command that installs it
 */
export async function loadDriver(load: () => Promise<Driver> = () => import('pg')): Promise<Driver> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') {
      throw new DekdError('UNSUPPORTED', 'keystore postgres needs the package pg: npm install pg@8', { cause: error });
    }
    throw error;
  }
}
