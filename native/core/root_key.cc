#include "root_key.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "data_key.h"
#include "key_wrap.h"
#include "legacy.h"
#include "random.h"
#include "secret.h"

namespace dekd {
namespace {

constexpr size_t kLineLength = 44;

// All ones when low <= value <= high, else zero. Characters are compared and not looked up: which cache lines of a table
// are touched would depend on the key.
constexpr int within(int value, int low, int high) { return ~(((value - low) | (high - value)) >> 31); }

// The value of a base64 character, or -1.
constexpr int sextet(int code) {
  const int upper = within(code, 'A', 'Z');
  const int lower = within(code, 'a', 'z');
  const int digit = within(code, '0', '9');
  const int plus = within(code, '+', '+');
  const int slash = within(code, '/', '/');
  const int value = (upper & (code - 65)) | (lower & (code - 71)) | (digit & (code + 4)) | (plus & 62) | (slash & 63);
  return value | ~(upper | lower | digit | plus | slash);
}

constexpr uint8_t character(int value) {
  return static_cast<uint8_t>((within(value, 0, 25) & (value + 65)) | (within(value, 26, 51) & (value + 71)) |
                              (within(value, 52, 61) & (value - 4)) | (within(value, 62, 62) & '+') |
                              (within(value, 63, 63) & '/'));
}

// Reads to the end of `fd`, at most text.size() bytes. Returns the count or -1.
ssize_t read_to_end(int fd, std::span<uint8_t> text) {
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = read(fd, text.data() + filled, text.size() - filled);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return -1;
    }
    if (got == 0) {
      break;
    }
    filled += static_cast<size_t>(got);
  }
  return static_cast<ssize_t>(filled);
}

bool decode(std::span<const uint8_t, kLineLength> line, std::span<uint8_t, kKeyLength> key) {
  int bad = line[kLineLength - 1] == '=' ? 0 : -1;
  uint32_t bits = 0;
  unsigned held = 0;
  size_t at = 0;
  for (size_t i = 0; i < kLineLength - 1; ++i) {
    const int value = sextet(line[i]);
    bad |= value >> 31;
    bits = (bits << 6) | (static_cast<uint32_t>(value) & 63);
    held += 6;
    if (held >= 8) {
      held -= 8;
      key[at++] = static_cast<uint8_t>(bits >> held);
    }
  }
  // 43 characters carry 258 bits; the two left over must be zero (RFC 4648 3.5), or one key had four spellings.
  return bad == 0 && (bits & 3) == 0;
}

void encode(std::span<const uint8_t, kKeyLength> key, std::span<uint8_t, kLineLength> line) {
  uint32_t bits = 0;
  unsigned held = 0;
  size_t at = 0;
  for (const uint8_t byte : key) {
    bits = (bits << 8) | byte;
    held += 8;
    while (held >= 6) {
      held -= 6;
      line[at++] = character(static_cast<int>((bits >> held) & 63));
    }
  }
  line[at++] = character(static_cast<int>((bits << (6 - held)) & 63));
  line[at] = '=';
}

Status write_line(std::span<const uint8_t, kKeyLength> key, int fd) {
  Secret<kLineLength + 1> line;
  encode(key, line.bytes().first<kLineLength>());
  line.bytes()[kLineLength] = '\n';
  size_t written = 0;
  while (written < line.bytes().size()) {
    const ssize_t count = write(fd, line.bytes().data() + written, line.bytes().size() - written);
    if (count < 0 && errno != EINTR) {
      return Status::kSystemFailed;
    }
    written += count < 0 ? 0 : static_cast<size_t>(count);
  }
  return Status::kOk;
}

}  // namespace

Result<KeyHandle> read_root_key(KeyTable& table, int fd, KeyUse use, uint32_t owner) {
  const StackScrub scrub;
  if (use != kRootUse && use != kRawAesUse && use != kLegacyUse) {
    return Status::kWrongUse;
  }
  // Room for more than a valid line, so that a longer file is seen as longer.
  Secret<kLineLength + 2> text;
  const ssize_t length = read_to_end(fd, text.bytes());
  if (length < 0) {
    return Status::kSystemFailed;
  }
  const bool line_feed = length == kLineLength + 1 && text.bytes()[kLineLength] == '\n';
  const bool raw = use == kLegacyUse && length == kKeyLength;
  if (length != kLineLength && !line_feed && !raw) {
    return Status::kMalformedKey;
  }
  KeyTable::Reservation reservation;
  const Status status = table.reserve(use, owner, reservation);
  if (status != Status::kOk) {
    return status;
  }
  if (raw) {
    std::memcpy(reservation.slot().key, text.bytes().data(), kKeyLength);
  } else if (!decode(text.bytes().first<kLineLength>(), reservation.slot().key)) {
    return Status::kMalformedKey;
  }
  return finish_key(reservation, use);
}

Status write_root_key(int fd) {
  const StackScrub scrub;
  Secret<kKeyLength> key;
  const Status status = fill_random(key.bytes());
  return status == Status::kOk ? write_line(key.bytes(), fd) : status;
}

Status write_key_line(KeyTable& table, KeyHandle key, int fd) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  const Status status = table.lend(key, kRootUse, lease);
  return status == Status::kOk ? write_line(lease.key(), fd) : status;
}

}  // namespace dekd
