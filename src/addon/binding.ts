import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { PACKAGE_MISSING, packageFile } from '../package/own-package.ts';

/**
 * The addon as it is: numbers for handles, statuses (`native/core/status.h`) and enumerations, bytes into the caller's
 * arrays. Functions that make a key return its handle, or a status made negative. Nothing here throws.
 */
export interface Binding {
  /** OpenSSL's name and version at run time. */
  readonly library: string;
  /** What OpenSSL uses of the processor. */
  readonly cpu: string;

  openTable(minimumLevel: number): number;
  memory(): { level: number; secretErrno: number; lockedErrno: number; lockLimit: number };
  stats(): { capacity: number; used: number; created: number; destroyed: number };
  newOwner(): number;
  destroyOwned(owner: number): number;

  generateKey(owner: number, algorithm: number, purpose: number): number;
  readRootKey(owner: number, fd: number, algorithm: number, purpose: number): number;
  writeRootKey(fd: number): number;
  writeKey(key: number, fd: number): number;
  destroyKey(key: number): number;
  kid(key: number, out: Uint8Array): number;
  wrapKey(parent: number, label: Uint8Array, key: number, aad: Uint8Array, out: Uint8Array): number;
  unwrapKey(
    owner: number,
    parent: number,
    label: Uint8Array,
    wrapped: Uint8Array,
    aad: Uint8Array,
    algorithm: number,
    purpose: number,
  ): number;
  deriveKey(owner: number, parent: number, label: Uint8Array, algorithm: number, purpose: number): number;
  mac(parent: number, label: Uint8Array, data: Uint8Array, out: Uint8Array): number;
  verifyMac(parent: number, label: Uint8Array, data: Uint8Array, expected: Uint8Array): number;

  /** Own end 0 read, 1 write. An errno instead of an object when there is no pipe. */
  openPipe(own: number): { read: number; write: number } | number;
  sendKey(fd: number, id: number, key: number): number;
  receiveKey(owner: number, fd: number, id: number, algorithm: number, purpose: number): number;
  /** `out` has MAX_PIPED_LENGTH + TOKEN_OVERHEAD bytes. The length of the token, or a status made negative. */
  receiveSealed(fd: number, id: number, key: number, context: Uint8Array, out: Uint8Array): number;
  sendOpened(fd: number, id: number, key: number, token: Uint8Array, context: Uint8Array): number;
  /** The bytes are zeros afterwards. */
  importSecret(owner: number, bytes: Uint8Array, algorithm: number, purpose: number): number;
  exposeSecret(key: number, out: Uint8Array): number;

  openLegacy(key: number, nonce: Uint8Array, sealed: Uint8Array, out: Uint8Array): number;
  wrapDataKey(messageKey: number, dataKey: number, context: Uint8Array, info: Uint8Array, out: Uint8Array): number;
  unwrapDataKey(
    owner: number,
    messageKey: number,
    info: Uint8Array,
    encrypted: Uint8Array,
    context: Uint8Array,
  ): number;
  wrapDataKeyUnder(
    rawKey: number,
    name: Uint8Array,
    dataKey: number,
    context: Uint8Array,
    info: Uint8Array,
    out: Uint8Array,
  ): number;
  unwrapDataKeyUnder(
    owner: number,
    rawKey: number,
    name: Uint8Array,
    info: Uint8Array,
    encrypted: Uint8Array,
    context: Uint8Array,
  ): number;
  beginMessage(owner: number, dataKey: number, frameLength: number, id: Uint8Array, commitment: Uint8Array): number;
  resumeMessage(
    owner: number,
    dataKey: number,
    suite: number,
    id: Uint8Array,
    frameLength: number,
    commitment: Uint8Array,
  ): number;
  sealHeader(message: number, header: Uint8Array, required: Uint8Array, tag: Uint8Array): number;
  verifyHeader(message: number, header: Uint8Array, required: Uint8Array, tag: Uint8Array): number;
  /** `final` is 0 or 1. */
  sealFrames(message: number, plaintext: Uint8Array, final: number, out: Uint8Array): number;
  /** A status instead of an object when it is not ok. */
  openFrames(
    message: number,
    body: Uint8Array,
    out: Uint8Array,
  ): { consumed: number; produced: number; final: boolean } | number;
  seekFrame(message: number, sequence: number): number;

