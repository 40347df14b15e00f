/** Bars of typed fields: rows with some fields, through the socket to an agent in another process. */
import { AgentProcess } from '../support/agent-process.ts';
import { type FieldDirection, fieldsInProcess, VALUES } from '../support/field-rows.ts';
import { type Comparison, compare, OVER_SOCKET } from '../support/interleave.ts';
import { ToldChild } from '../support/told-child.ts';
import { type Bar, figure, type Measured } from './bar.ts';

async function measured(direction: FieldDirection): Promise<Comparison> {
  const agent = await AgentProcess.start();
  const child = await ToldChild.start('fields-process.ts', [agent.socket, direction]);
  try {
    return await compare((count) => child.ask(String(count)), fieldsInProcess(direction), OVER_SOCKET);
  } finally {
    await child.stop();
    await agent.stop();
  }
}

async function rate(direction: FieldDirection): Promise<Measured> {
  const { subject, baseline } = await measured(direction);
  const inProcess = figure(baseline * VALUES);
  return { ratio: subject * VALUES, detail: `${inProcess}/s in process, JSON and base64url included` };
}

async function againstInProcess(direction: FieldDirection): Promise<Measured> {
  const { ratio, subject, baseline } = await measured(direction);
  return { ratio, detail: `${figure(subject * VALUES)}/s against ${figure(baseline * VALUES)}/s` };
}

export const fieldsBars: readonly Bar[] = [
  { name: 'fields: encrypt 1,000 rows with 3, fields/s', atLeast: 300_000, measure: () => rate('encrypt') },
  { name: 'fields: decrypt 1,000 rows with 3, fields/s', atLeast: 300_000, measure: () => rate('decrypt') },
  {
    name: 'fields: encrypt 1,000 rows with 3, against in process',
    atLeast: 1.5,
    measure: () => againstInProcess('encrypt'),
  },
];
