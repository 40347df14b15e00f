#include "../core/token.h"

#include <openssl/err.h>

#include <cstring>
#include <set>

#include "../core/given_nonce.h"
#include "../core/key_wrap.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr KeyUse kSeal{Algorithm::kXaes256Gcm, Purpose::kSeal};

// A table with one key to seal and some bytes.
struct Fixture final {
  KeyTable table;
  KeyHandle key = 0;
  Bytes context = counting(9, 100);
  Bytes plaintext = counting(64);

  Fixture() {
    expect(table.open(LockLevel::kHeap) == Status::kOk);
    key = make(kSeal);
  }

  KeyHandle make(KeyUse use) {
    const Result<KeyHandle> made = generate_key(table, use, 0);
    expect(made.ok());
    return made.value();
  }

  Bytes seal() {
    Bytes token(plaintext.size() + kTokenOverhead);
    expect(seal_token(table, key, context, plaintext, token) == Status::kOk);
    return token;
  }

  Status open(const Bytes& token, Bytes& out) {
    out.assign(token.size() - kTokenOverhead, 0x55);
    return open_token(table, key, context, token, out);
  }
};

const Test kRoundTrip("open_token gives back what seal_token took, at sizes around every block limit", [] {
  Fixture f;
  for (const size_t size : {0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 4096, 65536, 70000}) {
    f.plaintext = counting(size);
    for (const size_t context : {0, 1, 400, 600, 5000}) {
      f.context = counting(context, 3);
      Bytes opened;
      expect(f.open(f.seal(), opened) == Status::kOk);
      expect(opened == f.plaintext);
    }
  }
});

const Test kLayout("seal_token writes C1 01, the kid, a nonce, and the XAES bytes with head and context as AAD", [] {
  Fixture f;
  const Bytes token = f.seal();
  KeyTable::Lease lease;
  expect(f.table.lease(f.key, lease));
  expect(token[0] == 0xc1 && token[1] == 1);
  expect(std::memcmp(token.data() + 2, lease.kid().data(), kKidLength) == 0);
  Bytes aad(token.begin(), token.begin() + 18);
  aad.insert(aad.end(), f.context.begin(), f.context.end());
  Bytes expected(f.plaintext.size() + kTagLength);
  const std::span<const uint8_t, kXaesNonceLength> nonce(token.data() + 18, kXaesNonceLength);
  expect(xaes_seal(lease.key(), nonce, aad, f.plaintext, expected) == Status::kOk);
  expect(std::memcmp(expected.data(), token.data() + 42, expected.size()) == 0);
});

const Test kEveryBit("open_token refuses a token with any one bit changed and leaves zeros", [] {
  Fixture f;
  Bytes token = f.seal();
  Bytes opened;
  for (size_t bit = 0; bit < token.size() * 8; ++bit) {
    const auto mask = static_cast<uint8_t>(1U << (bit % 8));
    token[bit / 8] ^= mask;
    expect(f.open(token, opened) == Status::kAuthenticationFailed);
    expect(all_zero(opened));
    token[bit / 8] ^= mask;
  }
  expect(f.open(token, opened) == Status::kOk);
});

const Test kHead("open_token refuses another head even when it was sealed with the key", [] {
  Fixture f;
  Bytes token = f.seal();
  KeyTable::Lease lease;
  expect(f.table.lease(f.key, lease));
  token[1] = 2;
  Bytes aad(token.begin(), token.begin() + 18);
  aad.insert(aad.end(), f.context.begin(), f.context.end());
  const std::span<const uint8_t, kXaesNonceLength> nonce(token.data() + 18, kXaesNonceLength);
  expect(xaes_seal(lease.key(), nonce, aad, f.plaintext, std::span(token).subspan(42)) == Status::kOk);
  Bytes opened;
  expect(f.open(token, opened) == Status::kAuthenticationFailed);
  expect(all_zero(opened));
});

const Test kOther("open_token refuses another key, another context and a token cut short", [] {
  Fixture f;
  const Bytes token = f.seal();
  Bytes opened(f.plaintext.size());
  expect(open_token(f.table, f.make(kSeal), f.context, token, opened) == Status::kAuthenticationFailed);
  f.context.push_back(0);
  expect(f.open(token, opened) == Status::kAuthenticationFailed);
  f.context.pop_back();
  for (size_t length = kTokenOverhead; length < token.size(); ++length) {
    expect(f.open(Bytes(token.begin(), token.begin() + static_cast<ptrdiff_t>(length)), opened) ==
           Status::kAuthenticationFailed);
  }
  expect(open_token(f.table, f.key, f.context, Bytes(57), {}) == Status::kAuthenticationFailed);
});

