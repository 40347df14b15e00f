// Measures the comparisons of secrets in the core, and beside them one that is planted and must be caught.
// Arguments: samples a subject, 1,000,000 unless given; seed. Prints one JSON object a subject.

#include <openssl/crypto.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "../core/data_key.h"
#include "../core/key_wrap.h"
#include "../core/mac_rows.h"
#include "../core/message.h"
#include "../core/token.h"
#include "timing.h"

namespace dekd::timing {
namespace {

using Bytes = std::vector<uint8_t>;

volatile int sink = 0;

Bytes counting(size_t length) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<uint8_t>(i * 37 + 11);
  }
  return bytes;
}

// Two values that are wrong, in their first byte and in their last one, in the same memory in turns: what an attacker
// would tell apart is how far a guess is right. A right one takes the way that gives its plaintext out, and shows anyhow.
// Copied through a register mask, so that making the input takes no branch either.
class Guess final {
 public:
  Guess(Bytes right, size_t first, size_t last) : late_(right), early_(std::move(right)), now_(late_) {
    early_[first] ^= 1;
    late_[last] ^= 1;
  }
  void set(bool late) {
    const auto mask = static_cast<uint8_t>(-static_cast<int>(late));
    for (size_t i = 0; i < now_.size(); ++i) {
      now_[i] = static_cast<uint8_t>((late_[i] & mask) | (early_[i] & ~mask));
    }
  }
  Bytes& now() { return now_; }

 private:
  Bytes late_;
  Bytes early_;
  Bytes now_;
};

KeyHandle made(const Result<KeyHandle>& result) {
  if (!result.ok()) {
    std::fprintf(stderr, "no key: status %d\n", static_cast<int>(result.status()));
    std::exit(EXIT_FAILURE);
  }
  return result.value();
}

void require(Status status) {
  if (status != Status::kOk) {
    std::fprintf(stderr, "status %d\n", static_cast<int>(status));
    std::exit(EXIT_FAILURE);
  }
}

bool report(const Subject& subject, size_t samples, uint64_t seed, bool planted) {
  const Measured measured = measure(subject, samples, seed);
  const bool differs = measured.max_t >= 4.5;
  std::printf(R"({"subject":"%s","samples":%zu,"maxT":%.2f,"planted":%s,"ok":%s})"
              "\n",
              subject.name, measured.samples, measured.max_t, planted ? "true" : "false",
              differs == planted ? "true" : "false");
  std::fflush(stdout);
  return differs == planted;
}

