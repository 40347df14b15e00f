#ifndef DEKD_CORE_HMAC_H_
#define DEKD_CORE_HMAC_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "status.h"

namespace dekd {

inline constexpr size_t kDigestLength = 32;
inline constexpr size_t kLongDigestLength = 64;

// hmac_sha_256 computes HMAC-SHA-256 (RFC 2104) of the concatenation of `parts` under `key`.
// Built on the digest alone: OpenSSL's own HMAC keeps copies of the key in contexts that outlive the call.
Status hmac_sha_256(std::span<const uint8_t> key, std::initializer_list<std::span<const uint8_t>> parts,
                    std::span<uint8_t, kDigestLength> out);

// hkdf_sha_256 derives `out` from `secret`, `salt` and `info` (RFC 5869). `out` is at most 255 digests long.
Status hkdf_sha_256(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::span<const uint8_t> info,
                    std::span<uint8_t> out);

// The same with SHA-512, whose digests are kLongDigestLength long.
Status hkdf_sha_512(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::span<const uint8_t> info,
                    std::span<uint8_t> out);

}  // namespace dekd

#endif  // DEKD_CORE_HMAC_H_
