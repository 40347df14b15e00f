import { attached } from '../support/attached-engine.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { describeEngine } from './engine.contract.ts';
import { describeMessages } from './message.contract.ts';

for (const name of ENGINE_NAMES) {
  const under = attached(await engineUnderTest(name));
  describeEngine(under);
  describeMessages(under);
}
