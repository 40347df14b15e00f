#include "token.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "bytes.h"
#include "private_memory.h"
#include "random.h"
#include "secret.h"

namespace dekd {
namespace {

constexpr uint8_t kMagic = 0xc1;
constexpr uint8_t kSuiteXaes = 0x01;
constexpr KeyUse kTokenUse{Algorithm::kXaes256Gcm, Purpose::kSeal};

using Nonce = std::array<uint8_t, kXaesNonceLength>;

void write_head(std::span<const uint8_t, kKidLength> kid, uint8_t* out) {
  out[0] = kMagic;
  out[1] = kSuiteXaes;
  std::memcpy(out + 2, kid.data(), kKidLength);
}

// Aad joins head and context for one call of OpenSSL, which costs less than two; contexts are not secret. Long ones,
// which are rare, take the heap: false when there is no memory for one.
class Aad final {
 public:
  Aad(const uint8_t* head, std::span<const uint8_t> context) : size_(kTokenHeadLength + context.size()) {
    uint8_t* bytes = near_;
    if (size_ > sizeof near_) {
      far_.reset(new (std::nothrow) uint8_t[size_]);
      bytes = far_.get();
    }
    if (bytes == nullptr) {
      size_ = 0;
      errno = ENOMEM;
      return;
    }
    std::memcpy(bytes, head, kTokenHeadLength);
    if (!context.empty()) {
      std::memcpy(bytes + kTokenHeadLength, context.data(), context.size());
    }
  }

  explicit operator bool() const { return size_ != 0; }
  std::span<const uint8_t> bytes() const { return {far_ == nullptr ? near_ : far_.get(), size_}; }

