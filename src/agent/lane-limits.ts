/** What the bulk lane may hold open, for itself and for who counts descriptors. */

/** Lane connections that have said nothing yet. */
export const MAX_WAITING = 64;
/** Pairs of files that no call has named yet, of all connections together; one caller may have half of them. */
export const MAX_PASSED = 64;
/** Pairs of descriptors whose file system lets wait for it; beyond that, none is taken. */
export const MAX_LOOKS = 16;
/** Pairs of files in work: each keeps one of the four threads busy that the process has for its files. */
export const MAX_FILES_IN_WORK = 2;
/** Descriptors: socket, lock, connections, files that wait, are looked at or are in work. */
export const LANE_DESCRIPTORS = 2 + MAX_WAITING + 2 * (MAX_PASSED + MAX_LOOKS + MAX_FILES_IN_WORK);
