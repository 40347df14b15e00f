#ifndef DEKD_CORE_PRIVATE_MEMORY_H_
#define DEKD_CORE_PRIVATE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace dekd {

// private_memory lends the calling thread `size` bytes that nobody else has, for plaintext that must not be seen before
// it is verified. They lie in one mapping a thread, which is made anew only when it is too small, is in no core file and
// no child, and is the next borrower's as it was left: wipe it. Empty when there is no memory.
std::span<uint8_t> private_memory(size_t size);

// release_private_memory gives the calling thread's mapping back to the system.
void release_private_memory();

}  // namespace dekd

#endif  // DEKD_CORE_PRIVATE_MEMORY_H_
