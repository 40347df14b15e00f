#ifndef DEKD_CORE_SECRET_H_
#define DEKD_CORE_SECRET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace dekd {

// wipe overwrites `bytes` with zeros in a way that the compiler may not drop. Not OPENSSL_cleanse, because a seal wipes
// five small things and the compiler can inline this.
inline void wipe(std::span<uint8_t> bytes) {
  if (!bytes.empty()) {
    std::memset(bytes.data(), 0, bytes.size());
  }
  // The bytes are said to be read here, so that the stores above are not dead.
  __asm__ volatile("" : : "r"(bytes.data()) : "memory");
}

// Secret is N bytes that are zero before and after their life. It lives on the stack of the function that needs it,
// for no longer than the call; keys with a longer life are in the key table.
template <size_t N>
class Secret final {
 public:
  Secret() = default;
  ~Secret() { wipe(bytes_); }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  Secret(Secret&&) = delete;
  Secret& operator=(Secret&&) = delete;

  std::span<uint8_t, N> bytes() { return bytes_; }
  std::span<const uint8_t, N> bytes() const { return bytes_; }

 private:
  std::array<uint8_t, N> bytes_{};
};

// Bytes of stack below the caller that scrub_stack clears: opening and wrapping reach 2.9 KiB deep with OpenSSL 3.5
// (found by filling a thread's stack with a pattern first).
inline constexpr size_t kScrubbedStack = 3072;

// scrub_stack overwrites the stack that functions called before it by the same caller have used. Compiled cryptographic
// code may spill key words there, as its compiler and version decide, and nothing else would clear them.
void scrub_stack();

// StackScrub calls scrub_stack when the scope ends. Declare it before anything that handles key bytes.
class StackScrub final {
 public:
  StackScrub() = default;
  ~StackScrub() { scrub_stack(); }
  StackScrub(const StackScrub&) = delete;
  StackScrub& operator=(const StackScrub&) = delete;
};

}  // namespace dekd

#endif  // DEKD_CORE_SECRET_H_
