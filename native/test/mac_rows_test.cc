#include "../core/mac_rows.h"

#include <algorithm>
#include <string>
#include <vector>

#include "../core/bytes.h"
#include "../core/key_wrap.h"
#include "../core/token.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr KeyUse kMac{Algorithm::kHmacSha256, Purpose::kMac};
constexpr KeyUse kIndex{Algorithm::kHmacSha256, Purpose::kIndex};
constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};

Bytes bytes_of(const std::string& text) { return Bytes(text.begin(), text.end()); }

// RFC 4231, sections 4.2 to 4.8 but the truncated one.
struct Vector final {
  Bytes key;
  Bytes data;
  std::string mac;
};

const Vector kVectors[] = {
    {Bytes(20, 0x0b), bytes_of("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {bytes_of("Jefe"), bytes_of("what do ya want for nothing?"),
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {Bytes(20, 0xaa), Bytes(50, 0xdd), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {counting(25, 1), Bytes(50, 0xcd), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    {Bytes(131, 0xaa), bytes_of("Test Using Larger Than Block-Size Key - Hash Key First"),
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {Bytes(131, 0xaa),
     bytes_of("This is a test using a larger than block-size key and a larger than block-size data. The key needs to "
              "be hashed before being used by the HMAC algorithm."),
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
};

std::string hex(std::span<const uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

const Test kPublished("hmac_sha_256 gives the MACs of RFC 4231", [] {
  for (const Vector& vector : kVectors) {
    uint8_t out[kDigestLength];
    expect(hmac_sha_256(vector.key, {vector.data}, out) == Status::kOk);
    expect(hex(out) == vector.mac);
  }
});

// A table of two rows over `input`: context 4 bytes at 0, data 6 at 4; then no context and the data of both.
struct Fixture final {
  KeyTable table;
  KeyHandle key = 0;
  Bytes scopes;
  Bytes input = counting(10 + 2 * kDigestLength, 7);
  std::vector<uint32_t> rows = std::vector<uint32_t>(2 * kRowWords);

  Fixture() {
    expect(table.open(LockLevel::kHeap) == Status::kOk);
    key = make(kMac);
    const Bytes first = bytes_of("first");
    const Bytes second = bytes_of("");
    for (const Bytes& scope : {first, second}) {
      scopes.push_back(static_cast<uint8_t>(scope.size() >> 8));
      scopes.push_back(static_cast<uint8_t>(scope.size()));
      scopes.insert(scopes.end(), scope.begin(), scope.end());
    }
    set(0, {key, 0, 4, 4, 6, 0, 9, 0});
    set(1, {key, 0, 0, 0, 10, kDigestLength, 9, 7});
  }

  KeyHandle make(KeyUse use) {
    const Result<KeyHandle> made = generate_key(table, use, 0);
    expect(made.ok());
    return made.value();
  }

  void set(size_t row, const std::vector<uint32_t>& words) {
    std::copy(words.begin(), words.end(), rows.begin() + static_cast<ptrdiff_t>(row * kRowWords));
  }

  uint32_t& word(size_t row, size_t which) { return rows[row * kRowWords + which]; }

  // What mac_many computes, by the one-key MAC of the core.
  Bytes expected(const std::string& scope, std::span<const uint8_t> context, std::span<const uint8_t> data) {
    Bytes whole = bytes_of(scope);
    for (const std::span<const uint8_t> part : {context, data}) {
      uint8_t length[4];
      put_big_endian(part.size(), sizeof length, length);
      whole.insert(whole.end(), length, length + 4);
      whole.insert(whole.end(), part.begin(), part.end());
    }
    Bytes out(kDigestLength);
    expect(mac_with(table, key, {}, whole, std::span<uint8_t, kDigestLength>(out.data(), kDigestLength)) == Status::kOk);
    return out;
  }
};

const Test kBytes("mac_many is HMAC-SHA-256 of scope, context and data with their lengths", [] {
  Fixture f;
  Bytes output(2 * kDigestLength);
  expect(mac_many(f.table, f.rows, f.scopes, f.input, output) == Status::kOk);
  expect(f.word(0, kRowStatus) == kRowOk && f.word(1, kRowStatus) == kRowOk);
  const std::span<const uint8_t> input(f.input);
  Bytes both = f.expected("first", input.first(4), input.subspan(4, 6));
  const Bytes second = f.expected("", {}, input.first(10));
  both.insert(both.end(), second.begin(), second.end());
  expect(output == both);
});

const Test kVerify("verify_mac_many takes what mac_many made, and nothing that differs by a bit or lies in another place", [] {
  Fixture f;
  Bytes output(2 * kDigestLength);
  expect(mac_many(f.table, f.rows, f.scopes, f.input, output) == Status::kOk);
  std::copy(output.begin(), output.end(), f.input.begin() + 10);
  f.word(0, kRowOutOffset) = 10;
  f.word(1, kRowOutOffset) = 10 + kDigestLength;
  expect(verify_mac_many(f.table, f.rows, f.scopes, f.input) == Status::kOk);
  expect(f.word(0, kRowStatus) == kRowOk && f.word(1, kRowStatus) == kRowOk);
  for (size_t bit = 0; bit < 8 * (10 + kDigestLength); ++bit) {
    f.input[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    expect(verify_mac_many(f.table, f.rows, f.scopes, f.input) == Status::kOk);
    expect(f.word(0, kRowStatus) == kRowFailed);
    f.input[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
  }
  f.word(0, kRowOutOffset) = 10 + kDigestLength;
  expect(verify_mac_many(f.table, f.rows, f.scopes, f.input) == Status::kOk);
  expect(f.word(0, kRowStatus) == kRowFailed && f.word(1, kRowStatus) == kRowOk);
});

const Test kStale("a stale key is the status of its row, whose output is zeros; a row to skip is left alone", [] {
  Fixture f;
  const KeyHandle index = f.make(kIndex);
  f.word(1, kRowKey) = index;
  f.table.destroy(index);
  Bytes output(2 * kDigestLength, 0xcc);
  expect(mac_many(f.table, f.rows, f.scopes, f.input, output) == Status::kOk);
  expect(f.word(0, kRowStatus) == kRowOk && f.word(1, kRowStatus) == kRowStaleKey);
  expect(all_zero(std::span(output).subspan(kDigestLength)));
  f.word(0, kRowStatus) = kRowSkip;
  std::fill(output.begin(), output.end(), 0xcc);
  expect(mac_many(f.table, f.rows, f.scopes, f.input, output) == Status::kOk);
  expect(f.word(0, kRowStatus) == kRowSkip && output[0] == 0xcc && output[31] == 0xcc);
});

const Test kRefused("mac_many and verify_mac_many refuse rows that leave their buffers and keys for something else, before any work", [] {
  struct Change {
    size_t which;
    uint32_t value;
    Status status;
  };
  for (const Change& change : {
           Change{kRowScopeOffset, 8, Status::kInvalidArgument},
           Change{kRowScopeOffset, 0xffffffff, Status::kInvalidArgument},
           // "fi" as a length.
           Change{kRowScopeOffset, 2, Status::kInvalidArgument},
           Change{kRowContextOffset, 0xffffffff, Status::kInvalidArgument},
           Change{kRowContextLength, 0xffffffff, Status::kInvalidArgument},
           Change{kRowDataOffset, 0xfffffffe, Status::kInvalidArgument},
           Change{kRowDataLength, 0xffffffff, Status::kInvalidArgument},
           Change{kRowOutOffset, 10 + kDigestLength + 1, Status::kInvalidArgument},
           Change{kRowOutOffset, 0xffffffff, Status::kInvalidArgument},
       }) {
    Fixture f;
    f.word(1, change.which) = change.value;
    Bytes output(10 + 2 * kDigestLength, 0xcc);
    expect(mac_many(f.table, f.rows, f.scopes, f.input, output) == change.status);
    expect(verify_mac_many(f.table, f.rows, f.scopes, f.input) == change.status);
    expect(output[0] == 0xcc && f.word(0, kRowStatus) == 9);
  }
  Fixture f;
  f.word(1, kRowKey) = f.make(kSeal);
  Bytes output(2 * kDigestLength, 0xcc);
  expect(mac_many(f.table, f.rows, f.scopes, f.input, output) == Status::kWrongUse);
  expect(verify_mac_many(f.table, f.rows, f.scopes, f.input) == Status::kWrongUse);
  expect(output[0] == 0xcc && f.word(0, kRowStatus) == 9);
  // Output over what is read.
  Fixture g;
  expect(mac_many(g.table, g.rows, g.scopes, g.input, g.input) == Status::kInvalidArgument);
});

}  // namespace
}  // namespace dekd::test
