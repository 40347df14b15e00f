#include "key_wrap.h"

#include <array>
#include <cstring>
#include <string_view>

#include "bytes.h"
#include "random.h"
#include "secret.h"

namespace dekd {
namespace {

constexpr uint8_t kWrapVersion = 1;
constexpr KeyUse kWrapUse{Algorithm::kHkdfSha256, Purpose::kWrap};

std::string_view name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kXaes256Gcm:
      return "xaes-256-gcm";
    case Algorithm::kEsdk0478:
      return "esdk-0478";
    case Algorithm::kHkdfSha256:
      return "hkdf-sha-256";
    case Algorithm::kHmacSha256:
      return "hmac-sha-256";
    case Algorithm::kAes256Gcm:
      return "aes-256-gcm";
  }
  return "";
}

std::string_view name_of(Purpose purpose) {
  switch (purpose) {
    case Purpose::kSeal:
      return "seal";
    case Purpose::kWrap:
      return "wrap";
    case Purpose::kMessage:
      return "message";
    case Purpose::kMac:
      return "mac";
    case Purpose::kIndex:
      return "index";
  }
  return "";
}

// Keys `gcm` for wrapping under `parent` with `nonce`.
Status start_wrap(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, Gcm& gcm,
                  std::span<const uint8_t, kXaesNonceLength> nonce) {
  KeyTable::Lease lease;
  Secret<kKeyLength> wrapping_key;
  Secret<kBlockLength> k1;
  Status status = table.lend(parent, kWrapUse, lease);
  if (status == Status::kOk) {
    status = hkdf_sha_256(lease.key(), {}, label, wrapping_key.bytes());
  }
  if (status == Status::kOk) {
    status = xaes_k1(wrapping_key.bytes(), k1.bytes());
  }
  return status == Status::kOk ? xaes_start(gcm, wrapping_key.bytes(), k1.bytes(), nonce) : status;
}

}  // namespace

Status key_id(std::span<const uint8_t, kKeyLength> key, KeyUse use, std::span<uint8_t, kKidLength> kid) {
  const std::string_view algorithm = name_of(use.algorithm);
  const std::string_view purpose = name_of(use.purpose);
  const uint8_t lengths[] = {static_cast<uint8_t>(algorithm.size()), static_cast<uint8_t>(purpose.size())};
  const std::span<const uint8_t> both(lengths);
  std::array<uint8_t, kDigestLength> digest;
  const Status status = hmac_sha_256(
      key, {bytes_of("dekd/v1/kid"), both.first(1), bytes_of(algorithm), both.last(1), bytes_of(purpose)}, digest);
  std::memcpy(kid.data(), digest.data(), kid.size());
  return status;
}

Result<KeyHandle> finish_key(KeyTable::Reservation& reservation, KeyUse use) {
  KeySlot& slot = reservation.slot();
  Status status = key_id(slot.key, use, slot.kid);
  if (status == Status::kOk && use.algorithm == Algorithm::kXaes256Gcm) {
    status = xaes_k1(slot.key, slot.xaes_k1);
  }
  if (status != Status::kOk) {
    return status;
  }
  return reservation.publish();
}

Result<KeyHandle> generate_key(KeyTable& table, KeyUse use, uint32_t owner) {
  const StackScrub scrub;
  KeyTable::Reservation reservation;
  Status status = table.reserve(use, owner, reservation);
  if (status == Status::kOk) {
    status = fill_random(reservation.slot().key);
  }
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, use);
}

Status wrap_key(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, KeyHandle key,
                std::span<const uint8_t> aad, std::span<uint8_t, kWrappedKeyLength> out) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  if (!table.lease(key, lease)) {
    return Status::kStaleKey;
  }
  const std::span<uint8_t, kXaesNonceLength> nonce = out.subspan<1, kXaesNonceLength>();
  Status status = draw_nonce(nonce);
  if (status != Status::kOk) {
    return status;
  }
  out[0] = kWrapVersion;
  Gcm gcm(Direction::kSeal);
  status = start_wrap(table, parent, label, gcm, nonce);
  if (status != Status::kOk) {
    return status;
  }
  return gcm.seal(aad, lease.key(), out.data() + 1 + kXaesNonceLength, out.last<kTagLength>());
}

Result<KeyHandle> unwrap_key(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label,
                             std::span<const uint8_t> wrapped, std::span<const uint8_t> aad, KeyUse use,
                             uint32_t owner) {
  const StackScrub scrub;
  if (wrapped.size() != kWrappedKeyLength || wrapped[0] != kWrapVersion) {
    return Status::kAuthenticationFailed;
  }
  KeyTable::Reservation reservation;
  Status status = table.reserve(use, owner, reservation);
  if (status != Status::kOk) {
    return status;
  }
  Gcm gcm(Direction::kOpen);
  status = start_wrap(table, parent, label, gcm, wrapped.subspan<1, kXaesNonceLength>());
  if (status == Status::kOk) {
    status = gcm.open(aad, wrapped.subspan<1 + kXaesNonceLength, kKeyLength>(), wrapped.last<kTagLength>(),
                      reservation.slot().key);
  }
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, use);
}

Result<KeyHandle> derive_key(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, KeyUse use,
                             uint32_t owner) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  Status status = table.lend(parent, kWrapUse, lease);
  if (status != Status::kOk) {
    return status;
  }
  KeyTable::Reservation reservation;
  status = table.reserve(use, owner, reservation);
  if (status == Status::kOk) {
    status = hkdf_sha_256(lease.key(), {}, label, reservation.slot().key);
  }
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, use);
}

Status mac_with(KeyTable& table, KeyHandle parent, std::span<const uint8_t> label, std::span<const uint8_t> data,
                std::span<uint8_t, kDigestLength> out) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  if (!table.lease(parent, lease)) {
    return Status::kStaleKey;
  }
  if (lease.use().algorithm != (label.empty() ? Algorithm::kHmacSha256 : Algorithm::kHkdfSha256)) {
    return Status::kWrongUse;
  }
  if (label.empty()) {
    return hmac_sha_256(lease.key(), {data}, out);
  }
  Secret<kDigestLength> key;
  const Status status = hkdf_sha_256(lease.key(), {}, label, key.bytes());
  return status == Status::kOk ? hmac_sha_256(key.bytes(), {data}, out) : status;
}

}  // namespace dekd
