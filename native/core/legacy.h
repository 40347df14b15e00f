#ifndef DEKD_CORE_LEGACY_H_
#define DEKD_CORE_LEGACY_H_

#include <cstdint>
#include <span>

#include "aead.h"
#include "key_table.h"
#include "status.h"

namespace dekd {

// A key from elsewhere, of an application that sealed values itself: AES-256-GCM with a 96-bit nonce, a 128-bit tag and no
// additional data. Nothing here seals with such a key.
inline constexpr KeyUse kLegacyUse{Algorithm::kAes256Gcm, Purpose::kSeal};

// open_legacy opens `sealed`, ciphertext | tag, which `key` of use kLegacyUse has sealed. `out` is kTagLength bytes shorter
// and does not overlap; it is zeros unless the result is kOk. kAuthenticationFailed when `sealed` is shorter than a tag.
Status open_legacy(KeyTable& table, KeyHandle key, std::span<const uint8_t, kGcmNonceLength> nonce,
                   std::span<const uint8_t> sealed, std::span<uint8_t> out);

}  // namespace dekd

#endif  // DEKD_CORE_LEGACY_H_
