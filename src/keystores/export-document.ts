import { DekdError } from '../errors.ts';
import type { KeyRecord } from '../keyring/record.ts';
import { decodeRecord, type RecordJson } from './record-codec.ts';

const FORMAT = 'dekd-export';
const VERSION = 1;

/**
 * Writes the export document piece by piece: JSON, one record a line, so that it can be read and compared. It holds
 * wrapped keys only, which are worth nothing without their root.
 */
export async function* writeExport(
  records: AsyncIterable<RecordJson> | Iterable<RecordJson>,
): AsyncGenerator<string, void> {
  yield `{"format":"${FORMAT}","version":${VERSION},"records":[`;
  let separator = '\n';
  for await (const record of records) {
    yield separator + JSON.stringify(record);
    separator = ',\n';
  }
  yield '\n]}\n';
}

/**
 * The records of an export document in its order, not looked at yet.
 * @throws INVALID_ARGUMENT when it is no export; UNSUPPORTED_VERSION for a newer one.
 */
export function parseExport(document: string): readonly unknown[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(document);
  } catch (error) {
    // The parser's own message quotes the text.
    throw new DekdError('INVALID_ARGUMENT', 'the export is not JSON: it may be cut short', { cause: error });
  }
  const { format, version, records } = (parsed ?? {}) as { format?: unknown; version?: unknown; records?: unknown };
  if (format !== FORMAT) {
    throw new DekdError('INVALID_ARGUMENT', `the document is no ${FORMAT}; dekd keys export makes one`);
  }
  if (version !== VERSION) {
    throw new DekdError(
      'UNSUPPORTED_VERSION',
      `the export has version ${JSON.stringify(version)}; this dekd reads ${VERSION}: use the dekd that wrote it, or newer`,
    );
  }
  if (!Array.isArray(records)) {
    throw new DekdError('INVALID_ARGUMENT', 'the export has no list of records');
  }
  return records;
}

/** The records of an export document. @throws as `parseExport`, and INVALID_ARGUMENT naming record and field. */
export function readExport(document: string): KeyRecord[] {
  return parseExport(document).map((record, index) => {
    try {
      return decodeRecord(record);
    } catch (error) {
      throw new DekdError('INVALID_ARGUMENT', `record ${index + 1} of the export: ${DekdError.from(error).message}`);
    }
  });
}
