#ifndef DEKD_CORE_DATA_KEY_H_
#define DEKD_CORE_DATA_KEY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "aead.h"
#include "key_table.h"
#include "status.h"

namespace dekd {

// A data key is made for one message, from which the key of its body is derived (message.h). It travels in the header,
// encrypted; here under a message key of the keystore, in the layout that raw AES keyrings of the AWS Encryption SDK
// read: provider info is name | u32 bits of the tag | u32 bytes of the nonce | nonce, and the encrypted data key is
// ciphertext 32 | tag 16.
//
// The name is hex(kid of the message key) "." hex(epoch). The wrapping key is HKDF-SHA-256(message key, empty salt,
// "dekd/v1/edk" | epoch), so that no wrapping key sees more random nonces than SP 800-38D 8.3 allows: an epoch is drawn
// by a thread and serves kWrapsAnEpoch wraps at most.
inline constexpr KeyUse kDataKeyUse{Algorithm::kEsdk0478, Purpose::kWrap};
inline constexpr KeyUse kMessageKeyUse{Algorithm::kEsdk0478, Purpose::kMessage};

inline constexpr size_t kEpochLength = 12;
inline constexpr uint32_t kWrapsAnEpoch = 1U << 28;
inline constexpr size_t kDataKeyNameLength = 2 * kKidLength + 1 + 2 * kEpochLength;
inline constexpr size_t kDataKeyInfoLength = kDataKeyNameLength + 8 + kGcmNonceLength;
inline constexpr size_t kEncryptedDataKeyLength = kKeyLength + kTagLength;
static_assert(kDataKeyInfoLength == 77);

using Epoch = std::array<uint8_t, kEpochLength>;

// EpochBudget gives an epoch for each wrap, and draws the next one when `wraps` have had it. One thread.
class EpochBudget final {
 public:
  explicit EpochBudget(uint32_t wraps = kWrapsAnEpoch) : wraps_(wraps) {}

  // kRandomFailed when there is no next epoch; the old one is then not given out again.
  Status next(Epoch& out);

 private:
  const uint32_t wraps_;
  uint32_t left_ = 0;
  Epoch epoch_{};
};

// wrap_data_key encrypts `data_key` under `message_key`. `context` is the serialised encryption context of the message,
// the whole of it. Any thread.
Status wrap_data_key(KeyTable& table, KeyHandle message_key, KeyHandle data_key, std::span<const uint8_t> context,
                     std::span<uint8_t, kDataKeyInfoLength> info, std::span<uint8_t, kEncryptedDataKeyLength> out);

// unwrap_data_key puts the data key into the table; the plaintext is never anywhere else. kAuthenticationFailed for
// anything that wrap_data_key with the same message key and context did not write.
Result<KeyHandle> unwrap_data_key(KeyTable& table, KeyHandle message_key, std::span<const uint8_t> info,
                                  std::span<const uint8_t> encrypted, std::span<const uint8_t> context, uint32_t owner);

// A key from elsewhere under which data keys are wrapped as raw AES keyrings do it: with the key itself, so that whoever
// has it opens the message with their software. Nonces are random, so one such key is good for 2^32 wraps (SP 800-38D 8.3).
inline constexpr KeyUse kRawAesUse{Algorithm::kAes256Gcm, Purpose::kWrap};

// Bytes of the provider info behind the name of the wrapping key.
inline constexpr size_t kRawAesInfoTail = 8 + kGcmNonceLength;

// wrap_data_key_under encrypts `data_key` under `wrapping_key`, a key for kRawAesUse whose name is `name`; `info` is
// kRawAesInfoTail bytes longer than that. Any thread.
Status wrap_data_key_under(KeyTable& table, KeyHandle wrapping_key, std::span<const uint8_t> name, KeyHandle data_key,
                           std::span<const uint8_t> context, std::span<uint8_t> info,
                           std::span<uint8_t, kEncryptedDataKeyLength> out);

// unwrap_data_key_under is the reverse; the plaintext is never anywhere but in the table. kAuthenticationFailed for anything
// that is not of this key, name and context.
Result<KeyHandle> unwrap_data_key_under(KeyTable& table, KeyHandle wrapping_key, std::span<const uint8_t> name,
                                        std::span<const uint8_t> info, std::span<const uint8_t> encrypted,
                                        std::span<const uint8_t> context, uint32_t owner);

}  // namespace dekd

#endif  // DEKD_CORE_DATA_KEY_H_