 private:
  size_t size_;
  uint8_t near_[512];
  std::unique_ptr<uint8_t[]> far_;
};

// Writes the token; `gcm` is keyed for `nonce`. `out` has room for it.
Status seal_with(Gcm& gcm, std::span<const uint8_t, kKidLength> kid, const Nonce& nonce,
                 std::span<const uint8_t> context, std::span<const uint8_t> plaintext, uint8_t* out) {
  write_head(kid, out);
  std::memcpy(out + kTokenHeadLength, nonce.data(), nonce.size());
  uint8_t* const ciphertext = out + kTokenHeadLength + kXaesNonceLength;
  const Aad aad(out, context);
  if (!aad) {
    wipe({out, kTokenHeadLength + kXaesNonceLength});
    return Status::kSystemFailed;
  }
  return gcm.seal(aad.bytes(), plaintext, ciphertext,
                  std::span<uint8_t, kTagLength>(ciphertext + plaintext.size(), kTagLength));
}

// Opens a token of at least kTokenOverhead bytes; `gcm` is keyed for its nonce.
Status open_with(Gcm& gcm, std::span<const uint8_t, kKidLength> kid, std::span<const uint8_t> context,
                 std::span<const uint8_t> token, uint8_t* out) {
  const size_t length = token.size() - kTokenOverhead;
  const uint8_t* const ciphertext = token.data() + kTokenHeadLength + kXaesNonceLength;
  // The token's own head is authenticated, and compared as well: a holder of the key could have sealed another one.
  // Compared after the work, so that a wrong head costs what a wrong tag does.
  const Aad aad(token.data(), context);
  if (!aad) {
    wipe({out, length});
    return Status::kSystemFailed;
  }
  Status status = gcm.open(aad.bytes(), {ciphertext, length},
                           std::span<const uint8_t, kTagLength>(ciphertext + length, kTagLength), out);
  uint8_t head[kTokenHeadLength];
  write_head(kid, head);
  if (CRYPTO_memcmp(head, token.data(), sizeof head) != 0 && status == Status::kOk) {
    wipe({out, length});
    status = Status::kAuthenticationFailed;
  }
  return status;
}

// Adds `index` to the last 12 bytes of the nonce, big-endian, mod 2^96.
Nonce nonce_at(const Nonce& base, uint32_t index) {
  Nonce nonce = base;
  uint64_t carry = index;
  for (size_t i = kXaesNonceLength; i-- > kXaesPrefixLength && carry != 0;) {
    carry += nonce[i];
    nonce[i] = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
  return nonce;
}

bool inside(uint32_t offset, uint64_t length, size_t size) { return offset + length <= size; }

// One row as it was when it was read. The table may be shared memory: each word is read once, then checked, then used.
struct Item final {
  KeyHandle key;
  std::span<const uint8_t> context;
  std::span<const uint8_t> data;
  std::span<uint8_t> out;
};

// The differences in length between a row's data and its output.
struct Shape final {
  size_t grow;
  size_t shrink;
};
constexpr Shape kSealing{kTokenOverhead, 0};
constexpr Shape kOpening{0, kTokenOverhead};

// Reads row `words`. False when the row reaches outside of the buffers or its regions overlap. Data too short for its
// shape has an empty `out`.
bool read_item(const uint32_t* words, Shape shape, std::span<const uint8_t> input,
               std::span<uint8_t> output, Item& item) {
  const uint32_t context_offset = words[kRowContextOffset];
  const uint32_t context_length = words[kRowContextLength];
  const uint32_t data_offset = words[kRowDataOffset];
  const uint32_t data_length = words[kRowDataLength];
  const uint32_t out_offset = words[kRowOutOffset];
  const uint64_t out_length = data_length < shape.shrink ? 0 : uint64_t{data_length} + shape.grow - shape.shrink;
  if (!inside(context_offset, context_length, input.size()) || !inside(data_offset, data_length, input.size()) ||
      !inside(out_offset, out_length, output.size())) {
    return false;
  }
  item = {words[kRowKey], input.subspan(context_offset, context_length), input.subspan(data_offset, data_length),
          output.subspan(out_offset, out_length)};
  return !overlap(item.context, item.out) && !overlap(item.data, item.out);
}

// Looks at every row before the first is worked on, so that a call is either refused or done.
Status check_rows(KeyTable& table, Shape shape, std::span<const uint32_t> rows, std::span<const uint8_t> input,
                  std::span<uint8_t> output) {
  if (rows.size() % kRowWords != 0 || rows.size() / kRowWords > UINT32_MAX) {
    return Status::kInvalidArgument;
  }
  KeyHandle checked = 0;
  for (size_t at = 0; at < rows.size(); at += kRowWords) {
    const uint32_t* const words = rows.data() + at;
    if (words[kRowStatus] == kRowSkip) {
      continue;
    }
    Item item;
    if (!read_item(words, shape, input, output, item)) {
      return Status::kInvalidArgument;
    }
    KeyTable::Lease lease;
    if (item.key != checked && table.lease(item.key, lease) && lease.use() != kTokenUse) {
      return Status::kWrongUse;
    }
    checked = item.key;
  }
  return Status::kOk;
}

// Run keeps key and derived key of the rows before, so that equal neighbours derive once.
class Run final {
 public:
  Run(KeyTable& table, Direction direction) : table_(table), gcm_(direction) {}

  // Makes gcm() ready for `key` and `nonce`.
  Status prepare(KeyHandle key, const Nonce& nonce) {
    const bool same_key = lease_ && key == key_;
    if (!same_key) {
      keyed_ = false;
      if (!table_.lease(key, lease_)) {
        return Status::kStaleKey;
      }
      key_ = key;
    }
    if (lease_.use() != kTokenUse) {
      return Status::kWrongUse;
    }
    const std::span<const uint8_t, kXaesNonceLength> bytes(nonce);
    if (keyed_ && std::memcmp(prefix_.data(), nonce.data(), prefix_.size()) == 0) {
      return gcm_.next_nonce(bytes.last<kGcmNonceLength>());
    }
    const Status status =
        xaes_start(gcm_, lease_.key(), std::span<const uint8_t, kBlockLength>(lease_.slot().xaes_k1), bytes);
    keyed_ = status == Status::kOk;
    std::memcpy(prefix_.data(), nonce.data(), prefix_.size());
    return status;
  }

  Gcm& gcm() { return gcm_; }
  std::span<const uint8_t, kKidLength> kid() const { return lease_.kid(); }

 private:
  KeyTable& table_;
  KeyTable::Lease lease_;
  KeyHandle key_ = 0;
  Gcm gcm_;
  bool keyed_ = false;
  std::array<uint8_t, kXaesPrefixLength> prefix_{};
};

// A token in shared memory is copied in by parts that stay in the processor's cache until they are opened.
constexpr size_t kPart = size_t{32} << 10;

uint32_t row_status(Status status) {
  switch (status) {
    case Status::kOk:
      return kRowOk;
    case Status::kStaleKey:
      return kRowStaleKey;
    default:
      return kRowFailed;
  }
}

}  // namespace

Status seal_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context,
                  std::span<const uint8_t> plaintext, std::span<uint8_t> out) {
  const StackScrub scrub;
  if (plaintext.size() > kMaxMessageLength || out.size() != plaintext.size() + kTokenOverhead ||
      overlap(context, out) || overlap(plaintext, out)) {
    return Status::kInvalidArgument;
  }
  Nonce nonce;
  const Status drawn = draw_nonce(nonce);
  if (drawn != Status::kOk) {
    return drawn;
  }
  Run run(table, Direction::kSeal);
  const Status status = run.prepare(key, nonce);
  return status == Status::kOk ? seal_with(run.gcm(), run.kid(), nonce, context, plaintext, out.data()) : status;
}

Status open_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context, std::span<const uint8_t> token,
                  std::span<uint8_t> out) {
  const StackScrub scrub;
  if (token.size() < kTokenOverhead) {
    return Status::kAuthenticationFailed;
  }
  if (out.size() != token.size() - kTokenOverhead || overlap(context, out) || overlap(token, out)) {
    return Status::kInvalidArgument;
  }
  Nonce nonce;
  std::memcpy(nonce.data(), token.data() + kTokenHeadLength, nonce.size());
  Run run(table, Direction::kOpen);
  const Status status = run.prepare(key, nonce);
  return status == Status::kOk ? open_with(run.gcm(), run.kid(), context, token, out.data()) : status;
}

