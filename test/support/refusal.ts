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
