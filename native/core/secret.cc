#include "secret.h"

#include <cstring>

namespace dekd {

// Not inlined: the buffer must lie where the frames of the calls before it were.
[[gnu::noinline]] void scrub_stack() {
  uint8_t frames[kScrubbedStack];
  std::memset(frames, 0, sizeof frames);
  // The buffer escapes here, so the stores above are not dead.
  __asm__ volatile("" : : "r"(frames) : "memory");
}

}  // namespace dekd
