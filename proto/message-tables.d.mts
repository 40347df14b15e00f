import type { MessageTables } from '../src/protocol/table-codec.ts';

export function messageTables(file: string): MessageTables;
