import { engineUnderTest } from '../support/engines.ts';
import { describeEngine } from './engine.contract.ts';

describeEngine(await engineUnderTest('node'));
