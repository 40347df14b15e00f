#include "mac_rows.h"

#include <openssl/crypto.h>

#include "bytes.h"
#include "secret.h"
#include "token.h"

namespace dekd {
namespace {

// One row as it was when it was read. The table may be shared memory: each word is read once, then checked, then used.
struct MacRow final {
  KeyHandle key;
  std::span<const uint8_t> scope;
  std::span<const uint8_t> context;
  std::span<const uint8_t> data;
  size_t out_offset;
};

bool inside(uint32_t offset, uint64_t length, size_t size) { return offset + length <= size; }

// Where the MACs of rows lie, or go.
struct Macs final {
  std::span<const uint8_t> bytes;
  bool are_written;
};

// False when the row reaches outside of its buffers, or when its MAC goes over what is read.
bool read_row(const uint32_t* words, std::span<const uint8_t> scopes, std::span<const uint8_t> input, Macs macs,
              MacRow& row) {
  const uint32_t scope_offset = words[kRowScopeOffset];
  if (!inside(scope_offset, 2, scopes.size())) {
    return false;
  }
  const size_t scope_length = size_t{scopes[scope_offset]} << 8 | scopes[scope_offset + 1];
  const uint32_t context_offset = words[kRowContextOffset];
  const uint32_t context_length = words[kRowContextLength];
  const uint32_t data_offset = words[kRowDataOffset];
  const uint32_t data_length = words[kRowDataLength];
  const uint32_t out_offset = words[kRowOutOffset];
  if (!inside(scope_offset, 2 + scope_length, scopes.size()) || !inside(context_offset, context_length, input.size()) ||
      !inside(data_offset, data_length, input.size()) || !inside(out_offset, kDigestLength, macs.bytes.size())) {
    return false;
  }
  row = {words[kRowKey], scopes.subspan(scope_offset + 2, scope_length), input.subspan(context_offset, context_length),
         input.subspan(data_offset, data_length), out_offset};
  const std::span<const uint8_t> mac = macs.bytes.subspan(out_offset, kDigestLength);
  return !macs.are_written || (!overlap(row.context, mac) && !overlap(row.data, mac));
}

// Looks at every row before the first is worked on, so that a call is either refused or done.
Status check_rows(KeyTable& table, std::span<const uint32_t> rows, std::span<const uint8_t> scopes,
                  std::span<const uint8_t> input, Macs macs) {
  if (rows.size() % kRowWords != 0 || rows.size() / kRowWords > UINT32_MAX) {
    return Status::kInvalidArgument;
  }
  KeyHandle checked = 0;
  for (size_t at = 0; at < rows.size(); at += kRowWords) {
    const uint32_t* const words = rows.data() + at;
    if (words[kRowStatus] == kRowSkip) {
      continue;
    }
    MacRow row;
    if (!read_row(words, scopes, input, macs, row)) {
      return Status::kInvalidArgument;
    }
    KeyTable::Lease lease;
    if (row.key != checked && table.lease(row.key, lease) && lease.use().algorithm != Algorithm::kHmacSha256) {
      return Status::kWrongUse;
    }
    checked = row.key;
  }
  return Status::kOk;
}

// Run keeps the key of the row before, so that equal neighbours are lent it once.
class Run final {
 public:
  explicit Run(KeyTable& table) : table_(table) {}

  Status mac(const MacRow& row, std::span<uint8_t, kDigestLength> out) {
    if (!lease_ || row.key != key_) {
      if (!table_.lease(row.key, lease_)) {
        return Status::kStaleKey;
      }
      key_ = row.key;
    }
    if (lease_.use().algorithm != Algorithm::kHmacSha256) {
      return Status::kWrongUse;
    }
    uint8_t context_length[4];
    uint8_t data_length[4];
    put_big_endian(row.context.size(), sizeof context_length, context_length);
    put_big_endian(row.data.size(), sizeof data_length, data_length);
    return hmac_sha_256(lease_.key(), {row.scope, context_length, row.context, data_length, row.data}, out);
  }

 private:
  KeyTable& table_;
  KeyTable::Lease lease_;
  KeyHandle key_ = 0;
};

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

Status mac_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> scopes,
                std::span<const uint8_t> input, std::span<uint8_t> output) {
  const StackScrub scrub;
  const Macs macs{output, true};
  const Status checked = check_rows(table, rows, scopes, input, macs);
  if (checked != Status::kOk) {
    return checked;
  }
  Run run(table);
  for (size_t at = 0; at < rows.size(); at += kRowWords) {
    uint32_t* const words = rows.data() + at;
    if (words[kRowStatus] == kRowSkip) {
      continue;
    }
    MacRow row;
    if (!read_row(words, scopes, input, macs, row)) {
      return Status::kInvalidArgument;
    }
    const std::span<uint8_t, kDigestLength> out(output.data() + row.out_offset, kDigestLength);
    const Status status = run.mac(row, out);
    if (status != Status::kOk) {
      wipe(out);
    }
    words[kRowStatus] = row_status(status);
  }
  return Status::kOk;
}

Status verify_mac_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> scopes,
                       std::span<const uint8_t> input) {
  const StackScrub scrub;
  const Macs macs{input, false};
  const Status checked = check_rows(table, rows, scopes, input, macs);
  if (checked != Status::kOk) {
    return checked;
  }
  Run run(table);
  for (size_t at = 0; at < rows.size(); at += kRowWords) {
    uint32_t* const words = rows.data() + at;
    if (words[kRowStatus] == kRowSkip) {
      continue;
    }
    MacRow row;
    if (!read_row(words, scopes, input, macs, row)) {
      return Status::kInvalidArgument;
    }
    // What the MAC would have been is as good as a forged one: it stays here, and is zero afterwards.
    Secret<kDigestLength> actual;
    Status status = run.mac(row, actual.bytes());
    if (status == Status::kOk &&
        CRYPTO_memcmp(actual.bytes().data(), input.data() + row.out_offset, kDigestLength) != 0) {
      status = Status::kAuthenticationFailed;
    }
    words[kRowStatus] = row_status(status);
  }
  return Status::kOk;
}

}  // namespace dekd
