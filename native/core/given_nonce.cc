#include "given_nonce.h"

#include "secret.h"

namespace dekd {
namespace {

Status seal_started(Status started, Gcm& gcm, std::span<const uint8_t> aad, std::span<const uint8_t> plaintext,
                    std::span<uint8_t> out) {
  if (out.size() < kTagLength || out.size() - kTagLength != plaintext.size()) {
    return Status::kInvalidArgument;
  }
  return started == Status::kOk ? gcm.seal(aad, plaintext, out.data(), out.last<kTagLength>()) : started;
}

Status open_started(Status started, Gcm& gcm, std::span<const uint8_t> aad, std::span<const uint8_t> sealed,
                    std::span<uint8_t> out) {
  if (sealed.size() < kTagLength || sealed.size() - kTagLength != out.size()) {
    return Status::kInvalidArgument;
  }
  return started == Status::kOk ? gcm.open(aad, sealed.first(out.size()), sealed.last<kTagLength>(), out.data())
                                : started;
}

Status start_xaes(Gcm& gcm, std::span<const uint8_t, 32> key, std::span<const uint8_t, kXaesNonceLength> nonce) {
  Secret<16> k1;
  const Status status = xaes_k1(key, k1.bytes());
  return status == Status::kOk ? xaes_start(gcm, key, k1.bytes(), nonce) : status;
}

}  // namespace

Status gcm_seal(std::span<const uint8_t, 32> key, std::span<const uint8_t, kGcmNonceLength> nonce,
                std::span<const uint8_t> aad, std::span<const uint8_t> plaintext, std::span<uint8_t> out) {
  const StackScrub scrub;
  Gcm gcm(Direction::kSeal);
  return seal_started(gcm.start(key, nonce), gcm, aad, plaintext, out);
}

Status gcm_open(std::span<const uint8_t, 32> key, std::span<const uint8_t, kGcmNonceLength> nonce,
                std::span<const uint8_t> aad, std::span<const uint8_t> sealed, std::span<uint8_t> out) {
  const StackScrub scrub;
  Gcm gcm(Direction::kOpen);
  return open_started(gcm.start(key, nonce), gcm, aad, sealed, out);
}

Status xaes_seal(std::span<const uint8_t, 32> key, std::span<const uint8_t, kXaesNonceLength> nonce,
                 std::span<const uint8_t> aad, std::span<const uint8_t> plaintext, std::span<uint8_t> out) {
  const StackScrub scrub;
  Gcm gcm(Direction::kSeal);
  return seal_started(start_xaes(gcm, key, nonce), gcm, aad, plaintext, out);
}

Status xaes_open(std::span<const uint8_t, 32> key, std::span<const uint8_t, kXaesNonceLength> nonce,
                 std::span<const uint8_t> aad, std::span<const uint8_t> sealed, std::span<uint8_t> out) {
  const StackScrub scrub;
  Gcm gcm(Direction::kOpen);
  return open_started(start_xaes(gcm, key, nonce), gcm, aad, sealed, out);
}

}  // namespace dekd
