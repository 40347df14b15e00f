/** The drop by HTTP, on what Node has. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { DekdError } from 'dekd/client';
import { type Drop, type DroppedFile, TooLarge } from './drop.ts';

/** Of one answer to a request for a range: it is held in memory. Who wants more asks again where it ended. */
const MAX_RANGE = 1024 * 1024;

export function dropServer(drop: Drop): Server {
  return createServer((request, response) => {
    answer(drop, request, response).catch((error: unknown) => fail(error, request, response));
  });
}

async function answer(drop: Drop, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, folder, link = ''] = new URL(request.url ?? '/', 'http://drop').pathname.split('/');
  if (folder !== 'files') {
    end(response, 404, { error: 'no such place' });
  } else if (request.method === 'POST' && link === '') {
    end(response, 201, { link: await drop.put(request) });
  } else if (request.method === 'GET') {
    await using file = await drop.get(link);
    if (file === undefined) {
      end(response, 404, { error: 'no such file' });
    } else {
      await give(file, request.headers.range, response);
    }
  } else if (request.method === 'DELETE') {
    const wasThere = await drop.remove(link);
    end(response, wasThere ? 204 : 404, wasThere ? undefined : { error: 'no such file' });
  } else {
    end(response, 405, { error: 'POST /files, GET and DELETE /files/LINK' });
  }
}

async function give(file: DroppedFile, wanted: string | undefined, response: ServerResponse): Promise<void> {
  response.setHeader('content-type', 'application/octet-stream');
  response.setHeader('cache-control', 'no-store');
  response.setHeader('accept-ranges', 'bytes');
  // Other forms, the last bytes among them, are answered with the whole, as HTTP allows.
  const [, first, last] = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(wanted ?? '') ?? [];
  if (first === undefined) {
    // Without a length: an end that is no end of the chunks is how a reader learns that something was missing.
    const content = file.content();
    // The first frame is verified before there is a status.
    await once(content, 'readable');
    await pipeline(content, response);
    return;
  }
  const start = Number(first);
  const end = Math.min(last ? Number(last) + 1 : Number.POSITIVE_INFINITY, start + MAX_RANGE);
  const bytes = end > start ? await file.range(start, end) : new Uint8Array();
  if (bytes.length === 0) {
    response.writeHead(416).end();
    return;
  }
  response.writeHead(206, {
    'content-range': `bytes ${start}-${start + bytes.length - 1}/*`,
    'content-length': bytes.length,
  });
  response.end(bytes);
}

function fail(error: unknown, request: IncomingMessage, response: ServerResponse): void {
  if (response.headersSent || response.destroyed) {
    // Too late for a status: the connection ends in the middle.
    response.destroy();
  } else if (error instanceof TooLarge) {
    response.setHeader('connection', 'close');
    end(response, 413, { error: error.message });
  } else if (DekdError.is(error) && error.retryable) {
    response.setHeader('retry-after', Math.ceil((error.retryAfterMs ?? 1000) / 1000));
    end(response, 503, { error: error.code });
  } else if (!request.complete && request.method === 'POST') {
    // Nobody is there any more.
    response.destroy();
  } else {
    console.error(DekdError.is(error) ? `${error.code} ${error.message} ${error.incident ?? ''}` : error);
    end(response, 500, { error: 'internal' });
  }
}

function end(response: ServerResponse, status: number, body?: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body && JSON.stringify(body));
}
