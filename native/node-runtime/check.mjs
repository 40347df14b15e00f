// Says in one line what is wrong when the agent is started on a Node that is too old for it. Old syntax on purpose:
// it must run on the very versions that it refuses.

const MAJOR = 24;
const MINOR = 15;

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < MAJOR || (major === MAJOR && minor < MINOR)) {
  console.error(
    `dekd needs Node ${MAJOR}.${MINOR} or newer, you have ${process.versions.node}; ` +
      'npm ci without --omit=optional brings one',
  );
  process.exit(1);
}
