import { readFile } from 'node:fs/promises';
import { VaultError } from './vault-error.ts';

/** A projected JWT is a few KiB. */
const MAX_SECRET_LENGTH = 64 * 1024;

/** The one call of AWS Secrets Manager that a login needs. */
export interface SecretsManager {
  /** The secret as text. */
  getSecretValue(id: string, signal: AbortSignal): Promise<string>;
}

/** The text in `path` without white space around it: a token, an id or a JWT. @throws UNAUTHENTICATED naming the file. */
export async function secretFromFile(path: string, what: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VaultError('UNAUTHENTICATED', `the ${what} cannot be read from ${path} (${code}): check path and owner`, {
      cause: error,
    });
  }
  return checkedSecret(text, `the ${what} in ${path}`);
}

/** @throws UNAUTHENTICATED naming the variable. */
export function secretFromEnvironment(environment: NodeJS.ProcessEnv, name: string, what: string): string {
  const text = environment[name];
  if (text === undefined || text === '') {
    throw new VaultError('UNAUTHENTICATED', `there is no ${what}: configure a file with it, or set ${name}`);
  }
  return checkedSecret(text, `the ${what} in ${name}`);
}

/** @throws UNAUTHENTICATED when it cannot be had; UNAVAILABLE when it may be had later; CONFIG without the library. */
export async function secretFromAws(
  open: (region: string | undefined) => Promise<SecretsManager>,
  id: string,
  signal: AbortSignal,
): Promise<string> {
  const manager = await open(regionOf(id));
  let text: string;
  try {
    text = await manager.getSecretValue(id, signal);
  } catch (error) {
    const { name } = error as Error;
    const refused = /AccessDenied|ResourceNotFound|InvalidRequest|InvalidParameter|Decryption/.test(name);
    throw new VaultError(
      refused ? 'UNAUTHENTICATED' : 'UNAVAILABLE',
      `the secret id cannot be had from AWS Secrets Manager (${/^\w+$/.test(name) ? name : 'failed'})`,
      { cause: error },
    );
  }
  return checkedSecret(fieldOf(text, 'secret_id'), 'the secret id in AWS Secrets Manager');
}

/** Loads the client of AWS Secrets Manager, which is installed where it is used. @throws CONFIG with the command. */
export async function openSecretsManager(region: string | undefined): Promise<SecretsManager> {
  // Not a literal: neither the compiler nor a bundler may ask for a package that is optional.
  const name: string = '@aws-sdk/client-secrets-manager';
  let library: SecretsManagerLibrary;
  try {
    library = (await import(name)) as SecretsManagerLibrary;
  } catch (error) {
    throw new VaultError('CONFIG', `secretIdAws needs a package that is not here: run npm install ${name}`, {
      cause: error,
    });
  }
  const client = new library.SecretsManagerClient(region === undefined ? {} : { region });
  return {
    async getSecretValue(id, abortSignal) {
      const { SecretString } = await client.send(new library.GetSecretValueCommand({ SecretId: id }), { abortSignal });
      return SecretString ?? '';
    },
  };
}

interface SecretsManagerLibrary {
  readonly SecretsManagerClient: new (
    options: object,
  ) => { send(command: object, options: object): Promise<{ SecretString?: string }> };
  readonly GetSecretValueCommand: new (input: { SecretId: string }) => object;
}

/** An ARN says its Region; a name leaves it to the environment. */
function regionOf(id: string): string | undefined {
  return /^arn:[\w-]+:secretsmanager:([\w-]+):/.exec(id)?.[1];
}

/** `text` itself, or the field `name` of it where it is a JSON object, as the console of AWS makes them. */
function fieldOf(text: string, name: string): string {
  if (!text.trimStart().startsWith('{')) {
    return text;
  }
  try {
    const field = (JSON.parse(text) as Record<string, unknown>)[name];
    return typeof field === 'string' ? field : '';
  } catch {
    return '';
  }
}

function checkedSecret(text: string, what: string): string {
  const secret = text.trim();
  if (!/^[\x21-\x7e]+$/.test(secret) || secret.length > MAX_SECRET_LENGTH) {
    throw new VaultError('UNAUTHENTICATED', `${what} is not one word of at most ${MAX_SECRET_LENGTH} characters`);
  }
  return secret;
}
