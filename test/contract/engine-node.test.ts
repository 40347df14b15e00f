import { engineUnderTest } from '../support/engines.ts';
import { describeEngine } from './engine.contract.ts';
import { describeMessages } from './message.contract.ts';

const under = await engineUnderTest('node');
describeEngine(under);
describeMessages(under);
