#include "data_key.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "bytes.h"
#include "hmac.h"
#include "key_wrap.h"
#include "random.h"
#include "secret.h"

namespace dekd {
namespace {

constexpr std::string_view kLabel = "dekd/v1/edk";
constexpr std::string_view kDigits = "0123456789abcdef";

// A forked child goes on with its parent's epoch, which counts its wraps twice at worst: nonces are drawn, and the count
// is far below what they are good for.
thread_local EpochBudget epochs;

uint8_t* put_hex(std::span<const uint8_t> bytes, uint8_t* out) {
  for (const uint8_t byte : bytes) {
    *out++ = static_cast<uint8_t>(kDigits[byte >> 4]);
    *out++ = static_cast<uint8_t>(kDigits[byte & 15]);
  }
  return out;
}

// What stands between name and nonce in a provider info.
void put_lengths(uint8_t* out) {
  put_big_endian(8 * kTagLength, 4, out);
  put_big_endian(kGcmNonceLength, 4, out + 4);
}

// Everything of the provider info but the nonce.
void put_head(std::span<const uint8_t, kKidLength> kid, const Epoch& of, uint8_t* out) {
  out = put_hex(kid, out);
  *out++ = '.';
  put_lengths(put_hex(of, out));
}

// The epoch in a name, whatever else the name says; anything that is no digit counts as 0, and is found out by comparing
// the name as a whole.
Epoch epoch_in(std::span<const uint8_t> info) {
  Epoch found{};
  const uint8_t* const digits = info.data() + 2 * kKidLength + 1;
  for (size_t i = 0; i < 2 * kEpochLength; ++i) {
    const size_t value = kDigits.find(static_cast<char>(digits[i]));
    const uint8_t nibble = value == std::string_view::npos ? 0 : static_cast<uint8_t>(value);
    found[i / 2] = static_cast<uint8_t>((found[i / 2] << 4) | nibble);
  }
  return found;
}

// Keys `gcm` for wrapping under the message key in `lease`.
Status start(const KeyTable::Lease& lease, const Epoch& of, Gcm& gcm,
             std::span<const uint8_t, kGcmNonceLength> nonce) {
  std::array<uint8_t, kLabel.size() + kEpochLength> label;
  std::memcpy(label.data(), kLabel.data(), kLabel.size());
  std::memcpy(label.data() + kLabel.size(), of.data(), of.size());
  Secret<kKeyLength> wrapping_key;
  const Status status = hkdf_sha_256(lease.key(), {}, label, wrapping_key.bytes());
  return status == Status::kOk ? gcm.start(wrapping_key.bytes(), nonce) : status;
}

}  // namespace

Status EpochBudget::next(Epoch& out) {
  if (left_ == 0) {
    const Status status = draw_nonce(epoch_);
    if (status != Status::kOk) {
      return status;
    }
    left_ = wraps_;
  }
  --left_;
  out = epoch_;
  return Status::kOk;
}

Status wrap_data_key(KeyTable& table, KeyHandle message_key, KeyHandle data_key, std::span<const uint8_t> context,
                     std::span<uint8_t, kDataKeyInfoLength> info, std::span<uint8_t, kEncryptedDataKeyLength> out) {
  const StackScrub scrub;
  KeyTable::Lease under;
  KeyTable::Lease wrapped;
  Status status = table.lend(message_key, kMessageKeyUse, under);
  if (status == Status::kOk) {
    status = table.lend(data_key, kDataKeyUse, wrapped);
  }
  Epoch now;
  if (status == Status::kOk) {
    status = epochs.next(now);
  }
  const auto nonce = info.last<kGcmNonceLength>();
  if (status == Status::kOk) {
    status = draw_nonce(nonce);
  }
  if (status != Status::kOk) {
    return status;
  }
  put_head(under.kid(), now, info.data());
  Gcm gcm(Direction::kSeal);
  status = start(under, now, gcm, nonce);
  return status == Status::kOk ? gcm.seal(context, wrapped.key(), out.data(), out.last<kTagLength>()) : status;
}

Result<KeyHandle> unwrap_data_key(KeyTable& table, KeyHandle message_key, std::span<const uint8_t> info,
                                  std::span<const uint8_t> encrypted, std::span<const uint8_t> context,
                                  uint32_t owner) {
  const StackScrub scrub;
  KeyTable::Lease under;
  Status status = table.lend(message_key, kMessageKeyUse, under);
  if (status == Status::kOk && (info.size() != kDataKeyInfoLength || encrypted.size() != kEncryptedDataKeyLength)) {
    status = Status::kAuthenticationFailed;
  }
  if (status != Status::kOk) {
    return status;
  }
  KeyTable::Reservation reservation;
  status = table.reserve(kDataKeyUse, owner, reservation);
  if (status != Status::kOk) {
    return status;
  }
  const Epoch then = epoch_in(info);
  Gcm gcm(Direction::kOpen);
  status = start(under, then, gcm, info.last<kGcmNonceLength>());
  if (status == Status::kOk) {
    status = gcm.open(context, encrypted.first<kKeyLength>(), encrypted.last<kTagLength>(), reservation.slot().key);
  }
  // Compared after the work, so that another name costs what a wrong tag does.
  std::array<uint8_t, kDataKeyInfoLength - kGcmNonceLength> head;
  put_head(under.kid(), then, head.data());
  if (status == Status::kOk && CRYPTO_memcmp(head.data(), info.data(), head.size()) != 0) {
    status = Status::kAuthenticationFailed;
  }
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, kDataKeyUse);
}