Status seal_shared_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context,
                         std::span<const uint8_t> plaintext, std::span<uint8_t> out) {
  const StackScrub scrub;
  if (plaintext.size() > kMaxMessageLength || out.size() != plaintext.size() + kTokenOverhead ||
      overlap(context, out) || overlap(plaintext, out)) {
    return Status::kInvalidArgument;
  }
  Nonce nonce;
  Status status = draw_nonce(nonce);
  Run run(table, Direction::kSeal);
  status = status == Status::kOk ? run.prepare(key, nonce) : status;
  if (status != Status::kOk) {
    return status;
  }
  uint8_t head[kTokenHeadLength + kXaesNonceLength];
  write_head(run.kid(), head);
  std::memcpy(head + kTokenHeadLength, nonce.data(), nonce.size());
  const Aad aad(head, context);
  status = aad ? run.gcm().begin(aad.bytes()) : Status::kSystemFailed;
  // Straight to `out`. By way of private memory it took a third longer (8 MiB), and would keep nothing from the peer: see
  // the promise in token.h.
  if (status == Status::kOk && !plaintext.empty()) {
    status = run.gcm().seal_part(plaintext, out.data() + sizeof head);
  }
  uint8_t tag[kTagLength];
  status = status == Status::kOk ? run.gcm().seal_end(tag) : status;
  if (status != Status::kOk) {
    wipe(out);
    return status;
  }
  std::memcpy(out.data(), head, sizeof head);
  std::memcpy(out.data() + sizeof head + plaintext.size(), tag, sizeof tag);
  return Status::kOk;
}

