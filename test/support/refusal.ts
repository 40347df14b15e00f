import { DekdError, type ErrorCode } from '../../src/errors.ts';

/** What `action` is refused with. @throws anything but a DekdError, and when it is not refused */
export function refusal(action: () => unknown): { code: ErrorCode; message: string } {
  const error = dekdErrorOf(action);
  if (error === undefined) {
    throw new Error('was not refused');
  }
  return { code: error.code, message: error.message };
}

/** Code of the DekdError that `action` throws; undefined when it throws nothing. @throws anything but a DekdError */
export function codeOf(action: () => unknown): ErrorCode | undefined {
  return dekdErrorOf(action)?.code;
}

/** The message of an INVALID_ARGUMENT. @throws any other error, and when it is not refused */
export function invalidArgument(action: () => unknown): string {
  const error = dekdErrorOf(action);
  if (error?.code !== 'INVALID_ARGUMENT') {
    throw error ?? new Error('was not refused');
  }
  return error.message;
}

/** What a call is refused with. @throws anything but a DekdError, and when it is not refused */
export async function refusalOf(call: PromiseLike<unknown> | (() => PromiseLike<unknown>)): Promise<DekdError> {
  try {
    await (typeof call === 'function' ? call() : call);
  } catch (error) {
    if (DekdError.is(error)) {
      return error;
    }
    throw error;
  }
  throw new Error('was not refused');
}

/** Code and text of what a call is refused with: `CODE: text`. @throws as `refusalOf` */
export async function refusedWith(call: PromiseLike<unknown> | (() => PromiseLike<unknown>)): Promise<string> {
  const { code, message } = await refusalOf(call);
  return `${code}: ${message}`;
}

function dekdErrorOf(action: () => unknown): DekdError | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (DekdError.is(error)) {
      return error;
    }
    throw error;
  }
}
