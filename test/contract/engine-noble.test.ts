import { engineUnderTest } from '../support/engines.ts';
import { describeEngine } from './engine.contract.ts';
import { describeMessages } from './message.contract.ts';

const under = await engineUnderTest('noble');
describeEngine(under);
describeMessages(under);