Status open_shared_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context,
                         std::span<const uint8_t> token, std::span<uint8_t> out) {
  const StackScrub scrub;
  if (token.size() < kTokenOverhead) {
    return Status::kAuthenticationFailed;
  }
  const size_t length = token.size() - kTokenOverhead;
  if (length > kMaxMessageLength || out.size() != length || overlap(context, out) || overlap(token, out)) {
    return Status::kInvalidArgument;
  }
  const std::span<uint8_t> plaintext = private_memory(length);
  if (plaintext.size() != length) {
    return Status::kSystemFailed;
  }
  uint8_t head[kTokenHeadLength + kXaesNonceLength];
  std::memcpy(head, token.data(), sizeof head);
  Nonce nonce;
  std::memcpy(nonce.data(), head + kTokenHeadLength, nonce.size());
  Run run(table, Direction::kOpen);
  Status status = run.prepare(key, nonce);
  if (status != Status::kOk) {
    return status;
  }
  const Aad aad(head, context);
  status = aad ? run.gcm().begin(aad.bytes()) : Status::kSystemFailed;
  size_t at = 0;
  uint8_t part[kPart];
  while (status == Status::kOk && at < length) {
    const size_t size = std::min(kPart, length - at);
    std::memcpy(part, token.data() + sizeof head + at, size);
    status = run.gcm().open_part({part, size}, plaintext.data() + at);
    at += size;
  }
  uint8_t tag[kTagLength];
  std::memcpy(tag, token.data() + sizeof head + length, sizeof tag);
  status = status == Status::kOk ? run.gcm().open_end(tag) : status;
  // As in open_with: a head of another kid costs what a wrong tag does.
  uint8_t expected[kTokenHeadLength];
  write_head(run.kid(), expected);
  if (CRYPTO_memcmp(expected, head, sizeof expected) != 0 && status == Status::kOk) {
    status = Status::kAuthenticationFailed;
  }
  for (size_t from = 0; from < at; from += kPart) {
    const std::span<uint8_t> next = plaintext.subspan(from, std::min(kPart, at - from));
    if (status == Status::kOk) {
      std::memcpy(out.data() + from, next.data(), next.size());
    }
    wipe(next);
  }
  return status;
}

Status seal_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> input,
                 std::span<uint8_t> output) {
  const StackScrub scrub;
  const Status checked = check_rows(table, kSealing, rows, input, output);
  if (checked != Status::kOk) {
    return checked;
  }
  Nonce base;
  const Status drawn = draw_nonce(base);
  if (drawn != Status::kOk) {
    return drawn;
  }
  Run run(table, Direction::kSeal);
  const auto count = static_cast<uint32_t>(rows.size() / kRowWords);
  for (uint32_t index = 0; index < count; ++index) {
    uint32_t* const words = rows.data() + size_t{index} * kRowWords;
    if (words[kRowStatus] == kRowSkip) {
      continue;
    }
    Item item;
    if (!read_item(words, kSealing, input, output, item)) {
      return Status::kInvalidArgument;
    }
    const Nonce nonce = nonce_at(base, index);
    Status status = item.data.size() > kMaxMessageLength ? Status::kInvalidArgument : run.prepare(item.key, nonce);
    if (status == Status::kOk) {
      status = seal_with(run.gcm(), run.kid(), nonce, item.context, item.data, item.out.data());
    }
    if (status != Status::kOk) {
      wipe(item.out);
    }
    words[kRowStatus] = row_status(status);
  }
  return Status::kOk;
}

Status open_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> input,
                 std::span<uint8_t> output) {
  const StackScrub scrub;
  const Status checked = check_rows(table, kOpening, rows, input, output);
  if (checked != Status::kOk) {
    return checked;
  }
  Run run(table, Direction::kOpen);
  const size_t count = rows.size() / kRowWords;
  for (size_t index = 0; index < count; ++index) {
    uint32_t* const words = rows.data() + index * kRowWords;
    if (words[kRowStatus] == kRowSkip) {
      continue;
    }
    Item item;
    if (!read_item(words, kOpening, input, output, item)) {
      return Status::kInvalidArgument;
    }
    Status status = Status::kAuthenticationFailed;
    if (item.data.size() >= kTokenOverhead) {
      Nonce nonce;
      std::memcpy(nonce.data(), item.data.data() + kTokenHeadLength, nonce.size());
      status = run.prepare(item.key, nonce);
      if (status == Status::kOk) {
        status = open_with(run.gcm(), run.kid(), item.context, item.data, item.out.data());
      }
    }
    if (status != Status::kOk) {
      wipe(item.out);
    }
    words[kRowStatus] = row_status(status);
  }
  return Status::kOk;
}

}  // namespace dekd
