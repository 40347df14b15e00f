#ifndef DEKD_CORE_GIVEN_NONCE_H_
#define DEKD_CORE_GIVEN_NONCE_H_

#include <cstdint>
#include <span>

#include "aead.h"
#include "status.h"
#include "xaes.h"

namespace dekd {

// The ciphers with the caller's own key and nonce, through the functions that tokens use: for the self-test and for
// published vectors. Nothing that an application can reach takes a nonce.
//
// Sealed bytes are ciphertext | tag, kTagLength more than the plaintext. Opening anything else than what was sealed
// gives kAuthenticationFailed and zeros. Buffers of other sizes give kInvalidArgument.

Status gcm_seal(std::span<const uint8_t, 32> key, std::span<const uint8_t, kGcmNonceLength> nonce,
                std::span<const uint8_t> aad, std::span<const uint8_t> plaintext, std::span<uint8_t> out);
Status gcm_open(std::span<const uint8_t, 32> key, std::span<const uint8_t, kGcmNonceLength> nonce,
                std::span<const uint8_t> aad, std::span<const uint8_t> sealed, std::span<uint8_t> out);
Status xaes_seal(std::span<const uint8_t, 32> key, std::span<const uint8_t, kXaesNonceLength> nonce,
                 std::span<const uint8_t> aad, std::span<const uint8_t> plaintext, std::span<uint8_t> out);
Status xaes_open(std::span<const uint8_t, 32> key, std::span<const uint8_t, kXaesNonceLength> nonce,
                 std::span<const uint8_t> aad, std::span<const uint8_t> sealed, std::span<uint8_t> out);

}  // namespace dekd

#endif  // DEKD_CORE_GIVEN_NONCE_H_
