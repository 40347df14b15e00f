#include "legacy.h"

#include "bytes.h"
#include "secret.h"

namespace dekd {

Status open_legacy(KeyTable& table, KeyHandle key, std::span<const uint8_t, kGcmNonceLength> nonce,
                   std::span<const uint8_t> sealed, std::span<uint8_t> out) {
  const StackScrub scrub;
  if (sealed.size() < kTagLength) {
    return out.empty() ? Status::kAuthenticationFailed : Status::kInvalidArgument;
  }
  const std::span<const uint8_t> ciphertext = sealed.first(sealed.size() - kTagLength);
  if (out.size() != ciphertext.size() || ciphertext.size() > kMaxMessageLength || overlap(sealed, out)) {
    return Status::kInvalidArgument;
  }
  KeyTable::Lease lease;
  Status status = table.lend(key, kLegacyUse, lease);
  if (status != Status::kOk) {
    return status;
  }
  Gcm gcm(Direction::kOpen);
  status = gcm.start(lease.key(), nonce);
  return status == Status::kOk ? gcm.open({}, ciphertext, sealed.last<kTagLength>(), out.data()) : status;
}

}  // namespace dekd
