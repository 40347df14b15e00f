#ifndef DEKD_CORE_AEAD_H_
#define DEKD_CORE_AEAD_H_

#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>

#include "openssl_ptr.h"
#include "status.h"

namespace dekd {

inline constexpr size_t kGcmNonceLength = 12;
inline constexpr size_t kTagLength = 16;
// OpenSSL counts bytes in an int. Far below the 2^36 - 32 bytes of one message in SP 800-38D 5.2.1.1.
inline constexpr size_t kMaxMessageLength = static_cast<size_t>(INT_MAX) - 64;

enum class Direction { kSeal, kOpen };

// Gcm is AES-256-GCM under one key for the length of a scope.
//
// OpenSSL keeps the expanded key in its context, on the ordinary heap. The calling thread has one context a direction;
// a Gcm borrows it, and its end overwrites the key schedule and hash tables by keying the context with zeros, which
// costs less than freeing it. At most one Gcm a thread and direction is alive at a time.
class Gcm final {
 public:
  explicit Gcm(Direction direction);
  ~Gcm();
  Gcm(const Gcm&) = delete;
  Gcm& operator=(const Gcm&) = delete;

  // start sets key and nonce; next_nonce keeps the key. A nonce must never be used twice with one key to seal.
  Status start(std::span<const uint8_t, 32> key, std::span<const uint8_t, kGcmNonceLength> nonce);
  Status next_nonce(std::span<const uint8_t, kGcmNonceLength> nonce);

  // seal encrypts `plaintext` to `out` (same length) and writes the tag. Regions must not overlap.
  // `plaintext` is at most kMaxMessageLength bytes.
  Status seal(std::span<const uint8_t> aad, std::span<const uint8_t> plaintext, uint8_t* out,
              std::span<uint8_t, kTagLength> tag);

  // open decrypts `ciphertext` to `out` (same length) if the tag is right; else `out` is zeros and the result is
  // kAuthenticationFailed.
  Status open(std::span<const uint8_t> aad, std::span<const uint8_t> ciphertext,
              std::span<const uint8_t, kTagLength> tag, uint8_t* out);

  // The same in pieces: the AAD once, then parts in order, then the end, which makes or checks the tag. Of what open_part
  // gave, nothing may be shown to anyone before open_end has said kOk.
  Status begin(std::span<const uint8_t> aad);
  Status seal_part(std::span<const uint8_t> plaintext, uint8_t* out);
  Status seal_end(std::span<uint8_t, kTagLength> tag);
  Status open_part(std::span<const uint8_t> ciphertext, uint8_t* out);
  Status open_end(std::span<const uint8_t, kTagLength> tag);

 private:
  EVP_CIPHER_CTX* const context_;
  const Direction direction_;
};

// encrypt_two_blocks writes AES-256(key, in[0:16]) and AES-256(key, in[16:32]) to `out`. The schedule of the key lies in
// a context of the thread, on the heap, until the function returns, and is overwritten then.
Status encrypt_two_blocks(std::span<const uint8_t, 32> key, std::span<const uint8_t, 32> in,
                          std::span<uint8_t, 32> out);

}  // namespace dekd

#endif  // DEKD_CORE_AEAD_H_
