#include "aead.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include <array>

#include "secret.h"

namespace dekd {
namespace {

constexpr std::array<uint8_t, 32> kZeroKey{};
constexpr std::array<uint8_t, kGcmNonceLength> kZeroNonce{};

// ThreadContexts are made on a thread's first use and freed when it ends. Between operations they hold zero keys.
struct ThreadContexts final {
  CipherContextPtr seal;
  CipherContextPtr open;
  CipherContextPtr blocks;
};

thread_local ThreadContexts contexts;

CipherContextPtr make_gcm(Direction direction) {
  const EVP_CIPHER* const cipher = algorithms().aes_256_gcm;
  CipherContextPtr context(EVP_CIPHER_CTX_new());
  if (cipher == nullptr || context == nullptr ||
      EVP_CipherInit_ex2(context.get(), cipher, kZeroKey.data(), kZeroNonce.data(),
                         direction == Direction::kSeal ? 1 : 0, nullptr) != 1) {
    return nullptr;
  }
  return context;
}

EVP_CIPHER_CTX* gcm_context(Direction direction) {
  CipherContextPtr& context = direction == Direction::kSeal ? contexts.seal : contexts.open;
  if (context == nullptr) {
    const ErrorMark mark;
    context = make_gcm(direction);
  }
  return context.get();
}

// Keys without naming the cipher: naming it again makes OpenSSL rebuild the context, at twice the price.
int key_and_nonce(EVP_CIPHER_CTX* context, Direction direction, const uint8_t* key, const uint8_t* nonce) {
  return direction == Direction::kSeal ? EVP_EncryptInit_ex2(context, nullptr, key, nonce, nullptr)
                                       : EVP_DecryptInit_ex2(context, nullptr, key, nonce, nullptr);
}

}  // namespace

Gcm::Gcm(Direction direction) : context_(gcm_context(direction)), direction_(direction) {}

Gcm::~Gcm() {
  if (context_ == nullptr) {
    return;
  }
  if (key_and_nonce(context_, direction_, kZeroKey.data(), kZeroNonce.data()) != 1) {
    (direction_ == Direction::kSeal ? contexts.seal : contexts.open).reset();
  }
}

Status Gcm::start(std::span<const uint8_t, 32> key, std::span<const uint8_t, kGcmNonceLength> nonce) {
  if (context_ == nullptr || key_and_nonce(context_, direction_, key.data(), nonce.data()) != 1) {
    return Status::kCryptoFailed;
  }
  return Status::kOk;
}

Status Gcm::next_nonce(std::span<const uint8_t, kGcmNonceLength> nonce) {
  if (context_ == nullptr || key_and_nonce(context_, direction_, nullptr, nonce.data()) != 1) {
    return Status::kCryptoFailed;
  }
  return Status::kOk;
}

Status Gcm::seal(std::span<const uint8_t> aad, std::span<const uint8_t> plaintext, uint8_t* out,
                 std::span<uint8_t, kTagLength> tag) {
  if (aad.size() > kMaxMessageLength || plaintext.size() > kMaxMessageLength) {
    return Status::kInvalidArgument;
  }
  int written = 0;
  int rest = 0;
  OSSL_PARAM get_tag[2] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag.data(), tag.size()),
                           OSSL_PARAM_construct_end()};
  const bool done =
      (aad.empty() ||
       EVP_EncryptUpdate(context_, nullptr, &rest, aad.data(), static_cast<int>(aad.size())) == 1) &&
      (plaintext.empty() ||
       EVP_EncryptUpdate(context_, out, &written, plaintext.data(), static_cast<int>(plaintext.size())) == 1) &&
      EVP_EncryptFinal_ex(context_, out + written, &rest) == 1 && EVP_CIPHER_CTX_get_params(context_, get_tag) == 1;
  if (!done) {
    // Ciphertext without a tag is of no use to anyone, but it must not look like a token.
    wipe({out, plaintext.size()});
    return Status::kCryptoFailed;
  }
  return Status::kOk;
}

