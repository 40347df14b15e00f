/** The generated messages under short names; generated types stay inside this folder. */
import { dekd } from './generated/dekd.js';

export const messages = dekd.v1;

export type HelloFields = dekd.v1.Hello.$Properties;
export type HelloReplyFields = dekd.v1.HelloReply.$Properties;
export type LaneReplyFields = dekd.v1.LaneReply.$Properties;
export type ErrorFields = dekd.v1.Error.$Properties;
export type RequestFields = dekd.v1.Request.$Properties;
export type AdminFields = dekd.v1.Admin.$Properties;
export type Reply = dekd.v1.Reply;