Status wrap_data_key_under(KeyTable& table, KeyHandle wrapping_key, std::span<const uint8_t> name, KeyHandle data_key,
                           std::span<const uint8_t> context, std::span<uint8_t> info,
                           std::span<uint8_t, kEncryptedDataKeyLength> out) {
  const StackScrub scrub;
  KeyTable::Lease under;
  KeyTable::Lease wrapped;
  Status status = info.size() == name.size() + kRawAesInfoTail ? Status::kOk : Status::kInvalidArgument;
  if (status == Status::kOk) {
    status = table.lend(wrapping_key, kRawAesUse, under);
  }
  if (status == Status::kOk) {
    status = table.lend(data_key, kDataKeyUse, wrapped);
  }
  if (status != Status::kOk) {
    return status;
  }
  const auto nonce = info.last<kGcmNonceLength>();
  status = draw_nonce(nonce);
  if (status != Status::kOk) {
    return status;
  }
  std::copy(name.begin(), name.end(), info.begin());
  put_lengths(info.data() + name.size());
  Gcm gcm(Direction::kSeal);
  status = gcm.start(under.key(), nonce);
  return status == Status::kOk ? gcm.seal(context, wrapped.key(), out.data(), out.last<kTagLength>()) : status;
}

Result<KeyHandle> unwrap_data_key_under(KeyTable& table, KeyHandle wrapping_key, std::span<const uint8_t> name,
                                        std::span<const uint8_t> info, std::span<const uint8_t> encrypted,
                                        std::span<const uint8_t> context, uint32_t owner) {
  const StackScrub scrub;
  KeyTable::Lease under;
  Status status = table.lend(wrapping_key, kRawAesUse, under);
  if (status != Status::kOk) {
    return status;
  }
  // None of this is secret.
  uint8_t lengths[8];
  put_lengths(lengths);
  if (info.size() != name.size() + kRawAesInfoTail || encrypted.size() != kEncryptedDataKeyLength ||
      !std::equal(name.begin(), name.end(), info.begin()) ||
      !std::equal(lengths, lengths + sizeof lengths, info.begin() + static_cast<ptrdiff_t>(name.size()))) {
    return Status::kAuthenticationFailed;
  }
  KeyTable::Reservation reservation;
  status = table.reserve(kDataKeyUse, owner, reservation);
  if (status != Status::kOk) {
    return status;
  }
  Gcm gcm(Direction::kOpen);
  status = gcm.start(under.key(), info.last<kGcmNonceLength>());
  if (status == Status::kOk) {
    status = gcm.open(context, encrypted.first<kKeyLength>(), encrypted.last<kTagLength>(), reservation.slot().key);
  }
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, kDataKeyUse);
}

}  // namespace dekd
