#ifndef DEKD_CORE_RANDOM_H_
#define DEKD_CORE_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "status.h"

namespace dekd {

// fill_random fills `out` from getrandom(2), with no buffer between: for keys and anything else that must not have been
// in ordinary memory before. Any thread. Returns kRandomFailed when the kernel gives nothing; `out` is then zero.
Status fill_random(std::span<uint8_t> out);

// draw_nonce fills `out` (at most kRandomBuffer bytes) from the calling thread's buffer, which getrandom(2) refills.
//
// The buffer lies in pages that a forked child sees as zeros (MADV_WIPEONFORK); an epoch word in the same pages is
// checked at each draw, so a child finds the word gone and draws anew instead of repeating its parent. Bytes are wiped
// as they are given out. A virtual machine that is resumed twice is not noticed by any of this: see
// set_snapshot_safe.
Status draw_nonce(std::span<uint8_t> out);

// set_snapshot_safe(true) makes every draw a getrandom(2) call, for processes whose memory may be restored more than
// once. Process-wide, effective from the next draw of each thread.
void set_snapshot_safe(bool on);

// Bytes a thread's buffer holds when full, its header included: one page, and no more, since what is drawn ahead is
// what a snapshot could repeat.
inline constexpr size_t kRandomBuffer = 4096;

}  // namespace dekd

#endif  // DEKD_CORE_RANDOM_H_
