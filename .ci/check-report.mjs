// Reads the JSON report of a test run: prints "passed failed", lists skips, and counts a skip that nobody expected as a failure.
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const vectors = process.env.DEKD_VECTORS ?? (existsSync('../shared/vectors') ? '../shared/vectors' : undefined);
const isInstalled = (tool) => (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, tool)));
// Published vectors may be absent; what needs root is skipped for everybody else.
const expected = [
  (test) => vectors === undefined && /vectors/.test(test.file),
  (test) => process.getuid() !== 0 && /needs root/.test(test.name),
  (test) => !existsSync('/dev/fuse') && /needs root and FUSE/.test(test.name),
  // A second opinion on the KMS stand-in, where Python has it.
  (test) => /kms-moto/.test(test.file),
  // Kustomizations and charts, where there are kubectl and helm; test/fault/deploy-cluster.fault.test.ts brings Helm's engine.
  (test) => !isInstalled('kubectl') && /deploy-(files|manifests)/.test(test.file),
  (test) => !isInstalled('helm') && /deploy-manifests/.test(test.file) && /rendered by helm/.test(test.name),
];

let passed = 0;
let failed = 0;
for (const file of report.testResults) {
  if (file.status === 'failed' && file.assertionResults.length === 0) {
    failed += 1;
    console.error(`failed to load: ${file.name}`);
  }
  for (const test of file.assertionResults) {
    if (test.status === 'passed') {
      passed += 1;
    } else if (test.status === 'failed') {
      failed += 1;
    } else {
      const skipped = { file: file.name, name: test.fullName };
      const fine = expected.some((allows) => allows(skipped));
      console.error(`skipped${fine ? '' : ' without an expected reason'}: ${test.fullName}`);
      failed += fine ? 0 : 1;
    }
  }
}
console.log(`${passed} ${failed}`);