const Test kUse("tokens need a key made for them", [] {
  Fixture f;
  Bytes token(f.plaintext.size() + kTokenOverhead);
  for (const KeyUse use : {KeyUse{Algorithm::kHkdfSha256, Purpose::kWrap}, KeyUse{Algorithm::kHmacSha256, Purpose::kMac},
                           KeyUse{Algorithm::kXaes256Gcm, Purpose::kWrap}}) {
    const KeyHandle other = f.make(use);
    expect(seal_token(f.table, other, f.context, f.plaintext, token) == Status::kWrongUse);
    expect(open_token(f.table, other, f.context, token, f.plaintext) == Status::kWrongUse);
  }
  f.table.destroy(f.key);
  expect(seal_token(f.table, f.key, f.context, f.plaintext, token) == Status::kStaleKey);
});

const Test kOverlap("sealing and opening refuse output that overlaps what is read, by one byte or wholly", [] {
  Fixture f;
  Bytes room(400);
  const std::span<uint8_t> all(room);
  expect(seal_token(f.table, f.key, {}, all.subspan(100, 64), all.subspan(163, 122)) == Status::kInvalidArgument);
  expect(seal_token(f.table, f.key, {}, all.subspan(121, 64), all.first(122)) == Status::kInvalidArgument);
  expect(seal_token(f.table, f.key, all.subspan(0, 9), all.subspan(200, 64), all.subspan(8, 122)) ==
         Status::kInvalidArgument);
  expect(seal_token(f.table, f.key, {}, all.subspan(0, 64), all.subspan(64, 122)) == Status::kOk);
  expect(open_token(f.table, f.key, {}, all.subspan(64, 122), all.subspan(64, 64)) == Status::kInvalidArgument);
  expect(open_token(f.table, f.key, {}, all.subspan(64, 122), all.subspan(0, 64)) == Status::kOk);
});

const Test kNonces("seal_token never repeats a nonce", [] {
  Fixture f;
  std::set<Bytes> nonces;
  for (int i = 0; i < 5000; ++i) {
    const Bytes token = f.seal();
    nonces.emplace(token.begin() + 18, token.begin() + 42);
  }
  expect(nonces.size() == 5000);
});

const Test kErrorQueue("a refused token leaves OpenSSL's error queue as it was", [] {
  Fixture f;
  Bytes token = f.seal();
  token.back() ^= 1;
  Bytes opened;
  ERR_clear_error();
  expect(f.open(token, opened) == Status::kAuthenticationFailed);
  expect(ERR_peek_error() == 0);
});

// Rows of 20 bytes with a context of 3, sealed and opened as one batch.
struct Batch final {
  static constexpr uint32_t kContext = 3;
  static constexpr uint32_t kData = 20;
  static constexpr uint32_t kToken = kData + kTokenOverhead;

  Fixture f;
  uint32_t count;
  Bytes input;
  Bytes tokens;
  std::vector<uint32_t> rows;

  explicit Batch(uint32_t rows_wanted) : count(rows_wanted), input(kContext + count * kData) {
    tokens.resize(kContext + count * kToken);
    for (size_t i = 0; i < input.size(); ++i) {
      input[i] = static_cast<uint8_t>(i * 7);
    }
    std::memcpy(tokens.data(), input.data(), kContext);
    fill(kData, kToken);
  }

  void fill(uint32_t data, uint32_t out) {
    rows.clear();
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t row[kRowWords] = {f.key, 0, kContext, kContext + i * data, data, kContext + i * out, 99, 0};
      rows.insert(rows.end(), row, row + kRowWords);
    }
  }

  uint32_t& word(uint32_t row, Row name) { return rows[row * kRowWords + name]; }
  Status seal() { return seal_many(f.table, rows, input, tokens); }

  // Opens what seal() wrote into `back`, which has the layout of `input`.
  Status open(Bytes& back) {
    fill(kToken, kData);
    back.assign(input.size(), 0x55);
    return open_many(f.table, rows, tokens, back);
  }
};

const Test kBatch("open_many and open_token open what seal_many sealed", [] {
  Batch b(300);
  expect(b.seal() == Status::kOk);
  Bytes back;
  expect(b.open(back) == Status::kOk);
  for (uint32_t i = 0; i < b.count; ++i) {
    expect(b.word(i, kRowStatus) == kRowOk);
    Bytes opened(Batch::kData);
    expect(open_token(b.f.table, b.f.key, std::span(b.input).first(3),
                      std::span(b.tokens).subspan(b.word(i, kRowDataOffset), Batch::kToken), opened) == Status::kOk);
  }
  expect(std::memcmp(back.data() + 3, b.input.data() + 3, back.size() - 3) == 0);
});

