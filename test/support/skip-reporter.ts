import type { Reporter, TestCase } from 'vitest/node';

/** Says at the end of a run what was skipped and why: a proof that did not run must not look like one that passed. */
export class SkipReporter implements Reporter {
  readonly #skipped = new Map<string, string[]>();

  onTestCaseResult(test: TestCase): void {
    const result = test.result();
    if (result.state === 'skipped') {
      const reason = result.note ?? 'no reason given';
      const names = this.#skipped.get(reason) ?? [];
      names.push(`${test.module.relativeModuleId}: ${test.fullName}`);
      this.#skipped.set(reason, names);
    }
  }

  onTestRunEnd(): void {
    for (const [reason, names] of this.#skipped) {
      console.log(`\nskipped (${names.length}): ${reason}`);
      for (const name of names) {
        console.log(`  ${name}`);
      }
    }
  }
}
