// Tokens, alone and as rows of a table whose every word is the fuzzer's: open, seal, MACs.

#include "../core/token.h"

#include <algorithm>
#include <cstring>

#include "../core/key_wrap.h"
#include "../core/mac_rows.h"
#include "fuzz.h"

using namespace dekd;
using namespace dekd::fuzz;

namespace {

struct Keys final {
  KeyHandle seal = made(generate_key(table(), {Algorithm::kXaes256Gcm, Purpose::kSeal}, 0));
  KeyHandle mac = made(generate_key(table(), {Algorithm::kHmacSha256, Purpose::kMac}, 0));
};

void open_one(const Keys& keys, Input& in) {
  const uint8_t choice = in.byte();
  const Bytes context = in.bytes(in.byte());
  Bytes token = in.rest();
  if ((choice & 1) != 0 && token.size() >= kTokenHeadLength) {
    // The head that the key has, so that what follows it is looked at as well.
    KeyTable::Lease lease;
    must(table().lease(keys.seal, lease), "the key is there");
    token[0] = 0xc1;
    token[1] = 1;
    std::memcpy(token.data() + 2, lease.kid().data(), kKidLength);
  }
  Bytes out(token.size() < kTokenOverhead ? 0 : token.size() - kTokenOverhead, 0x55);
  const Status status = (choice & 2) != 0 ? open_shared_token(table(), keys.seal, context, token, out)
                                          : open_token(table(), keys.seal, context, token, out);
  must(status != Status::kOk, "no made-up token opens");
  must((choice & 2) != 0 || all_zero(out), "what did not open is zeros");
}

// Seals, changes as the input says, and opens.
void change_one(const Keys& keys, Input& in) {
  const Bytes context = in.bytes(in.byte());
  const Bytes plaintext = in.bytes(in.byte());
  Bytes token(plaintext.size() + kTokenOverhead);
  must(seal_token(table(), keys.seal, context, plaintext, token) == Status::kOk, "what is right is sealed");
  const Bytes before = token;
  while (in.left() >= 2) {
    const size_t at = in.byte() % token.size();
    token[at] ^= in.byte();
  }
  Bytes out(plaintext.size(), 0x55);
  const Status status = open_token(table(), keys.seal, context, token, out);
  must((status == Status::kOk) == same(token, before), "only what was sealed opens");
  must(status == Status::kOk ? same(out, plaintext) : all_zero(out), "it opens to what was sealed, or to zeros");
}

void rows(const Keys& keys, Input& in) {
  const uint8_t choice = in.byte();
  std::vector<uint32_t> words(static_cast<size_t>(in.byte() % 9) * kRowWords + (choice >= 0xf0 ? 1 : 0));
  for (uint32_t& word : words) {
    // Mostly small numbers, which are inside; else any.
    const uint8_t kind = in.byte();
    word = kind < 0xe0 ? kind : in.word();
  }
  for (size_t at = 0; at + kRowWords <= words.size(); at += kRowWords) {
    if (words[at + kRowKey] < 0xc0) {
      words[at + kRowKey] = words[at + kRowKey] < 0x60 ? keys.seal : keys.mac;
    }
  }
  const Bytes scopes = in.bytes(in.byte() % 64);
  Bytes output(in.byte() * 4U, 0x55);
  const Bytes input = in.rest();
  switch (choice % 4) {
    case 0:
      (void)seal_many(table(), words, input, output);
      break;
    case 1:
      (void)open_many(table(), words, input, output);
      break;
    case 2:
      (void)mac_many(table(), words, scopes, input, output);
      break;
    default:
      (void)verify_mac_many(table(), words, scopes, input);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Keys kKeys;
  Input in(data, size);
  switch (in.byte() % 3) {
    case 0:
      open_one(kKeys, in);
      break;
    case 1:
      change_one(kKeys, in);
      break;
    default:
      rows(kKeys, in);
  }
  return 0;
}
