import { followPage } from '../support/followed-page.ts';

followPage('docs/runbook.md', {
  'aws kms rotate-key-on-demand --key-id alias/dekd': ({ kms, key }) => kms.rotate(key),
});