int run(size_t samples, uint64_t seed) {
  KeyTable table;
  require(table.open(LockLevel::kHeap));
  const KeyHandle seal = made(generate_key(table, {Algorithm::kXaes256Gcm, Purpose::kSeal}, 0));
  const KeyHandle mac = made(generate_key(table, {Algorithm::kHmacSha256, Purpose::kMac}, 0));
  const KeyHandle wrap = made(generate_key(table, {Algorithm::kHkdfSha256, Purpose::kWrap}, 0));
  const KeyHandle data = made(generate_key(table, kDataKeyUse, 0));
  const KeyHandle message_key = made(generate_key(table, kMessageKeyUse, 0));
  bool good = true;

  const Bytes context = counting(24);
  const Bytes plaintext = counting(64);
  Bytes token(plaintext.size() + kTokenOverhead);
  require(seal_token(table, seal, context, plaintext, token));
  Bytes opened(plaintext.size());
  {
    Guess guess(token, token.size() - kTagLength, token.size() - 1);
    good &= report({"token tag", [&](bool late) { guess.set(late); },
                    [&] { sink = static_cast<int>(open_token(table, seal, context, guess.now(), opened)); }},
                   samples, seed, false);
  }
  {
    Guess guess(token, 2, 2 + kKidLength - 1);
    good &= report({"token kid", [&](bool late) { guess.set(late); },
                    [&] { sink = static_cast<int>(open_token(table, seal, context, guess.now(), opened)); }},
                   samples, seed, false);
  }
  {
    Bytes input = counting(8 + 64);
    Bytes output(kDigestLength);
    const Bytes scopes{0, 4, 't', 'e', 's', 't'};
    std::vector<uint32_t> row{mac, 0, 8, 8, 64, 0, 0, 0};
    require(mac_many(table, row, scopes, input, output));
    input.insert(input.end(), output.begin(), output.end());
    row = {mac, 0, 8, 8, 64, 72, 0, 0};
    Guess guess(input, 72, 72 + kDigestLength - 1);
    good &= report({"MAC", [&](bool late) { guess.set(late); },
                    [&] { sink = static_cast<int>(verify_mac_many(table, row, scopes, guess.now())); }},
                   samples, seed, false);
  }
  {
    const Bytes label = counting(12);
    Bytes wrapped(kWrappedKeyLength);
    require(wrap_key(table, wrap, label, data, context, std::span<uint8_t, kWrappedKeyLength>(wrapped)));
    Guess guess(wrapped, wrapped.size() - kTagLength, wrapped.size() - 1);
    good &= report({"wrapped key tag", [&](bool late) { guess.set(late); },
                    [&] {
                      sink = static_cast<int>(
                          unwrap_key(table, wrap, label, guess.now(), context, kDataKeyUse, 0).status());
                    }},
                   samples, seed, false);
  }
  {
    Bytes info(kDataKeyInfoLength);
    Bytes encrypted(kEncryptedDataKeyLength);
    require(wrap_data_key(table, message_key, data, context, std::span<uint8_t, kDataKeyInfoLength>(info),
                          std::span<uint8_t, kEncryptedDataKeyLength>(encrypted)));
    Guess guess(info, 0, 2 * kKidLength - 1);
    good &= report({"kid of a data key", [&](bool late) { guess.set(late); },
                    [&] {
                      sink = static_cast<int>(
                          unwrap_data_key(table, message_key, guess.now(), encrypted, context, 0).status());
                    }},
                   samples, seed, false);
  }
  {
    std::array<uint8_t, kMessageIdLength> id{};
    Bytes commitment(kCommitmentLength);
    const KeyHandle begun = made(
        begin_message(table, data, 4096, 0, id, std::span<uint8_t, kCommitmentLength>(commitment)));
    table.destroy(begun);
    Guess guess(commitment, 0, kCommitmentLength - 1);
    good &= report({"commitment", [&](bool late) { guess.set(late); },
                    [&] {
                      sink = static_cast<int>(
                          resume_message(table, data, MessageSuite::kCommitted, id, 4096,
                                         std::span<const uint8_t, kCommitmentLength>(guess.now()), 0)
                              .status());
                    }},
                   samples, seed, false);
  }
  const Bytes secret = counting(32);
  {
    Guess guess(secret, 0, 31);
    good &= report({"CRYPTO_memcmp of 32 bytes", [&](bool late) { guess.set(late); },
                    [&] { sink = CRYPTO_memcmp(secret.data(), guess.now().data(), 32); }},
                   samples, seed, false);
  }
  {
    // What must be caught: a comparison that ends at the first byte that differs, as memcmp(3) may.
    Guess guess(secret, 0, 31);
    good &= report({"planted: the first difference ends it", [&](bool late) { guess.set(late); },
                    [&] {
                      int same = 1;
                      for (size_t i = 0; i < 32 && same != 0; ++i) {
                        same = static_cast<const volatile uint8_t*>(secret.data())[i] == guess.now()[i] ? 1 : 0;
                      }
                      sink = same;
                    }},
                   samples, seed, true);
  }
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace dekd::timing

int main(int count, char** arguments) {
  const size_t samples = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1'000'000;
  const uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : static_cast<uint64_t>(std::time(nullptr));
  std::printf("{\"seed\":%llu}\n", static_cast<unsigned long long>(seed));
  return dekd::timing::run(samples, seed);
}