const Test kBatchNonces("seal_many counts up from one nonce, and draws another for the next call", [] {
  Batch b(300);
  expect(b.seal() == Status::kOk);
  const auto nonce = [&](uint32_t row) {
    const auto begin = b.tokens.begin() + 3 + static_cast<ptrdiff_t>(row) * Batch::kToken + 18;
    return Bytes(begin, begin + 24);
  };
  Bytes expected = nonce(0);
  for (uint32_t row = 1; row < b.count; ++row) {
    for (size_t i = 24; i-- > 12 && ++expected[i] == 0;) {
    }
    expect(nonce(row) == expected);
  }
  const Bytes first = nonce(0);
  b.fill(Batch::kData, Batch::kToken);
  expect(b.seal() == Status::kOk);
  expect(!std::equal(first.begin(), first.begin() + 12, nonce(0).begin()));
});

const Test kBatchKeys("a batch with several keys in turn seals each row under its own", [] {
  Batch b(9);
  const KeyHandle other = b.f.make(kSeal);
  for (uint32_t i = 0; i < b.count; ++i) {
    b.word(i, kRowKey) = i % 3 == 0 ? other : b.f.key;
  }
  expect(b.seal() == Status::kOk);
  for (uint32_t i = 0; i < b.count; ++i) {
    Bytes opened(Batch::kData);
    const auto token = std::span(b.tokens).subspan(b.word(i, kRowOutOffset), Batch::kToken);
    const auto context = std::span(b.input).first(3);
    expect(open_token(b.f.table, i % 3 == 0 ? other : b.f.key, context, token, opened) == Status::kOk);
    expect(open_token(b.f.table, i % 3 == 0 ? b.f.key : other, context, token, opened) ==
           Status::kAuthenticationFailed);
  }
});

const Test kBatchRows("a batch goes on behind rows that fail, are stale or are skipped, and leaves zeros for them", [] {
  Batch b(6);
  expect(b.seal() == Status::kOk);
  Bytes back(b.input.size(), 0x55);
  b.fill(Batch::kToken, Batch::kData);
  b.tokens[b.word(1, kRowDataOffset) + 50] ^= 1;
  b.word(2, kRowKey) = 12345678;
  b.word(3, kRowStatus) = kRowSkip;
  b.word(4, kRowDataLength) = 30;
  expect(open_many(b.f.table, b.rows, b.tokens, back) == Status::kOk);
  const auto out = [&](uint32_t row) { return std::span(back).subspan(3 + row * Batch::kData, Batch::kData); };
  expect(b.word(0, kRowStatus) == kRowOk && b.word(5, kRowStatus) == kRowOk);
  expect(b.word(1, kRowStatus) == kRowFailed && all_zero(out(1)));
  expect(b.word(2, kRowStatus) == kRowStaleKey && all_zero(out(2)));
  expect(b.word(3, kRowStatus) == kRowSkip && out(3)[0] == 0x55);
  expect(b.word(4, kRowStatus) == kRowFailed);
});

const Test kBatchBounds("a batch with one row out of bounds, overlapping or of another use touches no row", [] {
  const auto refuse = [](Row word, uint32_t value, Status status) {
    Batch b(4);
    const Bytes before = b.tokens;
    b.word(3, word) = value;
    expect(b.seal() == status);
    expect(b.tokens == before);
    expect(b.word(0, kRowStatus) == 99);
  };
  refuse(kRowDataOffset, 0xfffffff0, Status::kInvalidArgument);
  refuse(kRowDataLength, 0xffffffff, Status::kInvalidArgument);
  refuse(kRowContextOffset, 82, Status::kInvalidArgument);
  refuse(kRowContextLength, 84, Status::kInvalidArgument);
  refuse(kRowOutOffset, 3 + 3 * Batch::kToken + 1, Status::kInvalidArgument);
  Batch b(1);
  expect(seal_many(b.f.table, std::span(b.rows).first(7), b.input, b.tokens) == Status::kInvalidArgument);
  b.word(0, kRowOutOffset) = 20;
  expect(seal_many(b.f.table, b.rows, std::span(b.tokens).first(30), b.tokens) == Status::kInvalidArgument);
  Batch other(2);
  other.word(1, kRowKey) = other.f.make({Algorithm::kHmacSha256, Purpose::kMac});
  expect(other.seal() == Status::kWrongUse);
});

}  // namespace
}  // namespace dekd::test
