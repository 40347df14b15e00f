#ifndef DEKD_CORE_XAES_H_
#define DEKD_CORE_XAES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "aead.h"
#include "status.h"

namespace dekd {

// XAES-256-GCM (C2SP): AES-256-GCM with a 24-byte nonce that may be drawn at random. The first half of the nonce gives
// a key of its own (SP 800-108r1, counter mode with CMAC, label "X"), the second half is that key's GCM nonce.
inline constexpr size_t kXaesNonceLength = 24;
// The part of the nonce that chooses the derived key.
inline constexpr size_t kXaesPrefixLength = 12;

// xaes_k1 computes the CMAC subkey K1 of `key` (SP 800-38B 6.1), which is kept beside the key: with it a derivation is
// two blocks instead of three.
Status xaes_k1(std::span<const uint8_t, 32> key, std::span<uint8_t, 16> k1);

// xaes_subkey derives the GCM key for nonces that begin with `prefix`. `out` is key material: wipe it.
Status xaes_subkey(std::span<const uint8_t, 32> key, std::span<const uint8_t, 16> k1,
                   std::span<const uint8_t, kXaesPrefixLength> prefix, std::span<uint8_t, 32> out);

// xaes_start keys `gcm` for one nonce.
Status xaes_start(Gcm& gcm, std::span<const uint8_t, 32> key, std::span<const uint8_t, 16> k1,
                  std::span<const uint8_t, kXaesNonceLength> nonce);

}  // namespace dekd

#endif  // DEKD_CORE_XAES_H_
