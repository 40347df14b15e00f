import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, removeFolder } from '../temporary-folder.ts';

/** A self-signed certificate for 127.0.0.1 and localhost, and its key, both PEM; made anew at each call. */
export function selfSigned(): { certificate: string; key: string } {
  const folder = makeFolder();
  try {
    const [certificate, key] = [join(folder, 'certificate'), join(folder, 'key')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
    execFileSync(
      'openssl',
      ['req', '-x509', '-nodes', '-days', '2', ...curve, ...subject, '-keyout', key, '-out', certificate],
      { stdio: 'pipe' },
    );
    return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    removeFolder(folder);
  }
}
