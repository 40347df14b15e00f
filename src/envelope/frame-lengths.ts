/** Lengths of frames of messages, in bytes of plaintext; in a file of their own, because the client needs them before all else. */

/** Of what dekd makes: of a stream, which somebody waits for, and of a file, with fewer tags. */
export const STREAM_FRAME_LENGTH = 64 * 1024;
export const FILE_FRAME_LENGTH = 1024 * 1024;
/** The longest frame that dekd makes, or opens in pieces: a stream holds one. */
export const MAX_FRAME_LENGTH = 1024 * 1024;