Status Gcm::open(std::span<const uint8_t> aad, std::span<const uint8_t> ciphertext,
                 std::span<const uint8_t, kTagLength> tag, uint8_t* out) {
  if (aad.size() > kMaxMessageLength || ciphertext.size() > kMaxMessageLength) {
    return Status::kInvalidArgument;
  }
  int written = 0;
  int rest = 0;
  // The parameter is only read; the interface of OpenSSL has no const here.
  OSSL_PARAM set_tag[2] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG,
                                                             const_cast<uint8_t*>(tag.data()), tag.size()),
                           OSSL_PARAM_construct_end()};
  const bool verified =
      EVP_CIPHER_CTX_set_params(context_, set_tag) == 1 &&
      (aad.empty() ||
       EVP_DecryptUpdate(context_, nullptr, &rest, aad.data(), static_cast<int>(aad.size())) == 1) &&
      (ciphertext.empty() ||
       EVP_DecryptUpdate(context_, out, &written, ciphertext.data(), static_cast<int>(ciphertext.size())) == 1) &&
      EVP_DecryptFinal_ex(context_, out + written, &rest) == 1;
  if (!verified) {
    wipe({out, ciphertext.size()});
    return Status::kAuthenticationFailed;
  }
  return Status::kOk;
}

Status Gcm::begin(std::span<const uint8_t> aad) {
  if (aad.size() > kMaxMessageLength) {
    return Status::kInvalidArgument;
  }
  int none = 0;
  const auto update = direction_ == Direction::kSeal ? EVP_EncryptUpdate : EVP_DecryptUpdate;
  return aad.empty() || update(context_, nullptr, &none, aad.data(), static_cast<int>(aad.size())) == 1
             ? Status::kOk
             : Status::kCryptoFailed;
}

Status Gcm::seal_part(std::span<const uint8_t> plaintext, uint8_t* out) {
  int written = 0;
  const bool done = plaintext.size() <= kMaxMessageLength &&
                    EVP_EncryptUpdate(context_, out, &written, plaintext.data(), static_cast<int>(plaintext.size())) == 1;
  return done ? Status::kOk : Status::kCryptoFailed;
}

Status Gcm::seal_end(std::span<uint8_t, kTagLength> tag) {
  int rest = 0;
  OSSL_PARAM get_tag[2] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag.data(), tag.size()),
                           OSSL_PARAM_construct_end()};
  const bool done =
      EVP_EncryptFinal_ex(context_, tag.data(), &rest) == 1 && EVP_CIPHER_CTX_get_params(context_, get_tag) == 1;
  return done ? Status::kOk : Status::kCryptoFailed;
}

Status Gcm::open_part(std::span<const uint8_t> ciphertext, uint8_t* out) {
  int written = 0;
  const bool done =
      ciphertext.size() <= kMaxMessageLength &&
      EVP_DecryptUpdate(context_, out, &written, ciphertext.data(), static_cast<int>(ciphertext.size())) == 1;
  return done ? Status::kOk : Status::kCryptoFailed;
}

Status Gcm::open_end(std::span<const uint8_t, kTagLength> tag) {
  int rest = 0;
  uint8_t nothing[kTagLength];
  OSSL_PARAM set_tag[2] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG,
                                                             const_cast<uint8_t*>(tag.data()), tag.size()),
                           OSSL_PARAM_construct_end()};
  const bool verified =
      EVP_CIPHER_CTX_set_params(context_, set_tag) == 1 && EVP_DecryptFinal_ex(context_, nothing, &rest) == 1;
  return verified ? Status::kOk : Status::kAuthenticationFailed;
}

Status encrypt_two_blocks(std::span<const uint8_t, 32> key, std::span<const uint8_t, 32> in,
                          std::span<uint8_t, 32> out) {
  if (contexts.blocks == nullptr) {
    const ErrorMark mark;
    CipherContextPtr context(EVP_CIPHER_CTX_new());
    const EVP_CIPHER* const cipher = algorithms().aes_256_ecb;
    if (cipher == nullptr || context == nullptr ||
        EVP_EncryptInit_ex2(context.get(), cipher, kZeroKey.data(), nullptr, nullptr) != 1 ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1) {
      return Status::kCryptoFailed;
    }
    contexts.blocks = std::move(context);
  }
  EVP_CIPHER_CTX* const context = contexts.blocks.get();
  int written = 0;
  const bool done = EVP_EncryptInit_ex2(context, nullptr, key.data(), nullptr, nullptr) == 1 &&
                    EVP_EncryptUpdate(context, out.data(), &written, in.data(), static_cast<int>(in.size())) == 1 &&
                    written == static_cast<int>(out.size());
  if (EVP_EncryptInit_ex2(context, nullptr, kZeroKey.data(), nullptr, nullptr) != 1) {
    contexts.blocks.reset();
  }
  return done ? Status::kOk : Status::kCryptoFailed;
}

}  // namespace dekd
