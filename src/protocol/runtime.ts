/** The protobuf runtime under its own names, so that one file deals with how the package is loaded. */
import protobuf from 'protobufjs/minimal.js';

// BufferReader reads strings and bytes natively; the plain Reader would decode UTF-8 in JavaScript.
export const { Writer } = protobuf;
export type Reader = protobuf.Reader;
export const Reader = protobuf.BufferReader as unknown as new (buffer: Uint8Array) => protobuf.Reader;
export type Writer = protobuf.Writer;
