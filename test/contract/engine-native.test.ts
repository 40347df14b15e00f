import { engineUnderTest } from '../support/engines.ts';
import { describeEngine } from './engine.contract.ts';
import { describeMessages } from './message.contract.ts';

const under = await engineUnderTest('native');
describeEngine(under);
describeMessages(under);
