#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <cstring>

#include "../core/given_nonce.h"
#include "../core/hmac.h"
#include "../core/random.h"
#include "../core/self_test.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes random_bytes(size_t length) {
  Bytes bytes(length);
  expect(fill_random(bytes) == Status::kOk);
  return bytes;
}

Bytes cmac(const Bytes& key, const Bytes& message) {
  Bytes out(16);
  size_t length = 0;
  expect(EVP_Q_mac(nullptr, "CMAC", nullptr, "AES-256-CBC", nullptr, key.data(), key.size(), message.data(),
                   message.size(), out.data(), out.size(), &length) != nullptr);
  return out;
}

Bytes openssl_hkdf(const Bytes& secret, const Bytes& salt, const Bytes& info, size_t length) {
  EVP_KDF* const kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  EVP_KDF_CTX* const context = EVP_KDF_CTX_new(kdf);
  char digest[] = "SHA256";
  uint8_t nothing = 0;
  // OpenSSL takes no null pointer for an empty salt.
  uint8_t* const salt_data = salt.empty() ? &nothing : const_cast<uint8_t*>(salt.data());
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<uint8_t*>(secret.data()), secret.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt_data, salt.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<uint8_t*>(info.data()), info.size()),
      OSSL_PARAM_construct_end()};
  Bytes out(length);
  expect(EVP_KDF_derive(context, out.data(), out.size(), parameters) == 1);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  return out;
}

const Test kSelfTest("self_test passes with this OpenSSL", [] {
  expect(self_test() == Status::kOk);
  expect(supported_openssl());
});

const Test kSubkey("xaes_subkey is SP 800-108 with OpenSSL's CMAC, for keys of both kinds of K1", [] {
  for (int i = 0; i < 64; ++i) {
    const Bytes key = random_bytes(32);
    const Bytes prefix = random_bytes(12);
    Bytes expected;
    for (const uint8_t counter : {1, 2}) {
      Bytes message = {0, counter, 'X', 0};
      message.insert(message.end(), prefix.begin(), prefix.end());
      const Bytes half = cmac(key, message);
      expected.insert(expected.end(), half.begin(), half.end());
    }
    const std::span<const uint8_t, 32> key_span(key.data(), 32);
    uint8_t k1[16];
    Bytes subkey(32);
    expect(xaes_k1(key_span, k1) == Status::kOk);
    expect(xaes_subkey(key_span, k1, std::span<const uint8_t, 12>(prefix.data(), 12),
                       std::span<uint8_t, 32>(subkey.data(), 32)) == Status::kOk);
    expect(subkey == expected);
  }
});

const Test kHmac("hmac_sha_256 equals OpenSSL's at key and data lengths around the block", [] {
  for (const size_t key_length : {0, 1, 31, 32, 63, 64, 65, 131, 200}) {
    for (const size_t data_length : {0, 1, 55, 56, 63, 64, 65, 1000}) {
      const Bytes key = random_bytes(key_length);
      const Bytes data = random_bytes(data_length);
      Bytes expected(32);
      expect(EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, key.empty() ? expected.data() : key.data(),
                       key.size(), data.data(), data.size(), expected.data(), 32, nullptr) != nullptr);
      Bytes out(32);
      const std::span<const uint8_t> whole(data);
      const size_t half = data_length / 2;
      expect(hmac_sha_256(key, {whole.first(half), whole.subspan(half)}, std::span<uint8_t, 32>(out.data(), 32)) ==
             Status::kOk);
      expect(out == expected);
    }
  }
});

const Test kHkdf("hkdf_sha_256 equals OpenSSL's, one block and many, with and without salt", [] {
  for (const size_t length : {1, 31, 32, 33, 64, 82, 8160}) {
    for (const size_t salt_length : {0, 13, 80}) {
      const Bytes secret = random_bytes(22);
      const Bytes salt = random_bytes(salt_length);
      const Bytes info = random_bytes(10);
      Bytes out(length);
      expect(hkdf_sha_256(secret, salt, info, out) == Status::kOk);
      expect(out == openssl_hkdf(secret, salt, info, length));
    }
  }
  Bytes long_out(8161);
  expect(hkdf_sha_256(long_out, {}, {}, long_out) == Status::kInvalidArgument);
});

const Test kGiven("gcm_open and xaes_open refuse a changed tag and buffers of another size", [] {
  const Bytes key = random_bytes(32);
  const Bytes nonce = random_bytes(24);
  const std::span<const uint8_t, 32> key_span(key.data(), 32);
  const std::span<const uint8_t, 24> nonce_span(nonce.data(), 24);
  const Bytes plaintext = counting(50);
  Bytes sealed(66);
  Bytes opened(50);
  expect(xaes_seal(key_span, nonce_span, {}, plaintext, sealed) == Status::kOk);
  expect(xaes_open(key_span, nonce_span, {}, sealed, opened) == Status::kOk && opened == plaintext);
  sealed[65] ^= 0x80;
  expect(xaes_open(key_span, nonce_span, {}, sealed, opened) == Status::kAuthenticationFailed && all_zero(opened));
  expect(xaes_seal(key_span, nonce_span, {}, plaintext, opened) == Status::kInvalidArgument);
  expect(gcm_open(key_span, nonce_span.first<12>(), {}, std::span(sealed).first(15), opened) ==
         Status::kInvalidArgument);
});

}  // namespace
}  // namespace dekd::test