  /**
   * The numbers of `seal` and `open`, at the places of CALL, written before the call instead of passed with it: at 64
   * bytes this saves a tenth. One array a thread.
   */
  readonly callWords: Float64Array;
  /** The status is `callWords[CALL.status]`. */
  seal(input: Uint8Array, output: Uint8Array): void;
  open(input: Uint8Array, output: Uint8Array): void;
  sealMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): number;
  openMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): number;
  macMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array, output: Uint8Array): number;
  verifyMacMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array): number;

  random(out: Uint8Array): number;
  setSnapshotSafe(on: number): number;

  /** An errno instead of an object when the descriptor is not a connected Unix socket. */
  peerIdentity(fd: number): { uid: number; gid: number; groups: number[] } | number;
  /** 0 taken, -1 held elsewhere, else an errno. */
  lockFile(fd: number): number;
  /** Bits of the measures taken. */
  hardenProcess(): number;
  countCopies(key: number): { copies: number; bytes: number } | number;
  /** Leaves a copy of the key on the ordinary heap, deliberately. */
  proveLeakPlant(key: number): number;
  proveLeakClear(): number;
  /** errno behind the last status `systemFailed` or `pipeFailed` of this thread. */
  lastErrno(): number;

  // ── the bulk lane: regions are numbers, faults those of LANE_FAULT; a region ends with the thread that made it ──────
  /** Sets the token of the greeting that has come, and leaves it unread: a fault. */
  lanePeek(socket: number, token: Uint8Array): number;
  /** Reads the greeting of this token, which nobody else has. Its descriptors are the caller's to close by `laneClose`. */
  laneReceive(socket: number, token: Uint8Array): { kind: number; descriptors: number[] } | number;
  /** Closes a descriptor that a peer has chosen, without waiting for his file system. */
  laneClose(descriptor: number): number;
  /** How many such descriptors are being looked at or closed. */
  laneWaiting(): number;
  /** The region of a peer's memfd of at most `limit` bytes; the descriptor stays the caller's. */
  laneAdopt(fd: number, limit: number): { region: number; size: number } | number;
  laneDrop(region: number): number;
  /** Bytes of all adopted regions that are still mapped. */
  laneAdopted(): number;
  laneSeal: LaneTokenCall;
  laneOpen: LaneTokenCall;
  /** Gives memory back that `laneOpen` has used on this thread. */
  laneRelease(): number;
  laneRead(region: number, offset: number, out: Uint8Array): number;
  laneWrite(region: number, offset: number, bytes: Uint8Array): number;
  laneCreate(size: number): { region: number; size: number } | number;
  /** Memory of the region itself, which stays mapped as long as the buffer lives. Throws where buffers cannot be made so. */
  laneBuffer(region: number, offset: number, length: number): ArrayBuffer | number;
  /** Says a greeting with the region's descriptor, or with those of two files, on a connected lane socket. */
  laneShare(socket: number, token: Uint8Array, region: number): number;
  laneShareFiles(socket: number, token: Uint8Array, source: number, target: number): number;
  /** A pass over two files, or a fault made negative. The descriptors are not the caller's any more. Its steps follow each other. */
  fileOpen(source: number, target: number): Promise<number>;
  fileClose(pass: number): number;
  fileRead(pass: number, offset: number, length: number): Promise<FileOutcome>;
  /** `header` is written by the first step. */
  fileSeal(pass: number, message: number, frameLength: number, header: Uint8Array): Promise<FileOutcome>;
  fileOpenFrames(pass: number, message: number, frameLength: number, body: number): Promise<FileOutcome>;
  /** errno behind the last fault `system` of this thread. */
  laneErrno(): number;

  /** For published vectors only: the caller's own key and nonce. */
  vectorGcmSeal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, input: Uint8Array, out: Uint8Array): number;
  vectorGcmOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, input: Uint8Array, out: Uint8Array): number;
  vectorXaesSeal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, input: Uint8Array, out: Uint8Array): number;
  vectorXaesOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, input: Uint8Array, out: Uint8Array): number;
  vectorHkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, out: Uint8Array): number;
  vectorHmac(key: Uint8Array, data: Uint8Array, out: Uint8Array): number;
}

/** A token made or opened in place: a status. The result is longer or shorter than `length` by what a token adds. */
export type LaneTokenCall = (
  key: number,
  context: Uint8Array,
  region: number,
  offset: number,
  length: number,
  resultRegion: number,
  resultOffset: number,
) => number;

/** What a step over files came to; nothing of it is rejected. */
export interface FileOutcome {
  readonly status: number;
  readonly errno: number;
  readonly read: number;
  readonly written: number;
  readonly ended: boolean;
  readonly trailing: boolean;
  readonly bytes: Uint8Array;
}

/** Numbers of `native/core/lane_region.h`. */
export const LANE_FAULT = {
  none: 0,
  system: 1,
  notYet: 2,
  ended: 3,
  malformed: 4,
  notMemfd: 5,
  hugePages: 6,
  notSealed: 7,
  notWritable: 8,
  size: 9,
  notPopulated: 10,
  notRegular: 11,
  access: 12,
  sameFile: 13,
  notEmpty: 14,
  fileSystem: 15,
} as const;

/** Numbers of `native/core/lane_socket.h`. */
export const LANE_KIND = { region: 1, files: 2 } as const;

/** Bytes of the token that a lane is joined with. */
export const LANE_TOKEN_LENGTH = 32;

/** Places in `callWords`. */
export const CALL = {
  key: 0,
  contextOffset: 1,
  contextLength: 2,
  dataOffset: 3,
  dataLength: 4,
  outOffset: 5,
  status: 6,
} as const;

/** The addon and the file it came from, or why there is none (one line, for people). */
export type LoadedBinding =
  | { readonly binding: Binding; readonly path: string; readonly reason?: undefined }
  | { readonly binding?: undefined; readonly path?: undefined; readonly reason: string };

let loaded: LoadedBinding | undefined;

/**
 * Loads the addon, once a thread: the file in `DEKD_NATIVE_PATH`, else the one built here, else the one in the package.
 * A file that is named or built and does not load is the reason; the next one is not tried in its place, because it
 * would hide that the build is broken.
 */
export function loadBinding(): LoadedBinding {
  loaded ??= load();
  return loaded;
}

function load(): LoadedBinding {
  if (process.platform !== 'linux') {
    return { reason: `the addon is for linux, not ${process.platform}` };
  }
  const path = candidates().find((candidate) => existsSync(candidate)) ?? namedPath();
  if (path === undefined) {
    const reason = packageFile('.') === undefined ? PACKAGE_MISSING : `there is no addon for linux-${process.arch}`;
    return { reason };
  }
  try {
    return { binding: createRequire(import.meta.url)(path) as Binding, path };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { reason: `${path}: ${message.split('\n', 1)[0]}` };
  }
}

function namedPath(): string | undefined {
  return process.env.DEKD_NATIVE_PATH || undefined;
}

function candidates(): string[] {
  const named = namedPath();
  if (named !== undefined) {
    return [named];
  }
  const paths = ['build/Release/addon.node', `prebuilds/linux-${process.arch}.node`];
  return paths.flatMap((path) => packageFile(path) ?? []);
}
