#ifndef DEKD_CORE_KEY_WRAP_H_
#define DEKD_CORE_KEY_WRAP_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "hmac.h"
#include "key_table.h"
#include "status.h"
#include "xaes.h"

namespace dekd {

// A wrapped key: 01 | nonce 24 | ciphertext 32 | tag 16.
inline constexpr size_t kWrappedKeyLength = 1 + kXaesNonceLength + kKeyLength + kTagLength;
static_assert(kWrappedKeyLength == 73);

// finish_key computes what a slot holds beside its key (kid, K1) and publishes the key. Every key enters the table
// through here.
Result<KeyHandle> finish_key(KeyTable::Reservation& reservation, KeyUse use);

// key_id computes HMAC-SHA-256(key, "dekd/v1/kid" | u8 length | algorithm | u8 length | purpose), first 16 bytes: it
// commits to the key and to its use.
Status key_id(std::span<const uint8_t, kKeyLength> key, KeyUse use, std::span<uint8_t, kKidLength> kid);

// generate_key makes a random key of `use` that belongs to `owner`.
Result<KeyHandle> generate_key(KeyTable& table, KeyUse use, uint32_t owner);

// wrap_key wraps `key` with XAES-256-GCM under HKDF-SHA-256(`parent`, label). The parent's purpose is kWrap.
Status wrap_key(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, KeyHandle key,
                std::span<const uint8_t> aad, std::span<uint8_t, kWrappedKeyLength> out);

// unwrap_key puts the wrapped key into the table; the plaintext is never anywhere else. kAuthenticationFailed for
// anything that wrap_key with the same parent, label and aad did not write.
Result<KeyHandle> unwrap_key(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label,
                             std::span<const uint8_t> wrapped, std::span<const uint8_t> aad, KeyUse use,
                             uint32_t owner);

// derive_key puts HKDF-SHA-256(`parent`, label) into the table as a key of `use`; nobody can go back from it to the parent,
// which stays. kWrongUse unless the parent's algorithm is kHkdfSha256.
Result<KeyHandle> derive_key(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, KeyUse use,
                             uint32_t owner);

// mac_with computes HMAC-SHA-256 of `data` under HKDF-SHA-256(`parent`, label), or under `parent` itself when `label`
// is empty; then the parent's algorithm must be kHmacSha256, and with a label kHkdfSha256.
Status mac_with(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, std::span<const uint8_t> data,
                std::span<uint8_t, kDigestLength> out);

}  // namespace dekd

#endif  // DEKD_CORE_KEY_WRAP_H_
